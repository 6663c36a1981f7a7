"""The report of a study: tables, verdicts, leaderboard, and the missing networks by name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from importlib import resources
from pathlib import Path

from ferd_eval.io.escape import escape_markdown
from ferd_eval.io.files import make_folder, write_atomically
from ferd_eval.metrics import Delta, SeedMean
from ferd_eval.report.comparison.text import interval_ends, lowest_delta_of
from ferd_eval.report.format import NOTHING, PRINTERS, difference, ratio_difference
from ferd_eval.report.leaderboard import leaderboard, write_leaderboard
from ferd_eval.report.leaderboard.model import short_heading
from ferd_eval.report.render import CsvCell, csv_text, environment
from ferd_eval.runtime.progress import duration
from ferd_train.study.definition import Study
from ferd_train.study.status import TrialState
from ferd_train.study.tables import (
    AgainstBaseline,
    AttackColumn,
    TableRow,
    against_baseline,
    columns,
    shown_figures,
    study_rows,
)


def write_study_report(study: Study, of_all: Sequence[TrialState], folder: Path) -> Path:
    """Write ``study.md``, ``study.csv``, ``comparisons.csv`` and the leaderboard; return the first.

    Raises:
        UserError: outcomes are damaged, or the folder cannot be written.
    """
    rows = tuple(study_rows(study, of_all))
    shown = columns(rows, study)
    comparisons = tuple(against_baseline(rows, shown, study))
    unfinished = [(state, left) for state in of_all if (left := state.left(study.evaluations))]
    reasons = [(state, state.failure(), ", ".join(left)) for state, left in unfinished]
    entries = [entry for row in rows for entry in row.entries.values()]
    template = resources.files("ferd_train.study").joinpath("study.md.j2").read_text("utf-8")
    page = (
        environment(html=False)
        .from_string(template)
        .render(
            study=study,
            rows=rows,
            columns=shown,
            headings=[f"{each.title} {_heading(key)}" for each in shown for key in shown_figures()],
            cells=partial(_cells, shown=shown),
            comparisons=comparisons,
            differences=_differences,
            nothing=NOTHING,
            failed=[(state, reason) for state, reason, _ in reasons if reason is not None],
            missing=[(state, left) for state, reason, left in reasons if reason is None],
            scored=bool(entries),
        )
    )
    files = {
        "study.md": page.rstrip() + "\n",
        "study.csv": _study_csv(rows, shown),
        "comparisons.csv": _comparisons_csv(comparisons),
    }
    make_folder(folder)
    for name, content in files.items():
        write_atomically(folder / name, content.encode())
    if entries:
        write_leaderboard(folder, leaderboard(entries))
    return folder / "study.md"


def _cells(row: TableRow, shown: Sequence[AttackColumn]) -> Iterator[str]:
    yield escape_markdown(row.name)
    yield NOTHING if row.row is None else f"{len(row.trained)} of {len(row.states)}"
    for column in shown:
        for figure in shown_figures():
            found, seeds = row.figure(column, figure)
            partly = f" ({seeds} of {len(row.states)})" if 0 < seeds < len(row.states) else ""
            yield _mean(found, figure) + partly
    seconds = row.seconds()
    yield NOTHING if row.row is None else str(row.row.student_steps)
    yield from [NOTHING, NOTHING] if seconds is None else map(duration, seconds)


def _mean(found: SeedMean, figure: str) -> str:
    printer = PRINTERS[shown_figures()[figure].unit]
    text = str(printer(found.value))
    return text if found.half95 is None else f"{text} ± {printer(found.half95)}"


def _differences(each: AgainstBaseline) -> Iterator[str]:
    assert each.found is not None
    found = each.found
    yield escape_markdown(each.row.name)
    yield ", ".join(map(str, each.seeds))
    yield _delta(found.average, found.margin)
    yield _delta(lowest_delta_of(found), found.margin)
    yield _delta(found.nsd, as_ratio=True)
    for classes in (found.better, found.worse):
        yield escape_markdown(", ".join(found.per_class[k].name for k in classes) or "none")
    yield str(found.verdict)


def _delta(delta: Delta, margin: float = 0.0, *, as_ratio: bool = False) -> str:
    value = (ratio_difference if as_ratio else difference)(delta.value)
    low, high = interval_ends(delta.interval95, margin, as_ratio=as_ratio)
    return str(value) if low.value is None else f"{value} ({low} to {high})"


def _heading(figure: str) -> str:
    heading = short_heading(figure)
    return heading if heading.isupper() else heading.lower()


def _study_csv(rows: Sequence[TableRow], shown: Sequence[AttackColumn]) -> str:
    """A row for each row of the tables, in full precision; accuracies are fractions."""
    heading = ["teacher", "row", "method", "loss", "seeds", "trained"]
    for column in shown:
        for figure in shown_figures():
            name = f"{column.attack} {_heading(figure)}"
            heading += [name, f"{name} half95", f"{name} seeds"]
    heading += ["student steps", "seconds making", "seconds learning"]
    return csv_text(heading, [_study_line(row, shown) for row in rows])


def _study_line(row: TableRow, shown: Sequence[AttackColumn]) -> list[CsvCell]:
    method, loss = (row.row.method, row.row.loss) if row.row else ("", "")
    cells: list[CsvCell] = [row.teacher.name, row.name, method, loss]
    cells += [len(row.states), len(row.trained)] if row.row else [None, None]
    for column in shown:
        for figure in shown_figures():
            found, seeds = row.figure(column, figure)
            cells += [found.value, found.half95, seeds or None]
    cells.append(row.row.student_steps if row.row else None)
    return [*cells, *(row.seconds() or (None, None))]


def _comparisons_csv(comparisons: Sequence[AgainstBaseline]) -> str:
    """A row for each row, baseline and attack; differences are fractions, row − baseline."""
    heading = ["teacher", "row", "baseline", "attack", "evaluation", "seeds", "verdict"]
    heading += [
        f"{name}{end}"
        for name in ("average", "worst", "nsd debiased")
        for end in ("", " low", " high")
    ]
    return csv_text([*heading, "why not"], map(_comparison_line, comparisons))


def _comparison_line(each: AgainstBaseline) -> list[CsvCell]:
    names = [each.row.teacher.name, each.row.name, each.baseline.name, each.column.attack]
    cells: list[CsvCell] = [*names, each.column.evaluation.name, " ".join(map(str, each.seeds))]
    if each.found is None:
        return [*cells, *[None] * 10, each.why_not]
    cells.append(str(each.found.verdict))
    for delta in (each.found.average, lowest_delta_of(each.found), each.found.nsd):
        cells += [delta.value, *(delta.interval95 or (None, None))]
    return [*cells, ""]
