"""A folder with one subfolder of images a class, as torchvision's ImageFolder reads it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.datasets.dataset_info import DatasetInfo, Split
from ferd_eval.datasets.image_file import (
    SUFFIXES,
    decode_images,
    image_files,
    is_shown,
    shown_files,
)
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.errors import UserError

IMAGE_FOLDER = DatasetInfo(
    name="folder",
    title="your images, one folder a class",
    num_classes=None,
    image_shape=None,
    default_eps=Fraction(8, 255),
    licence="yours",
    url="",
    layout="folder:PATH with PATH/<class>/*.png (or .jpg ...), or PATH/{train,test}/<class>/*.png",
)

_TRAIN, _TESTS = "train", ("test", "val", "valid", "validation")


def load_image_folder(path: Path, split: Split, order: ClassOrder) -> LabelledImages:
    """Read ``path/<class>/**`` as RGB: images in ImageFolder's order, labels in the order chosen.

    A class folder without files is a class without images. Where ``path`` has folders ``train`` and
    ``test`` (or ``val``), the split's one is read.

    Raises:
        UserError: no such folder, no class folders, none with images, files of which none is an
            image, images of more than one size, or a class list that does not name the folders.
    """
    if not path.is_dir():
        state = "is a file" if path.exists() else "does not exist"
        raise UserError(f"folder {path} {state}; give --dataset folder:PATH a folder of classes.")
    root = _split_folder(path, split)
    folders = _folders(root)
    if not folders:
        raise UserError(
            f"folder {root} has no subfolders; put the images of each class into a folder of "
            "its own."
        )
    classes = order.of_folders(folders, root)
    label_of = {name: label for label, name in enumerate(classes.names)}
    files_of = {name: _images(root / name) for name in folders}
    files = [file for of_class in files_of.values() for file in of_class]
    if not files:
        raise UserError(
            f"folder {root} has {len(folders)} class folders but no images in them "
            f"({' '.join(SUFFIXES)}); give --dataset folder:PATH the folder of the classes."
        )
    return LabelledImages(
        name=f"folder:{path.resolve().name}",
        images_NCHW=decode_images(files, advice="resize them all to the size your model takes."),
        labels_N=np.array(
            [label_of[name] for name, of_class in files_of.items() for _ in of_class],
            dtype=np.int64,
        ),
        class_names=classes.names,
        indices_N=np.arange(len(files), dtype=np.int64),
        source=str(root),
        class_order=classes.how,
        cautions=classes.cautions,
    )


def _folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.is_dir() and is_shown(path.name))


def _images(folder: Path) -> list[Path]:
    """The images of a class; none where the folder is empty."""
    files = image_files(folder)
    if not files and (others := shown_files(folder)):
        raise UserError(
            f"class folder {folder} holds {others[0].name} but no image ({' '.join(SUFFIXES)}); "
            "convert its files, or empty the folder if the class has no images."
        )
    return files


def _split_folder(path: Path, split: Split) -> Path:
    """The folder of the split, where ``path`` is one of splits rather than of classes."""
    here = [name for name in (_TRAIN, *_TESTS) if (path / name).is_dir()]
    if not ({*_folders(path)} == {*here} or (_TRAIN in here and len(here) > 1)):
        return path
    wanted = (_TRAIN,) if split == "train" else _TESTS
    found = [name for name in here if name in wanted]
    if here and not found:
        raise UserError(
            f"folder {path} has {' and '.join(here)}, but no {' or '.join(wanted)}: put the "
            f"{split} images beside it, or give --dataset folder:{path / here[0]}."
        )
    return path / found[0] if found else path
