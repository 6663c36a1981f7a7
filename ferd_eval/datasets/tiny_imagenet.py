"""Tiny ImageNet (CS231n, 2015): 200 classes of 64 × 64 JPEGs."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np

from ferd_eval.datasets.image_folder import decode_images, image_files, is_file_name
from ferd_eval.datasets.info import Layout, PublicDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.io.bounded import existing, read_whole

_WNID = "n" + "[0-9]" * 8

# words.txt names all of WordNet's nouns in 2.5 MB; no list of this set is larger.
_MAX_LIST_BYTES = 1 << 24


def read_tiny_imagenet(
    info: PublicDataset, folder: Path, layout: Layout, split: Split
) -> LabelledImages:
    """Read Tiny ImageNet; the test split is its validation set, whose labels are public.

    Class k is the k-th WordNet id in sorted order, as ImageFolder numbers them and public
    checkpoints expect; ``wnids.txt`` has another order. UserError: an image is missing, damaged or
    not 64 × 64, or a list does not fit the images.
    """
    annotations = existing(folder / "val" / "val_annotations.txt")
    if split == "test" and annotations is not None:
        records = _annotated(annotations)
    else:
        records = _sorted_into_folders(folder / ("train" if split == "train" else "val"))
    if not records:
        raise UserError(f"{folder} has no {split} images; unpack {TINY_IMAGENET.url} again.")
    wnids = _wnids(folder) or sorted({wnid for _, wnid in records})
    label_of = {wnid: label for label, wnid in enumerate(wnids)}
    for path, wnid in records:
        if wnid not in label_of:
            raise UserError(
                f"{path} is of class {wnid}, which is not among the {len(wnids)} of "
                f"{folder / 'wnids.txt'}; unpack {TINY_IMAGENET.url} again."
            )
    return LabelledImages(
        name=info.name,
        images_NCHW=decode_images(
            [path for path, _ in records],
            size=(64, 64),
            advice="this is not Tiny ImageNet: use --dataset folder:PATH.",
        ),
        labels_N=np.array([label_of[wnid] for _, wnid in records], dtype=np.int64),
        class_names=_class_names(wnids, existing(folder / "words.txt")),
        indices_N=np.arange(len(records), dtype=np.int64),
        source=str(folder),
    )


def _annotated(annotations: Path) -> list[tuple[Path, str]]:
    """Images in the order of ``val_annotations.txt``: file name, WordNet id, bounding box.

    They lie in ``val/images``, or all in folders of their classes, where many scripts move them.
    """
    listed = []
    for number, line in enumerate(_lines(annotations), start=1):
        match line.split("\t"):
            case [name, wnid, *_] if re.fullmatch(_WNID, wnid) and is_file_name(name):
                listed.append((name, wnid))
            case _:
                raise UserError(
                    f"{annotations} line {number} is {line[:60]!r}, but expected is a file name, "
                    f"a tab and a WordNet id; unpack {TINY_IMAGENET.url} again."
                )
    val = annotations.parent
    as_published = [(val / "images" / name, wnid) for name, wnid in listed]
    whole = sum(path.is_file() for path, _ in as_published)
    if whole == len(listed):
        return as_published
    moved = {name: path for name, wnid in listed if (path := _moved(val, name, wnid))}
    if not moved:
        return as_published  # reading names the first that is missing
    absent = [f"{name} of {wnid}" for name, wnid in listed if name not in moved]
    if absent:
        raise UserError(
            f"{annotations} lists {len(listed)} images: {len(moved)} lie in the folders of their "
            f"classes, {len(absent)} do not (first {absent[0]}), and {whole} lie in images/. Move "
            f"the rest, or unpack {TINY_IMAGENET.url} again."
        )
    return [(moved[name], wnid) for name, wnid in listed]


def _moved(val: Path, name: str, wnid: str) -> Path | None:
    """Where a validation image lies in the folder of its class."""
    for folder in (val / wnid / "images", val / wnid, val / "images" / wnid):
        if (folder / name).is_file():
            return folder / name
    return None


def _sorted_into_folders(root: Path) -> list[tuple[Path, str]]:
    """Images in ImageFolder's order: by WordNet id, then by name."""
    images = root / "images"
    folders = sorted(root.glob(_WNID)) or sorted(images.glob(_WNID))
    records = [(path, folder.name) for folder in folders for path in image_files(folder)]
    names = {path.name for path, _ in records}
    left = [path for path in image_files(images) if path.name not in names]
    if records and left:
        raise UserError(
            f"{images} holds {len(left)} images that are in no folder of a class (first "
            f"{left[0].name}), and no list says their classes; unpack {TINY_IMAGENET.url} again."
        )
    return records


def _wnids(folder: Path) -> list[str]:
    """All classes, sorted; from ``wnids.txt``, else the training folders."""
    listed = existing(folder / "wnids.txt")
    if listed is not None:
        return sorted({line.strip() for line in _lines(listed)})
    return sorted(path.name for path in (folder / "train").glob(_WNID))


def _class_names(wnids: list[str], words: Path | None) -> tuple[str, ...]:
    """The first synonym of each class; the WordNet id is added where two classes share it."""
    synonyms: dict[str, str] = {}
    if words is not None:
        for line in _lines(words):
            wnid, _, meanings = line.partition("\t")
            synonyms[wnid] = meanings.split(",")[0].strip()
    names = [synonyms.get(wnid) or wnid for wnid in wnids]
    seen = Counter(names)
    return tuple(
        name if seen[name] == 1 else f"{name} ({wnid})"
        for name, wnid in zip(names, wnids, strict=True)
    )


def _lines(path: Path) -> list[str]:
    content = read_whole(path, _MAX_LIST_BYTES, "list of names")
    text = content.decode("utf-8", errors="replace")
    return [line for line in text.splitlines() if line.strip()]


TINY_IMAGENET = PublicDataset(
    name="tiny-imagenet",
    title="Tiny ImageNet (200 classes)",
    num_classes=200,
    image_shape=(3, 64, 64),
    default_eps=Fraction(8, 255),
    licence="ImageNet terms: research, not commercial",
    url="http://cs231n.stanford.edu/tiny-imagenet-200.zip",
    layout="tiny-imagenet-200/{val/val_annotations.txt,val/images,train/<wnid>/images,words.txt}",
    cite=("le2015tiny",),
    layouts=(
        Layout(
            ("tiny-imagenet-200", "."),
            # A common rearrangement sorts the validation images into one folder a class.
            test=("val/val_annotations.txt", f"val/**/{_WNID}/"),
            train=(f"train/{_WNID}/",),
        ),
    ),
    archives=("tiny-imagenet-200.zip",),
    read=read_tiny_imagenet,
)
