"""Lines over epochs as one self-contained SVG: small multiples, named at their right ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape, quoteattr

_INK, _SOFT, _RULE, _PALE = "#1c1e21", "#5b6067", "#dcd9d2", "#c4c1ba"

#: Colour and dashes of named lines. Five colours of Okabe and Ito, at least 3:1 on white and told
#: apart under each colour blindness; after them the same, dashed.
STYLES = tuple(
    (colour, dashes)
    for dashes in ("none", "7 3")
    for colour in ("#0072b2", "#d55e00", "#009e73", "#cc79a7", _INK)
)

# In pixels; a character of the widest usual font is a little less than _CHARACTER wide.
_TEXT, _SMALL, _CHARACTER, _LABEL_STEP = 12, 11, 7.2, 15.0
_AXIS, _LEADER, _GAP, _EDGE = 56, 22, 24, 14
_HEAD, _PANEL_HEAD, _FOOT = 56, 44, 40
_LONGEST_LABEL = 32


@dataclass(frozen=True)
class Line:
    """A quantity at each epoch from the first.

    Attributes:
        name: shown where the pointer rests on it.
        values: E of them; what is None or not finite is left out.
        label: at the right end; a line without one is thin and grey.
    """

    name: str
    values: Sequence[float | None]
    label: str = ""

    @property
    def known(self) -> list[tuple[int, float]]:
        """Epochs, from 1, with their values."""
        return [
            (epoch, value)
            for epoch, value in enumerate(self.values, start=1)
            if value is not None and math.isfinite(value)
        ]


@dataclass(frozen=True)
class Panel:
    """Lines on common axes.

    Attributes:
        title: what is shown; may be empty.
        unit: of the values, in words.
        lines: as many named ones as there are `STYLES`.
        level: height and label of a dashed line across.
        including: values that the axis must reach.
    """

    title: str
    unit: str
    lines: Sequence[Line]
    level: tuple[float, str] | None = None
    including: Sequence[float] = ()

    @property
    def labels(self) -> list[str]:
        """All that stand at the right."""
        level = [self.level[1]] if self.level else []
        return level + [shorten(line.label) for line in self.lines if line.label]


def line_chart(
    title: str,
    note: str,
    panels: Sequence[Panel],
    *,
    columns: int = 1,
    plot_size: tuple[int, int] = (560, 320),
) -> str:
    """Draw panels in rows of `columns`; their plots have `plot_size`, width × height in pixels."""
    epochs = max((len(line.values) for panel in panels for line in panel.lines), default=1)
    longest = max((len(label) for panel in panels for label in panel.labels), default=0)
    columns = min(columns, len(panels))
    cell_width = _AXIS + plot_size[0] + _LEADER + math.ceil(longest * _CHARACTER) + _GAP
    cell_height = _PANEL_HEAD + plot_size[1] + _FOOT
    width = _EDGE + columns * cell_width
    height = _HEAD + math.ceil(len(panels) / columns) * cell_height
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label={quoteattr(title)} '
        f'font-family="Helvetica, Arial, sans-serif" font-size="{_TEXT}" fill="{_INK}">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(_EDGE, 24, title, "title", size=16, bold=True),
        _text(_EDGE, 43, note, "note", colour=_SOFT),
    ]
    for place, panel in enumerate(panels):
        row, column = divmod(place, columns)
        left = _EDGE + column * cell_width + _AXIS
        top = _HEAD + row * cell_height + _PANEL_HEAD
        parts += ['<g class="panel">', *_panel(panel, epochs, left, top, *plot_size), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def figure(value: float) -> str:
    """Three significant digits, and a true minus."""
    if value and not 1e-3 <= abs(value) < 1e6:
        text = f"{value:.1e}"
    else:
        before = math.floor(math.log10(abs(value))) if value else 0
        text = f"{value:.{max(0, 2 - before)}f}"
    return text.replace("-", "\N{MINUS SIGN}")


def shorten(label: str) -> str:
    """A label that leaves room for the lines."""
    if len(label) <= _LONGEST_LABEL:
        return label
    return label[: _LONGEST_LABEL - 1] + "\N{HORIZONTAL ELLIPSIS}"


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers at even steps, `most` + 2 or fewer, that enclose what is given."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = abs(high) / 10 or 1.0
        low, high = low - pad, high + pad
    step = _round_step((high - low) / most)
    # Rounding must not add a step where an end is a multiple of it.
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places at least `gap` apart within [low, high] with the least squared distance to `wanted`.

    Less the gaps before each, the places need only not fall: an isotonic regression. Where there is
    too little room they go beyond `high`.
    """
    order = sorted(range(len(wanted)), key=wanted.__getitem__)
    groups: list[tuple[float, int]] = []  # mean and size of runs that share a place
    for rank, index in enumerate(order):
        mean, size = wanted[index] - rank * gap, 1
        while groups and groups[-1][0] >= mean:
            before, count = groups.pop()
            mean = (mean * size + before * count) / (size + count)
            size += count
        groups.append((mean, size))
    level = [mean for mean, size in groups for _ in range(size)]
    room = max(low, high - (len(wanted) - 1) * gap)
    places = [0.0] * len(wanted)
    for rank, index in enumerate(order):
        places[index] = min(max(level[rank], low), room) + rank * gap
    return places


