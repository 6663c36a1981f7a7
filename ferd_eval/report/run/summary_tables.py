"""Tables over all classes: the summary, how sure the figures are, and runs side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ferd_eval.errors import listed
from ferd_eval.metrics import ClassScore, Scores
from ferd_eval.metrics.figures import FIGURES, WORST_CLASS, Figure, ratios_last
from ferd_eval.report.format import (
    EMPTY,
    NOTHING,
    PRINTERS,
    Cell,
    FormattedValue,
    Table,
    percent,
    span,
    whole,
)
from ferd_eval.report.run.model import AttackView, RunView

_COULD_BE_WORST = "Classes that could be the worst"

#: Names listed in a table; the rest are counted.
_MOST_NAMES = 2


def overall_figures(scores: Scores) -> dict[str, FormattedValue]:
    """Key → each figure over all classes, and each end of its interval."""
    found = {"n": whole(scores.n)}
    for key, each in FIGURES.items():
        printer = PRINTERS[each.unit]
        found[key] = printer(scores.figures[key])
        if each.interval:
            low, high = scores.intervals[each.interval_key] or (None, None)
            found[f"{each.interval_key}_low"] = printer(low)
            found[f"{each.interval_key}_high"] = printer(high)
        if each is WORST_CLASS:
            found["possibly_worst"] = _suspect_count(scores)
    return found


def _suspect_count(scores: Scores) -> FormattedValue:
    return whole(None if scores.possibly_worst is None else len(scores.possibly_worst))


def summary(runs: Sequence[RunView]) -> Table:
    """One row for each attack and run; of several runs the best of each attack stands out."""
    several = len(runs) > 1
    figures = [each for each in FIGURES.values() if each.in_summary]
    rows: list[dict[str, Cell]] = []
    best: set[tuple[int, int]] = set()
    for attack in dict.fromkeys(attack for run in runs for attack in run.attacks):
        first = len(rows)
        rows += [
            {
                "Attack": attack,
                **({"Run": run.name} if several else {}),
                **_summary_figures(run.attacks[attack], figures),
                "Could be the worst": suspects(run.attacks[attack]),
            }
            for run in runs
            if attack in run.attacks
        ]
        for figure in figures if len(rows) - first > 1 else ():
            column = [*rows[0]].index(figure.heading)
            best |= {(first + i, column) for i in _best(figure, rows[first:])}
    note = (
        "Accuracy in per cent. The 95 % interval is that of the class that truly is lowest, "
        "whichever it is; with 95 % confidence it is among those that could be the worst. Worst "
        "10 %: mean of the lowest tenth of the classes. 95 % floor: with 95 % confidence every "
        "class is at least this accurate under the attack. SD: standard deviation over classes; "
        "NSD: SD divided by the mean over classes; it falls whenever the mean rises, so read it "
        "beside the worst class."
    )
    if any(run.tables["targeted"] for run in runs):
        note += (
            " Under a targeted attack an image is right only if it is so for every class aimed at."
        )
    if several:
        note += " The best of each attack is in bold."
    return replace(Table.of("All attacks", rows, note), best=frozenset(best))


def _summary_figures(shown: AttackView, figures: Sequence[Figure]) -> dict[str, Cell]:
    """By heading; the interval of the worst class stands beside it."""
    cells: dict[str, Cell] = {}
    for figure in figures:
        cells[figure.heading] = PRINTERS[figure.unit](shown.scores.figures[figure.key])
        if figure is WORST_CLASS:
            cells["95 % interval"] = span(shown.scores.intervals[figure.interval_key])
    return cells


def suspects(shown: AttackView) -> str:
    """``cat``, ``cat or dog``, ``cat, dog or one of 3 more``: classes that could be the worst."""
    names, worst = shown.possibly_worst, shown.scores.worst_class
    if names is None:
        return f"lowest seen: {worst.name}" if worst else NOTHING
    return listed(names, _MOST_NAMES, "or") or NOTHING


def _best(figure: Figure, rows: Sequence[Mapping[str, Cell]]) -> Iterator[int]:
    """Places of the rows that print like the best of a figure."""
    cells = [row[figure.heading] for row in rows]
    known = [cell for cell in cells if isinstance(cell, FormattedValue) and cell.value is not None]
    if known:
        extreme = max if figure.more_is_better else min
        winner = extreme(known, key=lambda cell: cell.value or 0.0)
        yield from (i for i, cell in enumerate(cells) if str(cell) == winner.text)


def inference_table(shown: AttackView) -> Table:
    """Each figure over all classes with its interval and its meaning."""
    rows: list[tuple[Cell, ...]] = []
    for each in ratios_last():
        if each.meaning:
            value = PRINTERS[each.unit](shown.scores.figures[each.key])
            interval = span(shown.scores.intervals.get(each.interval_key))
            rows.append((each.heading, value, interval, each.meaning))
    names = shown.possibly_worst
    if names is None:
        among = "not known: the audit saw only a sample"
    elif names:
        among = (
            f"{listed(names)}: with 95 % confidence the class that truly is lowest is among them"
        )
    else:
        among = "no class has an image"
    rows.append((_COULD_BE_WORST, _suspect_count(shown.scores), EMPTY, among))
    return Table(
        f"How sure are the figures under {shown.id}?",
        ("Figure", "Estimate", "95 % interval", "What it says"),
        tuple(rows),
        "Intervals are for other images of the same kind, this network and this attack. Those of "
        "the worst class, the worst 10 % and the gap allow for the class having been picked after "
        "the fact. A dash: no interval.",
    )


def side_by_side_table(
    attack: str, names: Sequence[str], lines: Sequence[Sequence[ClassScore]]
) -> Table:
    """Return each class under one attack, one column a run."""
    return Table(
        f"Classes side by side under {attack}",
        ("Class", *names),
        tuple((of[0].name, *(percent(each.accuracy) for each in of)) for of in lines),
        f"Accuracy in per cent, lowest of {names[0]} first. Whether a difference is more than "
        "chance needs a paired test on the same images: ferd-eval compare.",
    )
