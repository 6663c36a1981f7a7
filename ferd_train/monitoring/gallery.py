"""Picture of a run's synthetic images: a row for each class, from first to last.

As figure 5 of FERD (arXiv 2509.20793). B images drawn, C channels, H × W pixels, N images, all in
bytes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ferd_train.synthesis.image_bank import Bank

#: At most.
ROWS, COLUMNS = 20, 10

# In pixels. Images are enlarged by the largest whole factor that keeps them within _SIDE.
_SIDE, _BETWEEN, _MARGIN, _CAPTION, _LONGEST_NAME = 64, 2, 10, 26, 160
_INK, _EMPTY, _PAPER = (28, 30, 33), (244, 242, 237), (255, 255, 255)


def gallery(bank: Bank, names: Sequence[str]) -> bytes:
    """A PNG of images from the bank's whole history; only the images drawn are read.

    Of more than `ROWS` classes that many are shown, evenly chosen. A class with fewer images than
    `COLUMNS` shows each once; one without any has an empty row. One channel is grey, three are
    colours; of other numbers the first channel is shown.
    """
    shown_R = evenly(len(names), ROWS)
    labels_N = bank.read_labels()
    own = [np.flatnonzero(labels_N == label) for label in shown_R]
    places = [each[evenly(len(each), COLUMNS)] for each in own]
    flat_B = np.concatenate(places)
    drawn_BCHW, _ = bank.read(flat_B)
    rows = np.split(drawn_BCHW, np.cumsum([len(each) for each in places])[:-1])

    _, height, width = bank.image_shape
    scale = max(1, _SIDE // max(height, width))
    step_x, step_y = width * scale + _BETWEEN, height * scale + _BETWEEN
    font = ImageFont.load_default(size=14)
    captions = [_shorten(names[label], font) for label in shown_R]
    left = 2 * _MARGIN + int(max(font.getlength(caption) for caption in captions))
    text = "Synthetic images, in each row from the first made to the last"
    if len(shown_R) < len(names):
        text += f"; {len(shown_R)} of {len(names)} classes, evenly chosen"
    right = max(left + COLUMNS * step_x, _MARGIN + int(font.getlength(text)))
    sheet = Image.new("RGB", (right + _MARGIN, _CAPTION + len(rows) * step_y + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _CAPTION // 2), text, _INK, font, anchor="lm")
    for row, (caption, row_BCHW) in enumerate(zip(captions, rows, strict=True)):
        top = _CAPTION + row * step_y
        draw.text((_MARGIN, top + height * scale // 2), caption, _INK, font, anchor="lm")
        for column in range(COLUMNS):
            x = left + column * step_x
            if column < len(row_BCHW):
                sheet.paste(_enlarge(row_BCHW[column], scale), (x, top))
            else:
                box = (x, top, x + width * scale - 1, top + height * scale - 1)
                draw.rectangle(box, fill=_EMPTY)
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def evenly(total: int, most: int) -> NDArray[np.int64]:
    """`most` of `total` places, or all if they are fewer: first, last, and even steps between."""
    return np.linspace(0, total - 1, min(total, most)).round().astype(np.int64)


def _enlarge(pixels_CHW: NDArray[np.uint8], scale: int) -> Image.Image:
    channels_CHW = pixels_CHW if len(pixels_CHW) == 3 else pixels_CHW[:1].repeat(3, axis=0)
    large_CHW = channels_CHW.repeat(scale, axis=1).repeat(scale, axis=2)
    return Image.fromarray(np.ascontiguousarray(large_CHW.transpose(1, 2, 0)))


def _shorten(name: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    while font.getlength(name) > _LONGEST_NAME:
        name = name.rstrip(".")[:-1] + "..."
    return name
