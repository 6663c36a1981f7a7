"""Picture of how the class weights of equation 2 went (FERD, arXiv 2509.20793).

E epochs, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ferd_train.monitoring.charts import STYLES, Line, Panel, line_chart

# Named at either end where not all classes can be.
_NAMED = 3


def weight_history(weights_EK: Sequence[Sequence[float]], names: Sequence[str]) -> str:
    """An SVG with a line for each class, and a dashed one at 1/K.

    Of more classes than lines can be told apart, those with the most and the least weight in the
    last epoch are named; the others are thin and grey.

    Args:
        weights_EK: probabilities that each epoch's classes were drawn with; at least one epoch.
        names: of the classes, K.
    """
    classes = len(names)
    last_K = weights_EK[-1]
    named = set(range(classes))
    note = "Probability with which each class was drawn for the images of an epoch"
    if classes > len(STYLES):
        by_weight = sorted(range(classes), key=last_K.__getitem__)
        named = {*by_weight[:_NAMED], *by_weight[-_NAMED:]}
        note += f"; of {classes} classes, the {_NAMED} that end lowest and highest are named"
    digits = math.ceil(math.log10(classes)) + 2

    def label(number: int) -> str:
        return f"{last_K[number]:.{digits}f} {names[number]}" if number in named else ""

    lines = [
        Line(names[number], [weights_K[number] for weights_K in weights_EK], label(number))
        for number in range(classes)
    ]
    even = 1 / classes
    panel = Panel(
        "",
        "probability",
        lines,
        level=(even, f"{even:.{digits}f} even, 1/{classes}"),
        including=(0.0,),
    )
    return line_chart("Class weights", note, [panel])
