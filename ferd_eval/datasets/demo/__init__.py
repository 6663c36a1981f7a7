"""The packaged example: 100 test images of each class of Fashion-MNIST (Zalando SE, MIT)."""

from __future__ import annotations

from fractions import Fraction
from importlib import resources
from io import BytesIO

import numpy as np
from PIL import Image

from ferd_eval.datasets.info import PackagedDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.datasets.mnist import FASHION_MNIST, FASHION_MNIST_CLASSES
from ferd_eval.errors import UserError

PER_CLASS = 100
_SIDE = 28


def read_demo(split: Split) -> LabelledImages:
    """Read the packaged images; they are a test set only (UserError for the training split).

    ``indices_N`` are the images' positions in Fashion-MNIST's test file, whose order they keep.
    """
    if split != "test":
        raise UserError(
            "demo has no train split: its images are Fashion-MNIST test images; use "
            "--dataset fashion-mnist."
        )
    folder = resources.files(__name__)
    classes = len(FASHION_MNIST_CLASSES)
    # A row of the sheet is a class: similar neighbours make the smaller file.
    with Image.open(BytesIO(folder.joinpath("images.png").read_bytes())) as image:
        sheet = np.asarray(image)
    tiles = sheet.reshape(classes, _SIDE, PER_CLASS, _SIDE).swapaxes(1, 2)
    positions = np.array(folder.joinpath("positions.txt").read_text("ascii").split(), np.int64)
    order = positions.argsort()
    return LabelledImages(
        name=DEMO.name,
        images_NCHW=tiles.reshape(-1, 1, _SIDE, _SIDE)[order],
        labels_N=np.repeat(np.arange(classes, dtype=np.int64), PER_CLASS)[order],
        class_names=FASHION_MNIST_CLASSES,
        indices_N=positions[order],
        source="package",
    )


DEMO = PackagedDataset(
    name="demo",
    title="packaged example: 1000 Fashion-MNIST test images",
    num_classes=10,
    image_shape=(1, 28, 28),
    default_eps=Fraction(1, 10),
    licence="MIT, Copyright (c) 2017 Zalando SE",
    url=FASHION_MNIST.url,
    layout="inside the package",
    cite=FASHION_MNIST.cite,
    class_names=FASHION_MNIST_CLASSES,
    read=read_demo,
)
