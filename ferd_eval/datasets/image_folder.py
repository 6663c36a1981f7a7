"""A folder with one subfolder of images a class, as torchvision's ImageFolder reads it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from ferd_eval.datasets.dataset_info import DatasetInfo, Split
from ferd_eval.datasets.image_file import SUFFIXES, decode_images, image_files
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


def load_image_folder(path: Path, split: Split) -> LabelledImages:
    """Read ``path/<class>/**``: classes by sorted name, images in ImageFolder's order, RGB.

    Where ``path`` has folders ``train`` and ``test`` (or ``val``), the split's one is read.

    Raises:
        UserError: no such folder, no class folders, a class without images, a file that is no
            image, or images of more than one size.
    """
    if not path.is_dir():
        state = "is a file" if path.exists() else "does not exist"
        raise UserError(f"folder {path} {state}; give --dataset folder:PATH a folder of classes.")
    root = _split_folder(path, split)
    folders = sorted(
        (p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")),
        key=lambda p: p.name,
    )
    if not folders:
        raise UserError(
            f"folder {root} has no subfolders; put the images of each class into a folder of "
            "its own."
        )
    files_of = {p.name: image_files(p) for p in folders}
    for name, files in files_of.items():
        if not files:
            raise UserError(
                f"class folder {root / name} has no images ({' '.join(SUFFIXES)}); "
                "add some or remove it."
            )
    counts = [len(files) for files in files_of.values()]
    return LabelledImages(
        name=f"folder:{path.resolve().name}",
        images_NCHW=decode_images(
            [file for files in files_of.values() for file in files],
            advice="resize them all to the size your model takes.",
        ),
        labels_N=np.repeat(np.arange(len(folders), dtype=np.int64), counts),
        class_names=tuple(files_of),
        indices_N=np.arange(sum(counts), dtype=np.int64),
        source=str(root),
    )


def _split_folder(path: Path, split: Split) -> Path:
    train = path / "train"
    tests = [path / name for name in ("test", "val") if (path / name).is_dir()]
    if not (train.is_dir() and tests):
        return path
    return train if split == "train" else tests[0]
