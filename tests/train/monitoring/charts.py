"""A line chart read back from its SVG, in the units of its own axes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from xml.etree.ElementTree import Element, fromstring

import numpy as np

_SVG = "{http://www.w3.org/2000/svg}"


def number(text: str) -> float:
    return float(text.replace("\N{MINUS SIGN}", "-"))


@dataclass
class DrawnLine:
    """What a path shows: its points by epoch and value, and how many each unbroken run has."""

    points: list[tuple[float, float]]
    runs: list[int]
    colour: str
    width: float
    dashes: str


class DrawnPanel:
    """Axes are found from two ticks each, and all else by them."""

    def __init__(self, group: Element) -> None:
        self._group = group

    def _texts(self, kind: str) -> list[Element]:
        return [each for each in self._group.iter(f"{_SVG}text") if each.get("class") == kind]

    def text(self, kind: str) -> str:
        return self._texts(kind)[0].text or ""

    @property
    def x_ticks(self) -> list[float]:
        return [number(each.text) for each in self._texts("x-tick")]

    @property
    def y_ticks(self) -> list[float]:
        return [number(each.text) for each in self._texts("y-tick")]

    def tick_places(self, kind: str) -> list[float]:
        """Where the ticks' texts stand, in pixels, along their axis."""
        return [float(each.get(kind[0])) for each in self._texts(kind)]

    @cached_property
    def frame(self) -> tuple[float, float, float, float]:
        """Left, top, right and bottom: what the grid's rules span."""
        rules = [each for each in self._group.iter(f"{_SVG}line") if each.get("class") == "rule"]
        flat = [each for each in rules if each.get("y1") == each.get("y2")]
        ys = [float(each.get("y1")) for each in flat]
        return float(flat[0].get("x1")), min(ys), float(flat[0].get("x2")), max(ys)

    def _epoch(self, x: float) -> float:
        at, epochs = self.tick_places("x-tick"), self.x_ticks
        if len(at) == 1:
            assert abs(x - at[0]) < 0.02, "off the only epoch"
            return epochs[0]
        return epochs[0] + (x - at[0]) * (epochs[-1] - epochs[0]) / (at[-1] - at[0])

    def _value(self, y: float) -> float:
        # A tick's text stands a few pixels below its rule, all by as much.
        at, values = self.tick_places("y-tick"), self.y_ticks
        low, high = np.argmin(values), np.argmax(values)
        _, _, _, bottom = self.frame
        scale = (values[high] - values[low]) / (at[high] - at[low])
        return values[low] + (y - bottom) * scale

    @property
    def lines(self) -> dict[str, DrawnLine]:
        return {each.find(f"{_SVG}title").text: self._line(each)
                for each in self._group.iter(f"{_SVG}path")}  # fmt: skip

    def _line(self, path: Element) -> DrawnLine:
        runs = [
            [tuple(map(float, point.split(","))) for point in run.split("L")[1:]]
            for run in re.split("M", path.get("d"))[1:]
        ]
        return DrawnLine(
            points=[(self._epoch(x), self._value(y)) for run in runs for x, y in run],
            runs=[len(run) for run in runs],
            colour=path.get("stroke"),
            width=float(path.get("stroke-width")),
            dashes=path.get("stroke-dasharray"),
        )

    @property
    def level(self) -> float:
        """Value at the dashed line, which must cross the whole plot."""
        rule = next(
            each for each in self._group.iter(f"{_SVG}line") if each.get("class") == "level"
        )
        assert rule.get("stroke-dasharray") != "none"
        assert rule.get("y1") == rule.get("y2")
        assert (float(rule.get("x1")), float(rule.get("x2"))) == self.frame[::2]
        return self._value(float(rule.get("y1")))

    @property
    def labels(self) -> dict[str, float]:
        """Heights by text."""
        return {each.text: float(each.get("y")) for each in self._texts("label")}


class Chart:
    """A whole picture."""

    def __init__(self, svg: str) -> None:
        root = fromstring(svg)
        self.title = root.find(f"{_SVG}title").text
        self.width, self.height = float(root.get("width")), float(root.get("height"))
        groups = [each for each in root.iter(f"{_SVG}g") if each.get("class") == "panel"]
        self.panels = [DrawnPanel(group) for group in groups]
        self.note = next(t.text for t in root.iter(f"{_SVG}text") if t.get("class") == "note")