def _panel(
    panel: Panel, epochs: int, left: int, top: int, width: int, height: int
) -> Iterator[str]:
    """The elements of a panel whose plot has its upper left corner at (left, top)."""
    right, bottom = left + width, top + height
    values = [value for line in panel.lines for _, value in line.known]
    values += [*panel.including, *([panel.level[0]] if panel.level else [])]
    marks = ticks(min(values), max(values), max(2, height // 50))

    def x(epoch: float) -> float:
        return left + width * (epoch - 1) / (epochs - 1) if epochs > 1 else right

    def y(value: float) -> float:
        return bottom - height * (value - marks[0]) / (marks[-1] - marks[0])

    if panel.title:
        yield _text(left - _AXIS, top - 27, panel.title, "panel-title", size=13, bold=True)
    yield _text(left - _AXIS, top - 12, panel.unit, "unit", size=_SMALL, colour=_SOFT)
    for mark, text in zip(marks, _tick_texts(marks), strict=True):
        yield _rule(left, y(mark), right, y(mark), _RULE)
        yield _text(left - 8, y(mark) + 4, text, "y-tick", anchor="end", size=_SMALL)
    yield _rule(left, bottom, right, bottom, _SOFT)
    for epoch in _epoch_ticks(epochs, max(2, width // 70)):
        yield _rule(x(epoch), bottom, x(epoch), bottom + 4, _SOFT)
        yield _text(x(epoch), bottom + 17, str(epoch), "x-tick", anchor="middle", size=_SMALL)
    yield _text((left + right) / 2, bottom + 32, "epoch", "x-title", anchor="middle", size=_SMALL)

    for line in panel.lines:
        if not line.label:
            yield _path(line, x, y, _PALE, "none", 0.7)
    ends: list[tuple[float, str, str]] = []  # height, label and colour
    if panel.level:
        height_of_level = y(panel.level[0])
        yield _rule(left, height_of_level, right, height_of_level, _SOFT, "level", "2 4")
        ends.append((height_of_level, panel.level[1], _SOFT))
    named = [line for line in panel.lines if line.label and line.known]
    assert len(named) <= len(STYLES), f"{len(named)} lines are named"
    for line, (colour, dashes) in zip(named, STYLES, strict=False):
        epoch, value = line.known[-1]
        yield _path(line, x, y, colour, dashes, 2)
        yield f'<circle cx="{x(epoch):.2f}" cy="{y(value):.2f}" r="3" fill="{colour}"/>'
        ends.append((y(value), shorten(line.label), colour))
    places = spread([end for end, _, _ in ends], _LABEL_STEP, top, bottom)
    for place, (end, label, colour) in zip(places, ends, strict=True):
        yield _rule(right + 5, end, right + _LEADER - 4, place, colour, "leader")
        yield _text(right + _LEADER, place + 4, label, "label")


def _path(
    line: Line,
    x: Callable[[float], float],
    y: Callable[[float], float],
    colour: str,
    dashes: str,
    width: float,
) -> str:
    """A line, broken where nothing is known; a lone point shows by its round ends."""
    steps, last = [], None
    for epoch, value in line.known:
        follows = last is not None and epoch == last + 1
        point = f"{x(epoch):.2f},{y(value):.2f}"
        steps.append(f"L{point}" if follows else f"M{point}L{point}")
        last = epoch
    return (
        f'<path d="{"".join(steps)}" fill="none" stroke="{colour}" stroke-width="{width}" '
        f'stroke-dasharray="{dashes}" stroke-linecap="round" stroke-linejoin="round">'
        f"<title>{escape(line.name)}</title></path>"
    )


def _rule(
    x1: float,
    y1: float,
    x2: float,
    y2: float,
    colour: str,
    kind: str = "rule",
    dashes: str = "none",
) -> str:
    return (
        f'<line class="{kind}" x1="{x1:.2f}" y1="{y1:.2f}" x2="{x2:.2f}" y2="{y2:.2f}" '
        f'stroke="{colour}" stroke-dasharray="{dashes}"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    kind: str,
    *,
    anchor: str = "start",
    size: int = _TEXT,
    colour: str = _INK,
    bold: bool = False,
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text class="{kind}" x="{x:.2f}" y="{y:.2f}" text-anchor="{anchor}" font-size="{size}" '
        f'fill="{colour}"{weight}>{escape(text)}</text>'
    )


def _round_step(least: float) -> float:
    """The smallest of 1, 2 and 5 times a power of ten that is at least this."""
    power = math.floor(math.log10(least))
    # Dividing by a power of ten keeps 0.3 from becoming 0.30000000000000004.
    scale = 10.0 ** abs(power)
    rounds = (round_ * scale if power >= 0 else round_ / scale for round_ in (1, 2, 5))
    return next((step for step in rounds if step >= least * (1 - 1e-9)), 10.0 ** (power + 1))


def _tick_texts(marks: Sequence[float]) -> list[str]:
    """All with the decimals that their step needs."""
    step = marks[1] - marks[0]
    if not (step > 1e-5 and max(map(abs, marks)) < 1e6):
        texts = [f"{mark:.6g}" for mark in marks]
    else:
        decimals = max(0, -math.floor(math.log10(step * (1 + 1e-9))))
        texts = [f"{mark:.{decimals}f}" for mark in marks]
    return [text.replace("-", "\N{MINUS SIGN}") for text in texts]


def _epoch_ticks(epochs: int, most: int) -> list[int]:
    """The first epoch, and round ones after it."""
    step = max(1, int(_round_step(epochs / most)))
    return [1, *range(step if step > 1 else 2, epochs + 1, step)]
