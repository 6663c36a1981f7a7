"""A folder with one subfolder of images a class, as torchvision's ImageFolder reads it."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.datasets.info import OwnDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.datasets.pixel_buffer import room_for
from ferd_eval.errors import UserError
from ferd_eval.io.bounded import unreadable

_TRAIN, _TESTS = "train", ("test", "val", "valid", "validation")


def read_image_folder(path: Path, split: Split, order: ClassOrder) -> LabelledImages:
    """Read ``path/<class>/**`` as RGB: images in ImageFolder's order, labels in the order chosen.

    A class folder without files is a class without images. Where ``path`` has folders ``train`` and
    ``test`` (or ``val``), the split's one is read. UserError: no such folder, no class folders,
    none with images, files of which none is an image, images of more than one size, or a class list
    that does not name the folders.
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


SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".bmp", ".tif", ".tiff", ".webp")
# Named, so that no file can pick one of Pillow's decoders that start other programs.
_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "TIFF", "WEBP")
_BILINEAR = Image.Resampling.BILINEAR
_MAX_PIXELS = 1 << 24
_MAX_BYTES = 1 << 28
# What file managers, archivers and Python leave behind.
_LEFTOVERS = {"thumbs.db", "desktop.ini", "__macosx", "@eadir", "__pycache__", "lost+found"}


def is_shown(name: str) -> bool:
    """Whether a file or folder is the user's: not hidden, and not left behind by some program."""
    return not name.startswith(".") and name.lower() not in _LEFTOVERS


def is_file_name(name: str) -> bool:
    """Whether it names something in the folder itself, and can."""
    return Path(name).name == name and name.isprintable() and len(name) < 256


def shown_files(folder: Path) -> list[Path]:
    """The user's files at any depth in ``folder``, in ImageFolder's order."""
    found: list[tuple[str, str]] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = filter(is_shown, folders)
        found += [(parent, name) for name in names if is_shown(name)]
    return [Path(parent) / name for parent, name in sorted(found)]


def image_files(folder: Path) -> list[Path]:
    """Those of them that are images, by their names."""
    return [file for file in shown_files(folder) if file.suffix.lower() in SUFFIXES]


@dataclass(frozen=True)
class Encoded:
    """An image file's content inside another file."""

    where: str  #: for messages
    content: bytes | memoryview

    def __str__(self) -> str:
        return self.where


Picture = Path | Encoded


def decode_images(
    paths: Sequence[Picture],
    *,
    size: tuple[int, int] | None = None,
    advice: str,
    resize: bool = False,
    grey: bool = False,
) -> NDArray[np.uint8]:
    """Decode images as RGB, shape (N, 3, H, W); greyscale ones get three equal channels, or with
    `grey` all have one.

    All must have `size` (width, height), or that of the first image; with `resize` they are brought
    to it (bilinear, as torchvision resizes images of Pillow). One thread: two or four are no
    faster on 64 × 64 and 224 × 224 JPEGs (0.15 and 0.4 ms each).

    UserError: an image is damaged, larger than 16 million pixels, has more than 8 bits a channel,
    or has another size, where the message ends in `advice`.
    """
    if size is None:
        with opened(paths[0]) as image:
            size = image.size
        model = f"{paths[0]} has {size[0]} x {size[1]}"
    else:
        model = f"expected are {size[0]} x {size[1]}"
    width, height = size
    shape = (len(paths), 1 if grey else 3, height, width)
    images_NCHW = room_for(shape, f"{len(paths)} images of {width} x {height} pixels")
    for pixels_CHW, path in zip(images_NCHW, paths, strict=True):
        with opened(path) as image:
            if image.size != size and not resize:
                raise UserError(
                    f"{path} has {image.width} x {image.height} pixels, but {model}: {advice}"
                )
            pixels = _pixels(image, path, size, "L" if grey else "RGB")
            pixels_CHW[:] = pixels if grey else pixels.transpose(2, 0, 1)
    return images_NCHW


@contextmanager
def opened(path: Picture, *, floats: bool = False) -> Iterator[Image.Image]:
    """Open an image whose header is known to be harmless; nothing is decoded yet.

    UserError: it is damaged or too large, or has more than 8 bits a channel; with `floats` it may
    hold floating-point numbers.
    """
    try:
        image = Image.open(_content(path), formats=_FORMATS)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"cannot read {path}: cannot identify image file.") from error
    except Exception as error:  # a decoder raises whatever its parser tripped over
        raise unreadable(path, error) from error
    with image:
        if image.width * image.height > _MAX_PIXELS:
            raise UserError(
                f"{path} has {image.width} x {image.height} pixels, more than the {_MAX_PIXELS} "
                "allowed; resize it."
            )
        if image.mode.startswith(("I", "F")) and not (floats and image.mode == "F"):
            raise UserError(
                f"{path} has more than 8 bits a channel (mode {image.mode}); convert it to 8 bits, "
                "or put the images into an npz file as float32 in [0, 1]."
            )
        yield image


def _content(path: Picture) -> io.BytesIO:
    """The file in memory, where no length in it can ask for more than there is."""
    if isinstance(path, Encoded):
        return io.BytesIO(path.content)
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path} is no file; remove it.")
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise UserError(
            f"{path} has {size} bytes, more than the {_MAX_BYTES} allowed; save it as PNG."
        )
    with path.open("rb") as stream:
        return io.BytesIO(stream.read(size))


def _pixels(
    image: Image.Image, path: Picture, size: tuple[int, int], mode: str
) -> NDArray[np.uint8]:
    try:
        made = image.convert(mode)
        return np.asarray(made if made.size == size else made.resize(size, _BILINEAR))
    except Exception as error:  # a decoder raises whatever its parser tripped over
        raise unreadable(path, error) from error


IMAGE_FOLDER = OwnDataset(
    name="folder",
    title="your images, one folder a class",
    layout="folder:PATH with PATH/<class>/*.png (or .jpg ...), or PATH/{train,test}/<class>/*.png",
    read=read_image_folder,
)
