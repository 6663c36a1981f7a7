"""Charts of a scorecard with matplotlib: one entry of `KINDS` each. K classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ferd_eval.errors import UserError
from ferd_eval.metrics.confusion.targeted import TargetedSuccess
from ferd_eval.metrics.intervals import Interval
from ferd_eval.metrics.scores import AttackScores, ClassScore, Profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Colours, told apart by colour-blind readers as well (Okabe & Ito 2008).
BLUE, RED, SOFT, INK = "#0072b2", "#d55e00", "#5b6067", "#1c1e21"

#: Most classes whose cells have their numbers.
_MOST_NUMBERS = 12


@dataclass(frozen=True)
class Subject:
    """What a chart is about.

    Attributes:
        dataset: the manifest's entry.
        profile: of the attack over ε; None where it ran with one.
    """

    attack: str
    scores: AttackScores
    dataset: Mapping[str, Any]
    profile: Profile | None

    @property
    def title(self) -> str:
        """``cifar10 under pgd``."""
        under = "without an attack" if self.attack == "clean" else f"under {self.attack}"
        return f"{self.dataset.get('name') or ''} {under}".strip()


@dataclass(frozen=True)
class Chart:
    """How a kind is drawn, and the width and height of a figure of its own."""

    draw: Callable[[Axes, Subject], None]
    inches: Callable[[Subject], tuple[float, float]]


def new_axes(inches: tuple[float, float]) -> Axes:
    """Those of a new figure, which notebooks show.

    UserError: matplotlib is missing.
    """
    try:
        from matplotlib import pyplot as plt
    except ImportError as missing:
        raise UserError("charts need matplotlib: pip install 'ferd[plots]'.") from missing
    return plt.subplots(figsize=inches, layout="constrained")[1]


def error_bar(value: float, interval: Interval | None) -> list[list[float]] | None:
    """Distances to both ends, as matplotlib wants them; None without an interval."""
    if interval is None:
        return None
    return [[max(value - interval[0], 0.0)], [max(interval[1] - value, 0.0)]]


def class_axis(ax: Axes, names: list[str]) -> None:
    """One line for each class, the first on top."""
    ax.set_yticks(range(len(names)), names)
    ax.set_ylim(len(names) - 0.5, -0.5)


def _classes(ax: Axes, of: Subject) -> None:
    """One bar for each class, the lowest in red."""
    classes, worst = of.scores.per_class, of.scores.worst_class
    lowest = () if worst is None else (worst.index, *worst.tied)
    for k, each in enumerate(classes):
        if each.accuracy is None:
            ax.text(0.01, k, "no images", va="center", color=SOFT)
            continue
        ends = error_bar(each.accuracy, each.wilson95)
        colour = RED if k in lowest else BLUE
        ax.barh(k, each.accuracy, xerr=ends, color=colour, ecolor=INK, capsize=2)
    if of.scores.average is not None:
        ax.axvline(of.scores.average, color=SOFT, linestyle=":", label="average over images")
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.12))
    class_axis(ax, [each.name for each in classes])
    ax.set_xlim(0, 1)
    ax.set_xlabel("accuracy, with 95 % intervals")
    ax.set_title(of.title + (f": worst class {worst.name}" if worst else ""), loc="left")


def _clean_against_robust(ax: Axes, of: Subject) -> None:
    """Two dots for each class, without and under the attack, the lowest under it first."""
    classes = sorted(
        of.scores.per_class,
        key=lambda each: (each.accuracy is None, each.accuracy or 0.0, each.index),
    )
    if all(_clean(each) is None for each in classes):
        raise UserError(
            f"clean predictions are not known for {of.attack}. Score or import clean ones, too."
        )
    for k, each in enumerate(classes):
        clean = _clean(each)
        if each.accuracy is None:
            ax.text(0.01, k, "no images", va="center", color=SOFT)
            continue
        if clean is not None:
            ax.plot([each.accuracy, clean], [k, k], color=SOFT, linewidth=0.8, zorder=0)
            ax.plot(clean, k, "o", color=BLUE, fillstyle="none", label="clean")
        ends = error_bar(each.accuracy, each.wilson95)
        ax.errorbar(
            each.accuracy, k, xerr=ends, fmt="o", color=RED, capsize=2, label=f"under {of.attack}"
        )
    class_axis(ax, [each.name for each in classes])
    ax.set_xlim(0, 1)
    ax.set_xlabel("accuracy; under the attack with 95 % intervals")
    ax.set_title(f"{of.title} against clean", loc="left")
    handles = dict(zip(*ax.get_legend_handles_labels()[::-1], strict=True))
    ax.legend(handles.values(), handles, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.12))


def _clean(each: ClassScore) -> float | None:
    return None if each.accuracy is None or each.drop is None else each.accuracy + each.drop


def _confusion(ax: Axes, of: Subject) -> None:
    """Shares of each true class by prediction; of a targeted attack, of the attempts."""
    counts_KK = of.scores.confusion
    share_KK = counts_KK / np.maximum(counts_KK.sum(axis=1, keepdims=True), 1)
    names = [each.name for each in of.scores.per_class]
    image = ax.imshow(share_KK, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= _MOST_NUMBERS:
        for (i, j), share in np.ndenumerate(share_KK):
            if counts_KK[i, j]:
                ink = "white" if share > 0.5 else "black"
                ax.text(j, i, f"{100 * share:.0f}", ha="center", va="center", color=ink, fontsize=8)
    aimed = isinstance(of.scores.target, TargetedSuccess)
    what = "attempts" if aimed else "images"
    ax.figure.colorbar(image, ax=ax, label=f"share of the {what} of the true class", shrink=0.8)
    ax.set_xticks(range(len(names)), names, rotation=90)
    class_axis(ax, names)
    ax.set(xlabel="prediction", ylabel="true class")
    ax.set_title(of.title, loc="left")


def _profile(ax: Axes, of: Subject) -> None:
    """The average, the lowest class and each class over ε."""
    found = of.profile
    if found is None:
        raise UserError(
            f"{of.attack} ran with one ε. Score with several, such as threat='2/255,4/255,8/255'."
        )
    for accuracy_E in zip(*found.per_class, strict=True):
        ax.plot(found.eps, _known(accuracy_E), color=SOFT, alpha=0.35, linewidth=0.8)
    lines = (
        ("average", found.average, found.average95, BLUE),
        ("worst class", found.worst_class, found.worst_class95, RED),
    )
    for label, value_E, interval_E, colour in lines:
        ax.plot(found.eps, _known(value_E), "o-", color=colour, label=label)
        low_E, high_E = zip(*(each or (np.nan, np.nan) for each in interval_E), strict=True)
        ax.fill_between(found.eps, low_E, high_E, color=colour, alpha=0.15, linewidth=0)
    ax.set_xticks(found.eps, found.eps_text)
    ax.set(ylim=(0, 1), xlabel="ε", ylabel="accuracy, with 95 % intervals")
    ax.set_title(f"{of.title.partition('@')[0]} over ε", loc="left")
    ax.legend(frameon=False)


def _known(values: tuple[float | None, ...]) -> list[float]:
    return [np.nan if value is None else value for value in values]


def _by_classes(of: Subject) -> tuple[float, float]:
    return 6.4, 1.4 + 0.3 * len(of.scores.per_class)


def _square(of: Subject) -> tuple[float, float]:
    side = max(5.0, 0.16 * len(of.scores.per_class))
    return side + 0.8, side


#: Name → chart.
KINDS: Mapping[str, Chart] = {
    "classes": Chart(_classes, _by_classes),
    "clean": Chart(_clean_against_robust, _by_classes),
    "confusion": Chart(_confusion, _square),
    "profile": Chart(_profile, lambda of: (5.6, 3.8)),
}
