"""Charts of a student's run: losses and accuracies by epoch, and the weights of its classes.

matplotlib, the extra ``plots``, is imported by the first drawing. E epochs, K classes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import numpy as np

from ferd_train.monitoring.epoch_log import StudentLog

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_INK, _SOFT, _PALE = "#1c1e21", "#5b6067", "#c4c1ba"

#: Colour and dashes of named lines. Five colours of Okabe and Ito, at least 3:1 on white and told
#: apart under each colour blindness; after them the same, dashed.
STYLES = tuple(
    (colour, dashes)
    for dashes in ("-", "--")
    for colour in ("#0072b2", "#d55e00", "#009e73", "#cc79a7", _INK)
)

# Inches.
_PANEL, _WIDE_PANEL, _HEAD = (4.2, 2.7), (9.0, 5.0), 0.7
_LONGEST_LABEL = 32
# Classes named at either end where not all can be.
_NAMED = 3

#: Titles of the generator's terms; all are shown unweighted.
_TERMS = {
    "adv": "Divergence of student and teacher, L_adv",
    "bn": "Batch-norm statistics, L_bn",
    "oh": "Class asked for, L_oh",
    "uni": "Uniformity, L_uni",
    "inverted_adv": "DeepInversion's 1 \N{MINUS SIGN} JS, L_adv",
    "inverted_bn": "DeepInversion's L_bn",
    "inverted_oh": "DeepInversion's L_oh",
}

#: Keys of the validation's accuracies, and their labels.
_ACCURACIES = {
    "clean": "clean",
    "clean_worst_class": "clean, worst",
    "pgd": "PGD-10",
    "pgd_worst_class": "PGD-10, worst",
}

#: Keys of the figures on held-out synthetic images, and their labels.
_AGREEMENTS = {
    "clean": "clean",
    "clean_lowest": "clean, lowest class",
    "pgd": "PGD-10",
    "pgd_lowest": "PGD-10, lowest class",
}

Values = Sequence[float | None]


def installed() -> bool:
    """Whether charts can be drawn."""
    return find_spec("matplotlib") is not None


def learning_curves(logs: Sequence[StudentLog]) -> Figure:
    """A panel for each loss and each kind of share that was measured so far, in at least one epoch.

    FERD's terms of L_gen come first, then those of other methods in the order they came.
    """
    others = {term: f"Generator, {term}" for log in logs for term in log.generator_terms}
    kept, unweighted = "loss of the kept batch", "unweighted term of L_gen"
    shares = "share of images"
    panels: list[tuple[str, str, Mapping[str, Values]]] = [
        ("Generator, L_gen", kept, {"": [log.generator_loss for log in logs]}),
        *(
            (title, unweighted, {"": [log.generator_terms.get(term) for log in logs]})
            for term, title in {**_TERMS, **others, **_TERMS}.items()
        ),
        ("Student, L_stu", "mean of the epoch's steps", {"": [log.student_loss for log in logs]}),
        (
            "Agreement with the teacher",
            shares,
            {
                "new images": [log.teacher_agrees for log in logs],
                "student": [log.student_agrees for log in logs],
            },
        ),
        (
            "Held-out synthetic images",
            "agreement with the teacher",
            {
                label: [log.held_out[key] if log.held_out else None for log in logs]
                for key, label in _AGREEMENTS.items()
            },
        ),
        (
            "Held-out images",
            "accuracy, used for no choice",
            {
                label: [log.validation[key] if log.validation else None for log in logs]
                for key, label in _ACCURACIES.items()
            },
        ),
    ]
    known = {
        title: (unit, {label: values for label, values in lines.items() if _known(values)})
        for title, unit, lines in panels
    }
    shown = {title: panel for title, panel in known.items() if panel[1]}
    note = "By epoch; the number is the last value"
    figure, axes = _figure("Learning curves", note, len(shown), _PANEL)
    for ax, (title, (unit, lines)) in zip(axes, shown.items(), strict=True):
        ax.set_title(title, loc="left", fontsize=10, fontweight="bold")
        _prepare(ax, unit, len(logs))
        if "" not in lines:  # shares
            ax.set_ylim(0, 1)
        for (label, values), style in zip(lines.items(), STYLES, strict=False):
            last = f"{_known(values)[-1]:.3g}".replace("-", "\N{MINUS SIGN}")
            _draw(ax, values, style, f"{last} {label}".strip())
        ax.legend(frameon=False, fontsize=8, loc="best")
    return figure


def weight_history(weights_EK: Sequence[Sequence[float]], names: Sequence[str]) -> Figure:
    """A line for each class's weight (FERD, arXiv 2509.20793, equation 2), a dashed one at 1/K.

    Of more classes than `STYLES`, those with the most and the least weight in the last epoch are
    named; the others are thin and grey. `weights_EK` are the probabilities that each epoch's
    classes were drawn with; at least one epoch.
    """
    classes, last_K = len(names), weights_EK[-1]
    by_weight = sorted(range(classes), key=last_K.__getitem__, reverse=True)
    note = "Probability with which each class was drawn for the images of an epoch"
    named = by_weight
    if classes > len(STYLES):
        named = by_weight[:_NAMED] + by_weight[-_NAMED:]
        note += f"; of {classes} classes, the {_NAMED} that end lowest and highest are named"
    style_of = dict(zip(sorted(named), STYLES, strict=False))
    digits = math.ceil(math.log10(classes)) + 2
    figure, (ax,) = _figure("Class weights", note, 1, _WIDE_PANEL)
    _prepare(ax, "probability", len(weights_EK))
    for number in [*(each for each in by_weight if each not in style_of), *named]:
        values = [weights_K[number] for weights_K in weights_EK]
        label = f"{last_K[number]:.{digits}f} {_shortened(names[number])}"
        _draw(ax, values, style_of.get(number), label)
    even = 1 / classes
    label = f"{even:.{digits}f} even, 1/{classes}"
    ax.axhline(even, color=_SOFT, linestyle=":", linewidth=1, label=label)
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), fontsize=9)
    figure.subplots_adjust(right=0.7)
    return figure


def to_svg(figure: Figure) -> bytes:
    """The same bytes for the same figure; a line shows its name where the pointer rests on it."""
    import matplotlib

    lines = [line for ax in figure.axes for line in ax.lines]
    for number, line in enumerate(lines):
        line.set_gid(f"line-{number}")
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "ferd", "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue().decode()
    for line in lines:
        group, name = f'<g id="{line.get_gid()}">', str(line.get_label()).removeprefix("_")
        text = text.replace(group, f"{group}<title>{escape(name)}</title>")
    return text.encode()


def _figure(
    title: str, note: str, panels: int, size: tuple[float, float]
) -> tuple[Figure, list[Axes]]:
    """A figure with `panels` axes of `size`, at most three in a row."""
    from matplotlib.figure import Figure

    columns = min(3, panels)
    rows = math.ceil(panels / columns)
    width, height = columns * size[0], rows * size[1] + _HEAD
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, x=0.2 / width, y=1 - 0.1 / height, ha="left", fontweight="bold")
    figure.text(0.2 / width, 1 - 0.5 / height, note, color=_SOFT, fontsize=9)
    figure.subplots_adjust(
        left=0.7 / width, right=1 - 0.15 / width, bottom=0.5 / height,
        top=1 - (_HEAD + 0.3) / height, wspace=0.25, hspace=0.45,
    )  # fmt: skip
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(panels)]


def _prepare(ax: Axes, unit: str, epochs: int) -> None:
    ax.set_xlabel("epoch", fontsize=9)
    ax.set_ylabel(unit, fontsize=9)
    ax.set_xlim((1, epochs) if epochs > 1 else (0.5, 1.5))
    ax.locator_params("x", integer=True)
    ax.grid(axis="y", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def _draw(ax: Axes, values: Values, style: tuple[str, str] | None, label: str) -> None:
    """A line, broken where no finite value is known; thin and grey without a style.

    Values that stand alone, and the last one, are dots.
    """
    value_E = np.array([np.nan if value is None else value for value in values], np.float64)
    epoch_E, known_E = np.arange(1, len(value_E) + 1), np.isfinite(value_E)
    value_E[~known_E] = np.nan
    colour, dashes = style or (_PALE, "-")
    width = 1.8 if style else 0.7
    # matplotlib leaves labels with an underscore out of the legend.
    text = label if style else f"_{label}"
    (line,) = ax.plot(epoch_E, value_E, color=colour, linestyle=dashes, linewidth=width, label=text)
    if style:
        around_E = np.pad(known_E, 1)
        alone_E = known_E & ~around_E[:-2] & ~around_E[2:]
        alone_E[known_E.nonzero()[0][-1]] = True
        line.set(marker="o", markersize=4, markevery=alone_E.nonzero()[0].tolist(), clip_on=False)


def _known(values: Values) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else name[: _LONGEST_LABEL - 1] + "…"
