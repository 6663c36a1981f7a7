"""A chart of accuracy by class, drawn by matplotlib, the extra ``plots``. K classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ferd_eval.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OTHER, _WORST, _SOFT = "#0072b2", "#d55e00", "#5b6067"


def class_chart(
    title: str,
    names_K: Sequence[str],
    accuracies_K: Sequence[float | None],
    intervals_K: Sequence[tuple[float, float] | None],
    *,
    lowest: Collection[int],
    average: float | None,
) -> Figure:
    """One bar for each class's accuracy with its interval, from 0 to 1; the lowest in red.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as missing:
        raise UserError("charts need matplotlib: pip install 'ferd[plots]'.") from missing

    figure = Figure(figsize=(6.4, 1.4 + 0.3 * len(names_K)), layout="constrained")
    ax = figure.subplots()
    for k, (accuracy, interval) in enumerate(zip(accuracies_K, intervals_K, strict=True)):
        if accuracy is None:
            ax.text(0.01, k, "no images", va="center", color=_SOFT)
            continue
        ends = None
        if interval is not None:
            low, high = interval
            ends = [[max(accuracy - low, 0)], [max(high - accuracy, 0)]]
        colour = _WORST if k in lowest else _OTHER
        ax.barh(k, accuracy, xerr=ends, color=colour, ecolor=_SOFT, capsize=2)
    if average is not None:
        ax.axvline(average, color=_SOFT, linestyle=":", label="average over images")
        ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(0, -0.12))
    ax.set_yticks(range(len(names_K)), names_K)
    ax.invert_yaxis()
    ax.set_xlim(0, 1)
    ax.set_xlabel("accuracy, with 95 % intervals")
    ax.set_title(title, loc="left")
    return figure
