"""The report of a study: tables, verdicts, leaderboard, and the missing networks by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ferd_eval.io.escape import escape_markdown
from ferd_eval.io.files import make_folder, write_atomically
from ferd_eval.metrics import Delta, SeedMean
from ferd_eval.report.comparison.text import interval_ends, lowest_delta_of
from ferd_eval.report.format import NOTHING, PRINTERS, difference, ratio_difference
from ferd_eval.report.leaderboard import leaderboard, write_leaderboard
from ferd_eval.report.leaderboard.model import TITLES, short_heading
from ferd_eval.report.render import CsvCell, csv_text
from ferd_eval.runtime.progress import duration
from ferd_train.study.comparisons import AgainstBaseline, against_baseline
from ferd_train.study.definition import Study, TeacherSource
from ferd_train.study.status import TrialState
from ferd_train.study.tables import AttackColumn, TableRow, columns, shown_figures, study_rows


@dataclass(frozen=True, eq=False)
class StudyReport:
    """Content of all files of the report.

    Attributes:
        failed: trials with the reason.
        missing: trials that neither finished nor failed, with their stages left.
    """

    study: Study
    rows: tuple[TableRow, ...]
    columns: tuple[AttackColumn, ...]
    comparisons: tuple[AgainstBaseline, ...]
    failed: tuple[tuple[TrialState, str], ...]
    missing: tuple[tuple[TrialState, tuple[str, ...]], ...]


def write_study_report(study: Study, of_all: Sequence[TrialState], folder: Path) -> Path:
    """Write ``study.md``, ``study.csv``, ``comparisons.csv`` and the leaderboard; return the first.

    Raises:
        UserError: outcomes are damaged, or the folder cannot be written.
    """
    report = _gather(study, of_all)
    make_folder(folder)
    write_atomically(folder / "study.md", _markdown(report).encode())
    write_atomically(folder / "study.csv", _study_csv(report).encode())
    write_atomically(folder / "comparisons.csv", _comparisons_csv(report).encode())
    if entries := [entry for row in report.rows for entry in row.entries.values()]:
        write_leaderboard(folder, leaderboard(entries))
    return folder / "study.md"


def _gather(study: Study, of_all: Sequence[TrialState]) -> StudyReport:
    rows = tuple(study_rows(study, of_all))
    shown = columns(rows, study)
    failed, missing = [], []
    for state in of_all:
        if left := state.left(study.evaluations):
            reason = state.failure()
            if reason is None:
                missing.append((state, left))
            else:
                failed.append((state, reason))
    comparisons = tuple(against_baseline(rows, shown, study))
    return StudyReport(study, rows, shown, comparisons, tuple(failed), tuple(missing))


def _markdown(report: StudyReport) -> str:
    lines = [f"# {escape_markdown(report.study.title)}", "", _summary(report), ""]
    lines += _unfinished(report)
    for teacher in report.study.teachers:
        lines += _teacher(report, teacher)
    if any(row.entries for row in report.rows):
        lines += ["## Leaderboard", ""]
        lines += ["[leaderboard.html](leaderboard.html) has every row and figure, ranked.", ""]
    return "\n".join(lines).rstrip() + "\n"


def _summary(report: StudyReport) -> str:
    count = len(report.study.trials)
    finished = count - len(report.failed) - len(report.missing)
    return (
        f"{finished} of {count} networks are finished, {len(report.failed)} failed, "
        f"{len(report.missing)} are missing."
    )


def _unfinished(report: StudyReport) -> Iterator[str]:
    missing = [(state, ", ".join(left)) for state, left in report.missing]
    for title, states in (("Failed", report.failed), ("Missing", missing)):
        if states:
            yield from (f"## {title}", "")
            for state, reason in states:
                yield f"- {escape_markdown(str(state.trial.path))}: {escape_markdown(reason)}"
            yield ""


def _teacher(report: StudyReport, teacher: TeacherSource) -> Iterator[str]:
    rows = [row for row in report.rows if row.teacher == teacher]
    yield from (f"## Teacher {escape_markdown(teacher.name)}", "")
    headings = ["row", "seeds", "student steps", "making", "learning"]
    headings[2:2] = [
        f"{_title(column)} {_heading(figure)}"
        for column in report.columns
        for figure in shown_figures()
    ]
    yield _line(map(escape_markdown, headings))
    yield _line(["---"] + ["---:"] * (len(headings) - 1))
    for row in rows:
        yield _line(_cells(row, report.columns))
    yield ""
    yield from (f"- {escape_markdown(note)}" for note in _notes(report))
    yield ""
    own = [each for each in report.comparisons if each.row.teacher == teacher]
    yield from _verdicts(own, report.columns)
    for column in report.columns:
        yield from _against([each for each in own if each.column == column], column)


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


def _notes(report: StudyReport) -> Iterator[str]:
    yield (
        "Accuracy in per cent, NSD as it is; mean over the seeds ± half the 95 % t interval over "
        "seeds, which needs three. Means of fewer seeds, and the teacher, speak of those networks "
        "only."
    )
    yield (
        "worst: the class (from 100 classes on, the tenth of the classes) that is lowest in this "
        "sample, network by network; it is picked after the fact and tends to look worse than it "
        "is. NSD falls whenever the mean rises."
    )
    for column in report.columns:
        yield f"{_title(column)}: {column.images} images ({column.evaluation.name})."
    yield (
        "student steps: steps of SGD of one student; making and learning: wall clock of one "
        "student, with whatever else the machine did."
    )


def _verdicts(own: Sequence[AgainstBaseline], shown: Sequence[AttackColumn]) -> Iterator[str]:
    """One table of a teacher's."""
    if not any(each.found for each in own):
        return
    yield from (f"### Verdicts: against {escape_markdown(own[0].baseline.name)}", "")
    yield _line(["row", *(escape_markdown(_title(column)) for column in shown)])
    yield _line(["---"] * (1 + len(shown)))
    found = {(each.row.name, each.column): each.found for each in own}
    for name in dict.fromkeys(each.row.name for each in own):
        verdicts = [found.get((name, column)) for column in shown]
        yield _line(
            [escape_markdown(name), *(str(each.verdict) if each else NOTHING for each in verdicts)]
        )
    yield ""


