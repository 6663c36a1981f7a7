"""Tables over all classes: the summary, how sure the figures are, and runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ferd_eval.errors import listed
from ferd_eval.metrics import Scores
from ferd_eval.metrics.figures import FIGURES, WORST_CLASS, ratios_last
from ferd_eval.report.format import (
    EMPTY,
    NOTHING,
    PRINTERS,
    Cell,
    FormattedValue,
    Table,
    whole,
)
from ferd_eval.report.run.model import AttackView, ClassLine, RunView

_COULD_BE_WORST = "Classes that could be the worst"

#: Names listed in a table; the rest are counted.
_MOST_NAMES = 2


def overall(scores: Scores) -> Iterator[tuple[str, str, FormattedValue]]:
    """Key, heading and value of each figure over all classes, and of each end of its interval."""
    yield "n", "Images", whole(scores.n)
    for key, each in FIGURES.items():
        printer = PRINTERS[each.unit]
        yield key, each.heading, printer(scores.figures[key])
        if each.interval:
            low, high = scores.intervals[each.interval_key] or (None, None)
            yield f"{each.interval_key}_low", f"{each.heading}, lower end", printer(low)
            yield f"{each.interval_key}_high", f"{each.heading}, upper end", printer(high)
        if each is WORST_CLASS:
            suspects = scores.possibly_worst
            count = None if suspects is None else len(suspects)
            yield "possibly_worst", _COULD_BE_WORST, whole(count)


def summary(runs: Sequence[RunView]) -> Table:
    """One row for each attack and run; of several runs the best of each attack stands out."""
    several = len(runs) > 1
    shown_figures = [each for each in FIGURES.values() if each.in_summary]
    first, second, *others = (each.heading for each in shown_figures)
    columns = (
        "Attack", *(("Run",) if several else ()), first, second, "95 % interval", *others,
        "Could be the worst",
    )  # fmt: skip
    attacks = dict.fromkeys(attack for run in runs for attack in run.attacks)
    rows: list[tuple[Cell, ...]] = []
    best: set[tuple[int, int]] = set()
    for attack in attacks:
        those = [run for run in runs if attack in run.attacks]
        for run in those:
            shown = run.attacks[attack]
            average, worst, *further = (shown.overall[each.key] for each in shown_figures)
            name = (run.name,) if several else ()
            interval = shown.intervals[WORST_CLASS.interval_key]
            rows.append((attack, *name, average, worst, interval, *further, suspects(shown)))
        if len(those) > 1:
            best.update(_best(rows, columns, first=len(rows) - len(those)))
    note = (
        "Accuracy in per cent. The 95 % interval is that of the class that truly is lowest, "
        "whichever it is; with 95 % confidence it is among those that could be the worst. Worst "
        "10 %: mean of the lowest tenth of the classes. 95 % floor: with 95 % confidence every "
        "class is at least this accurate under the attack. SD: standard deviation over classes; "
        "NSD: SD divided by the mean over classes; it falls whenever the mean rises, so read it "
        "beside the worst class."
    )
    if any(run.successes for run in runs):
        note += (
            " Under a targeted attack an image is right only if it is so for every class aimed at."
        )
    if several:
        note += " The best of each attack is in bold."
    return Table("All attacks", columns, tuple(rows), note, frozenset(best))


def suspects(shown: AttackView) -> str:
    """``cat``, ``cat or dog``, ``cat, dog or one of 3 more``: classes that could be the worst."""
    names = shown.possibly_worst
    if names is None:
        return f"lowest seen: {shown.lowest[0]}" if shown.lowest else NOTHING
    return listed(names, _MOST_NAMES, "or") or NOTHING


def _best(
    rows: Sequence[tuple[Cell, ...]], columns: Sequence[str], first: int
) -> Iterator[tuple[int, int]]:
    """Cells of ``rows[first:]`` that print like the best of their column."""
    for figure in (each for each in FIGURES.values() if each.in_summary):
        column = columns.index(figure.heading)
        cells = [
            (row, cell.text, cell.value)
            for row in range(first, len(rows))
            if isinstance(cell := rows[row][column], FormattedValue) and cell.value is not None
        ]
        if cells:
            extreme = max if figure.more_is_better else min
            winner = extreme(cells, key=lambda item: item[2])[1]
            yield from ((row, column) for row, text, _ in cells if text == winner)


def inference_table(shown: AttackView) -> Table:
    """Each figure over all classes with its interval and its meaning."""
    rows: list[tuple[Cell, ...]] = []
    for each in ratios_last():
        if each.meaning:
            ends = shown.intervals.get(each.interval_key, EMPTY)
            rows.append((each.heading, shown.overall[each.key], ends, each.meaning))
    names = shown.possibly_worst
    if names is None:
        among = "not known: the audit saw only a sample"
    elif names:
        among = (
            f"{listed(names)}: with 95 % confidence the class that truly is lowest is among them"
        )
    else:
        among = "no class has an image"
    rows.append((_COULD_BE_WORST, shown.overall["possibly_worst"], EMPTY, among))
    return Table(
        f"How sure are the figures under {shown.id}?",
        ("Figure", "Estimate", "95 % interval", "What it says"),
        tuple(rows),
        "Intervals are for other images of the same kind, this network and this attack. Those of "
        "the worst class, the worst 10 % and the gap allow for the class having been picked after "
        "the fact. A dash: no interval.",
    )


def side_by_side_table(
    attack: str, names: Sequence[str], lines: Sequence[Sequence[ClassLine]]
) -> Table:
    """Return each class under one attack, one column a run."""
    return Table(
        f"Classes side by side under {attack}",
        ("Class", *names),
        tuple((of[0].name, *(line.accuracy for line in of)) for of in lines),
        f"Accuracy in per cent, lowest of {names[0]} first. Whether a difference is more than "
        "chance needs a paired test on the same images: ferd-eval compare.",
    )
