"""The chart of a comparison, with matplotlib."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferd_eval.metrics import Comparison
from ferd_eval.metrics.charts import BLUE, RED, SOFT, class_axis, error_bar, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_differences(found: Comparison, direction: str, ax: Axes | None = None) -> Axes:
    """One dot for each class, the lowest first: its difference in points, and the 95 % interval.

    Blue is higher beyond chance, red lower, grey neither. `direction` is that of differences.
    """
    lines = sorted(
        found.per_class, key=lambda each: (each.value is None, each.value or 0.0, each.index)
    )
    ax = ax if ax is not None else new_axes((6.4, 1.6 + 0.3 * len(lines)))
    for k, each in enumerate(lines):
        if each.value is None:
            ax.text(0, k, "no images", va="center", color=SOFT)
            continue
        colour = BLUE if each.index in found.better else RED if each.index in found.worse else SOFT
        interval = each.interval95
        points = interval and (100 * interval[0], 100 * interval[1])
        ends = error_bar(100 * each.value, points)
        ax.errorbar(100 * each.value, k, xerr=ends, fmt="o", color=colour, capsize=2)
    ax.axvline(0, color=SOFT, linewidth=0.8, zorder=0)
    class_axis(ax, [each.name for each in lines])
    ax.set_xlabel(f"{direction}, points, with 95 % intervals")
    ax.set_title(f"under {found.attack}: {found.verdict}", loc="left")
    return ax
