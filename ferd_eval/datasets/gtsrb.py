"""GTSRB: German traffic signs, folders of ppm files and their csv (Stallkamp et al., 2012)."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np

from ferd_eval.datasets.image_folder import decode_images, image_files, is_file_name
from ferd_eval.datasets.info import Layout, PublicDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.io.bounded import read_whole

_SIDE = 32
_ANSWERS = "GT-final_test.csv"
_MAX_LIST_BYTES = 1 << 24
_CLASS_FOLDER = "[0-9]" * 5


def read_gtsrb(info: PublicDataset, folder: Path, layout: Layout, split: Split) -> LabelledImages:
    """Read signs of 15 to 250 pixels a side, resized to 32 × 32 (bilinear).

    UserError: an image or the list of answers is missing, damaged or of another set.
    """
    pattern, *_ = layout.files(split)
    records = (
        _answered(folder, folder / pattern)
        if split == "test"
        else [
            (path, int(place.name))
            for place in sorted(folder.glob(pattern))
            for path in image_files(place)
        ]
    )
    if not records:
        raise UserError(f"{folder} has no {split} images of gtsrb; unpack {info.url} again.")
    wrong = [(path, label) for path, label in records if label >= len(info.class_names)]
    if wrong:
        raise UserError(
            f"{wrong[0][0]} is of class {wrong[0][1]}, but gtsrb has 0 to 42: its list or folder "
            "is damaged or of another data set."
        )
    return info.images(
        decode_images([path for path, _ in records], size=(_SIDE, _SIDE), resize=True, advice=""),
        np.array([label for _, label in records], dtype=np.int64),
        folder,
        note=f"resized to {_SIDE} × {_SIDE} pixels (bilinear)",
    )


def _answered(folder: Path, images: Path) -> list[tuple[Path, int]]:
    """Test images in the order of the list: ``Filename;…;ClassId``."""
    places = (folder / _ANSWERS, images / _ANSWERS, folder.parent / _ANSWERS)
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UserError(
            f"{folder} lacks {_ANSWERS}, the classes of the test images; unpack "
            "GTSRB_Final_Test_GT.zip beside them."
        )
    content = read_whole(file, _MAX_LIST_BYTES, "list of answers")
    lines = content.decode("utf-8", errors="replace").splitlines()
    records = []
    try:
        for row in csv.DictReader(lines, delimiter=";"):
            name, label = row["Filename"], row["ClassId"]
            if not (name and is_file_name(name) and label and label.isascii() and label.isdecimal()
                    and len(label) < 4):  # fmt: skip
                raise UserError(
                    f"{file} has {name!r} of class {label!r}, but expected are a file name and a "
                    "number; unpack GTSRB_Final_Test_GT.zip again."
                )
            records.append((images / name, int(label)))
    except (KeyError, csv.Error) as reason:
        raise UserError(
            f"{file} has no columns Filename;…;ClassId ({reason}); unpack "
            "GTSRB_Final_Test_GT.zip again."
        ) from reason
    return records


_SPEEDS = (20, 30, 50, 60, 70, 80)
GTSRB = PublicDataset(
    name="gtsrb",
    title="GTSRB traffic signs, resized to 32 × 32",
    num_classes=43,
    image_shape=(3, _SIDE, _SIDE),
    default_eps=Fraction(8, 255),
    licence="free; cite Stallkamp et al. (2012)",
    url="https://benchmark.ini.rub.de/gtsrb_dataset.html",
    cite=("stallkamp2012man",),
    layout="GTSRB/Final_Test/Images/*.ppm and GT-final_test.csv (train: GTSRB/Training/<class>/)",
    downloader="GTSRB",
    download_by_split=True,
    class_names=(
        *(f"speed limit {speed}" for speed in _SPEEDS), "end of speed limit 80",
        "speed limit 100", "speed limit 120", "no passing", "no passing for trucks",
        "priority at next intersection", "priority road", "yield", "stop", "no vehicles",
        "no trucks", "no entry", "general caution", "dangerous curve left",
        "dangerous curve right", "double curve", "bumpy road", "slippery road",
        "road narrows right", "road work", "traffic signals", "pedestrians", "children crossing",
        "bicycles crossing", "ice or snow", "wild animals crossing", "end of all limits",
        "turn right ahead", "turn left ahead", "ahead only", "straight or right",
        "straight or left", "keep right", "keep left", "roundabout", "end of no passing",
        "end of no passing for trucks",
    ),
    layouts=(
        Layout(
            ("GTSRB", "."),
            ("Final_Test/Images/",),
            (f"Training/{_CLASS_FOLDER}/",),
        ),
        Layout(
            ("GTSRB", "."),
            ("Final_Test/Images/",),
            (f"Final_Training/Images/{_CLASS_FOLDER}/",),
        ),
    ),
    archives=("GTSRB_Final_Test_Images.zip", "GTSRB-Training_fixed.zip"),
    read=read_gtsrb,
)  # fmt: skip