def _against(comparisons: Sequence[AgainstBaseline], column: AttackColumn) -> Iterator[str]:
    if not comparisons:
        return
    baseline = comparisons[0].baseline.name
    yield from (
        f"### {escape_markdown(_title(column))}: difference to {escape_markdown(baseline)}",
        "",
    )
    found = [each for each in comparisons if each.found is not None]
    if found:
        yield _line(["row", "seeds", "average", "worst", "NSD", "better", "worse", "verdict"])
        yield _line(["---"] * 8)
        yield from (_line(_comparison_cells(each)) for each in found)
        yield ""
        yield (
            "Paired by seed, with 95 % intervals that allow for seeds and images (points; NSD "
            "debiased, as it is); better, worse: classes that differ significantly (Holm). Each "
            "row stands for itself, without a correction for many rows."
        )
        yield ""
    if len(found) < len(comparisons):
        for each in comparisons:
            if each.found is None:
                yield f"- not compared: {escape_markdown(each.why_not)}"
        yield ""


def _comparison_cells(each: AgainstBaseline) -> Iterator[str]:
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


def _title(column: AttackColumn) -> str:
    return TITLES.get(column.attack, column.attack)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _study_csv(report: StudyReport) -> str:
    """A row for each row of the tables, in full precision; accuracies are fractions."""
    heading = ["teacher", "row", "method", "loss", "seeds", "trained"]
    for column in report.columns:
        for figure in shown_figures():
            name = f"{column.attack} {_heading(figure)}"
            heading += [name, f"{name} half95", f"{name} seeds"]
    heading += ["student steps", "seconds making", "seconds learning"]
    return csv_text(heading, [_study_line(row, report.columns) for row in report.rows])


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


def _comparisons_csv(report: StudyReport) -> str:
    """A row for each row, baseline and attack; differences are fractions, row − baseline."""
    heading = ["teacher", "row", "baseline", "attack", "evaluation", "seeds", "verdict"]
    heading += [
        f"{name}{end}"
        for name in ("average", "worst", "nsd debiased")
        for end in ("", " low", " high")
    ]
    return csv_text([*heading, "why not"], [_comparison_line(each) for each in report.comparisons])


def _comparison_line(each: AgainstBaseline) -> list[CsvCell]:
    names = [each.row.teacher.name, each.row.name, each.baseline.name, each.column.attack]
    cells: list[CsvCell] = [*names, each.column.evaluation.name, " ".join(map(str, each.seeds))]
    if each.found is None:
        return [*cells, *[None] * 10, each.why_not]
    cells.append(str(each.found.verdict))
    for delta in (each.found.average, lowest_delta_of(each.found), each.found.nsd):
        cells += [delta.value, *(delta.interval95 or (None, None))]
    return [*cells, ""]
