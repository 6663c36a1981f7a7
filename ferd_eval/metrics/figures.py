"""The table of figures over classes: each is one entry here, and every writer iterates over it.

A figure is a function of counts by class: ``correct_K`` right of ``n_K`` images. NaN is no value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ferd_eval.metrics.dispersion import (
    debiased_nsd,
    debiased_sd,
    gap,
    gini,
    lowest_percent,
    normalised_sd,
    shares,
    standard_deviation,
)
from ferd_eval.metrics.intervals import (
    Interval,
    clopper_pearson_lower,
    gap_interval,
    lowest_percent_interval,
    wilson,
    worst_class_interval,
)

Counts = NDArray[np.int64]

#: From so many classes on, the lowest tenth speaks for the lowest class.
MANY_CLASSES = 100

#: Key on leaderboards of the figure that speaks for the lowest classes.
LOWEST = "worst"


class Unit(Enum):
    """How a figure is printed."""

    FRACTION = "per cent, one decimal"
    RATIO = "as it is, three decimals"


@dataclass(frozen=True)
class Figure:
    """A figure over all classes."""

    key: str  #: in scorecards and CSV files; its 95 % interval has the key ``{key}95``
    heading: str
    unit: Unit
    more_is_better: bool
    of: Callable[[Counts, Counts], float]  #: the figure from correct_K and n_K
    #: Its two-sided 95 % interval, likewise.
    interval: Callable[[Counts, Counts], Interval | None] | None = None
    #: What the interval holds, or the figure says: it enters the table of uncertainty.
    meaning: str = ""
    in_summary: bool = False  #: whether the table of all attacks has it
    board: tuple[str, str] | None = None  #: key and short heading on boards, pages and in studies
    in_papers: bool = False  #: whether papers print it, so that published rows give it
    compared: str = ""  #: heading in comparisons, which have its difference; they debias some
    cite: tuple[str, ...] = ()  #: in ``ferd_eval/report/references.bib``, intervals too
    limit: bool = False  #: a confidence limit: of several seeds the least counts, unranked
    #: The limit of an audit that it, or the lower end of its interval, goes down to.
    open_end: Literal["average", "lowest", "floor"] | None = None

    @property
    def interval_key(self) -> str:
        """Of its interval in scorecards."""
        return f"{self.key}95"

    def value(self, correct_K: Counts, n_K: Counts) -> float | None:
        """Return the figure; None where it has no value."""
        value = float(self.of(correct_K, n_K)) if n_K.any() else np.nan
        return value if np.isfinite(value) else None

    def interval95(self, correct_K: Counts, n_K: Counts) -> Interval | None:
        """Return its interval; None where it has none."""
        return self.interval(correct_K, n_K) if self.interval and n_K.any() else None


def _of_accuracies(figure: Callable[[NDArray[np.float64]], float]) -> Callable[..., float]:
    def of(correct_K: Counts, n_K: Counts) -> float:
        return figure(shares(correct_K, n_K))

    return of


def _average_interval(correct_K: Counts, n_K: Counts) -> Interval:
    """Wilson's; the classes' shares being fixed, it is a little wide."""
    low, high = wilson(correct_K.sum(), n_K.sum())
    return float(low), float(high)


AVERAGE = Figure(
    "average", "Average", Unit.FRACTION, True,
    lambda correct_K, n_K: float(correct_K.sum() / n_K.sum()),
    _average_interval, "holds the accuracy over all images like these",
    in_summary=True, board=("average", "Avg"), in_papers=True, compared="Average",
    cite=("wilson1927probable",), open_end="average",
)  # fmt: skip
WORST_CLASS = Figure(
    "worst_class", "Worst class", Unit.FRACTION, True, _of_accuracies(np.nanmin),
    worst_class_interval, "holds that of the class that truly is lowest, whichever it is",
    in_summary=True, board=(LOWEST, "Worst"), in_papers=True, compared="Worst class",
    cite=("xu2021robust", "yue2023revisiting", "clopper1934use"), open_end="lowest",
)  # fmt: skip
WORST_10PCT = Figure(
    "worst_10pct", "Worst 10 %", Unit.FRACTION, True, _of_accuracies(lowest_percent),
    lowest_percent_interval, "holds the mean of the tenth of the classes that truly is lowest",
    in_summary=True, board=(LOWEST, "Worst"), in_papers=True, compared="Worst 10 %",
    cite=("li2025ferd", "clopper1934use"), open_end="lowest",
)  # fmt: skip

#: Key → figure, in the order of every format.
FIGURES: dict[str, Figure] = {
    figure.key: figure
    for figure in (
        AVERAGE,
        WORST_CLASS,
        WORST_10PCT,
        Figure(
            "floor95", "95 % floor", Unit.FRACTION, True,
            lambda correct_K, n_K: float(np.nanmin(clopper_pearson_lower(correct_K, n_K))),
            meaning="every class is at least this accurate, with 95 % confidence",
            in_summary=True, board=("floor", "Floor"), limit=True, open_end="floor",
            cite=("clopper1934use",),
        ),
        Figure(
            "nsd", "NSD", Unit.RATIO, False, _of_accuracies(normalised_sd),
            meaning="SD divided by the mean; it falls whenever the mean rises",
            in_summary=True, board=("nsd", "NSD"), in_papers=True, compared="NSD (debiased)",
            cite=("yue2023revisiting", "zhao2024improving", "li2025ferd"),
        ),
        Figure(
            "nsd_debiased", "NSD, debiased", Unit.RATIO, False,
            lambda correct_K, n_K: float(debiased_nsd(correct_K, n_K)),
            meaning="the same of the debiased SD",
        ),
        Figure(
            "nsd_ddof1", "NSD (ddof 1)", Unit.RATIO, False,
            _of_accuracies(partial(normalised_sd, ddof=1)),
        ),
        Figure(
            "sd", "SD", Unit.FRACTION, False, _of_accuracies(standard_deviation),
            meaning="standard deviation over classes, in points; chance alone makes some of it",
            in_summary=True, compared="SD (debiased)",
        ),
        Figure(
            "sd_debiased", "SD, debiased", Unit.FRACTION, False,
            lambda correct_K, n_K: float(debiased_sd(correct_K, n_K)),
            meaning="the same less what chance adds on average",
        ),
        Figure(
            "gap", "Gap", Unit.FRACTION, False, _of_accuracies(gap), gap_interval,
            "holds the distance from the truly lowest to the truly highest class",
        ),
        Figure("gini", "Gini", Unit.RATIO, False, _of_accuracies(gini)),
    )
}  # fmt: skip


def lowest_figure(num_classes: int) -> Figure:
    """The figure that speaks for the lowest classes: the worst class, or of many the worst 10 %."""
    return WORST_10PCT if num_classes >= MANY_CLASSES else WORST_CLASS


def board_figures(num_classes: int = 1) -> dict[str, Figure]:
    """Key on leaderboards → figure, confidence limits last."""
    lowest = lowest_figure(num_classes)
    found = {each.board[0]: each for each in published_figures() if each.board}
    return {key: lowest if key == LOWEST else each for key, each in found.items()}


def published_figures() -> list[Figure]:
    """Those of leaderboards, whatever the number of classes, confidence limits last."""
    return sorted((each for each in FIGURES.values() if each.board), key=lambda each: each.limit)


def papers_figures() -> dict[str, Figure]:
    """Key on leaderboards → figure, of those that papers print."""
    return {key: each for key, each in board_figures().items() if each.in_papers}


def compared_figures() -> dict[str, Figure]:
    """Key → figure, of those whose difference a comparison has; ratios last."""
    return {each.key: each for each in ratios_last() if each.compared}


def ratios_last() -> list[Figure]:
    """All of them, those in per cent together."""
    return sorted(FIGURES.values(), key=lambda each: each.unit is Unit.RATIO)
