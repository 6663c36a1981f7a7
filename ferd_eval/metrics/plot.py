"""Charts of a scorecard, drawn by matplotlib, the extra ``plots``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferd_eval.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ferd_eval.metrics.scorecard import Scorecard

_OTHER, _WORST, _SOFT = "#0072b2", "#d55e00", "#5b6067"


def class_chart(card: Scorecard, attack: str) -> Figure:
    """One bar for each class's accuracy with its 95 % interval; the worst, also tied, in red.

    Raises:
        UserError: matplotlib is missing, or no such attack was run.
    """
    if attack not in card.attacks:
        raise UserError(
            f"no attack of this run is called {attack!r}.{did_you_mean(attack, card.attacks)}"
        )
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise UserError("charts need matplotlib: pip install 'ferd[plots]'.") from missing

    scores = card.attacks[attack]
    worst = scores.worst_class
    lowest = () if worst is None else (worst.index, *worst.tied)
    figure = Figure(figsize=(6.4, 1.4 + 0.3 * len(scores.per_class)), layout="constrained")
    ax = figure.subplots()
    for place, each in enumerate(scores.per_class):
        if each.accuracy is None:
            ax.text(0.01, place, "no images", va="center", color=_SOFT)
            continue
        colour = _WORST if each.index in lowest else _OTHER
        ends = None
        if each.wilson95 is not None:
            low, high = each.wilson95
            ends = [[max(each.accuracy - low, 0)], [max(high - each.accuracy, 0)]]
        ax.barh(place, each.accuracy, xerr=ends, color=colour, ecolor=_SOFT, capsize=2)
    if scores.average is not None:
        ax.axvline(scores.average, color=_SOFT, linestyle=":", label="average over images")
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.12))
    ax.set_yticks(range(len(scores.per_class)), [each.name for each in scores.per_class])
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel("accuracy, with 95 % intervals")
    title = f"{card.dataset.get('name', '')} under {attack}".strip()
    ax.set_title(title if worst is None else f"{title}: worst class {worst.name}", loc="left")
    return figure
