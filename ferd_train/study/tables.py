"""Figures of a study by row: means over seeds of what finished networks were scored with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from ferd_eval.metrics import Scores, SeedMean, seed_mean
from ferd_eval.metrics.figures import Figure, board_figures
from ferd_eval.report.leaderboard import ScoredGroup
from ferd_eval.report.leaderboard.read import read_rows
from ferd_train.study.definition import TEACHER, Evaluation, Row, Study, TeacherSource
from ferd_train.study.status import CellState


@dataclass(frozen=True, eq=False)
class StudyRow:
    """One row of a table: a method's networks of one teacher, or the teacher.

    Attributes:
        row: None for the teacher itself.
        states: of its cells, in the order of the seeds.
        entries: by name of the evaluation: what is finished of it; one that no network met is not
            there.
    """

    teacher: TeacherSource
    row: Row | None
    states: tuple[CellState, ...]
    entries: Mapping[str, ScoredGroup]

    @property
    def name(self) -> str:
        """In the tables of its teacher."""
        return self.row.name if self.row else TEACHER

    @property
    def trained(self) -> tuple[CellState, ...]:
        """The students that are finished."""
        return tuple(each for each in self.states if each.is_trained()) if self.row else ()

    def figure(self, column: Column, figure: str) -> tuple[SeedMean, int]:
        """Mean over the seeds that met the attack, and how many these are."""
        entry = self.entries.get(column.evaluation.name)
        if entry is None:
            return SeedMean(None, None), 0
        values = [_value(card.attacks[column.attack], figure) for card in entry.cards]
        return seed_mean(values), len(values)

    def seconds(self) -> tuple[float, float] | None:
        """Of making images and of learning, of one student on average."""
        times = [state.training_time() for state in self.trained]
        if not times:
            return None
        return mean(each.making for each in times), mean(each.learning for each in times)


@dataclass(frozen=True)
class Column:
    """An attack, as one of the evaluations met it.

    Attributes:
        images: that were attacked.
    """

    attack: str
    evaluation: Evaluation
    images: int


def study_rows(study: Study, of_all: Sequence[CellState]) -> tuple[StudyRow, ...]:
    """All rows that have cells, each teacher's together, the teacher itself first.

    Raises:
        UserError: the outcomes of a finished network are damaged.
    """
    return tuple(_rows(study, of_all))


def columns(rows: Sequence[StudyRow], study: Study) -> tuple[Column, ...]:
    """Each attack once: where several evaluations have it, with the most images."""
    found: dict[str, Column] = {}
    for evaluation in study.evaluations:
        entries = [row.entries[evaluation.name] for row in rows if evaluation.name in row.entries]
        for attack in dict.fromkeys(attack for entry in entries for attack in entry.attacks):
            images = max(entry.cards[0].attacks[attack].n for entry in entries)
            if attack not in found or images > found[attack].images:
                found[attack] = Column(attack, evaluation, images)
    return tuple(found.values())


def _rows(study: Study, of_all: Sequence[CellState]) -> Iterator[StudyRow]:
    for teacher in study.teachers:
        for row in (None, *study.rows):
            own = tuple(
                each
                for each in of_all
                if each.cell.teacher.name == teacher.name
                and (each.cell.row and each.cell.row.name) == (row and row.name)
            )
            if own:
                yield StudyRow(teacher, row, own, _entries(own, study))


def _entries(own: Sequence[CellState], study: Study) -> dict[str, ScoredGroup]:
    entries = {}
    for evaluation in study.evaluations:
        folders = [each.evaluation(evaluation) for each in own if each.is_scored(evaluation)]
        if folders:
            name = _board_name(own[0], evaluation, study)
            entries[evaluation.name] = read_rows([(name, folders)])[0]
    return entries


def _board_name(state: CellState, evaluation: Evaluation, study: Study) -> str:
    """In a leaderboard over all: with what sets rows of one table apart."""
    row = state.cell.row
    name = row.name if row else TEACHER
    if len(study.teachers) > 1:
        name = f"{state.cell.teacher.name}: {name}"
    images = [(each.settings.limit, each.settings.per_class) for each in study.evaluations]
    alike = images.count((evaluation.settings.limit, evaluation.settings.per_class)) > 1
    return f"{name} ({evaluation.name})" if alike else name


def shown_figures() -> dict[str, Figure]:
    """Key → figure shown under each attack."""
    return {key: each for key, each in board_figures().items() if not each.limit}


def _value(scores: Scores, figure: str) -> float | None:
    return scores.figures[board_figures(len(scores.per_class))[figure].key]
