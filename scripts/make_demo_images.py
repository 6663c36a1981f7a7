"""Make the packaged example from Fashion-MNIST's test files.

    python scripts/make_demo_images.py DATA_DIR [OUT_DIR]

DATA_DIR holds Fashion-MNIST as ``--data-dir`` would take it. The first 100 images of each class go
into ``images.png``, one class a row, and their places in the test file into ``positions.txt``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import ferd_eval.datasets.demo as demo
from ferd_eval.datasets import load_dataset


def make_demo_images(data_dir: Path, out_dir: Path) -> None:
    """Write ``images.png`` and ``positions.txt`` into ``out_dir``."""
    official = load_dataset("fashion-mnist", data_dir)
    positions = np.stack(
        [
            np.flatnonzero(official.labels_N == label)[: demo.PER_CLASS]
            for label in range(official.num_classes)
        ]
    )
    tiles = official.images_NCHW[positions, 0]
    classes, columns, height, width = tiles.shape
    sheet = tiles.swapaxes(1, 2).reshape(classes * height, columns * width)
    Image.fromarray(sheet).save(out_dir / "images.png", optimize=True)
    rows = (" ".join(map(str, row)) for row in positions)
    (out_dir / "positions.txt").write_text("\n".join(rows) + "\n", encoding="ascii")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    packaged = Path(demo.__file__).parent
    make_demo_images(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else packaged)
