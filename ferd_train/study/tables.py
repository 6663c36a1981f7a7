"""Figures of a study by row: means over seeds, and each row against the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from ferd_eval.errors import listed
from ferd_eval.metrics import Comparison, SeedMean, compare_methods, seed_mean
from ferd_eval.metrics.comparison.methods import FEWEST_SEEDS
from ferd_eval.metrics.figures import Figure, board_figures
from ferd_eval.report.leaderboard import ScoredGroup
from ferd_eval.report.leaderboard.model import TITLES
from ferd_eval.report.leaderboard.read import read_scored_group
from ferd_eval.results.outcomes import Outcomes
from ferd_train.study.definition import TEACHER, Evaluation, MethodRow, Study, TeacherSource
from ferd_train.study.status import TrialState


@dataclass(frozen=True, eq=False)
class TableRow:
    """A line of a table: a method's networks of one teacher, or the teacher itself (`row` None).

    Attributes:
        states: of its trials, in the order of the seeds.
        entries: finished ones by evaluation; none for an evaluation that no network has met.
    """

    teacher: TeacherSource
    row: MethodRow | None
    states: tuple[TrialState, ...]
    entries: Mapping[str, ScoredGroup]

    @property
    def name(self) -> str:
        """In the tables of its teacher."""
        return self.states[0].trial.row_name

    @property
    def trained(self) -> tuple[TrialState, ...]:
        return tuple(each for each in self.states if each.is_trained()) if self.row else ()

    def by_seed(self, column: AttackColumn) -> dict[int, Outcomes]:
        """Outcomes of the seeds that met the attack."""
        entry = self.entries.get(column.evaluation.name)
        if entry is None:
            return {}
        pairs = zip(entry.seeds, entry.runs, strict=True)
        return {seed: run for seed, run in pairs if seed is not None}

    def figure(self, column: AttackColumn, figure: str) -> tuple[SeedMean, int]:
        """Mean over the seeds that met the attack, and their number."""
        entry = self.entries.get(column.evaluation.name)
        if entry is None:
            return SeedMean(None, None), 0
        values = []
        for card in entry.cards:
            scores = card.attacks[column.attack]
            key = board_figures(len(scores.per_class))[figure].key
            values.append(scores.figures[key])
        return seed_mean(values), len(values)

    def seconds(self) -> tuple[float, float] | None:
        """Mean seconds of making images and of learning, of one student."""
        times = [state.training_time() for state in self.trained]
        if not times:
            return None
        return mean(each.making for each in times), mean(each.learning for each in times)


@dataclass(frozen=True)
class AttackColumn:
    """An attack of an evaluation, on so many images."""

    attack: str
    evaluation: Evaluation
    images: int

    @property
    def title(self) -> str:
        return TITLES.get(self.attack, self.attack)


def columns(rows: Sequence[TableRow], study: Study) -> tuple[AttackColumn, ...]:
    """Each attack once: where several evaluations have it, with the most images."""
    found: dict[str, AttackColumn] = {}
    for evaluation in study.evaluations:
        entries = [row.entries[evaluation.name] for row in rows if evaluation.name in row.entries]
        for attack in dict.fromkeys(attack for entry in entries for attack in entry.attacks):
            images = max(entry.cards[0].attacks[attack].n for entry in entries)
            if attack not in found or images > found[attack].images:
                found[attack] = AttackColumn(attack, evaluation, images)
    return tuple(found.values())


def study_rows(study: Study, of_all: Sequence[TrialState]) -> Iterator[TableRow]:
    """All rows with trials, teacher by teacher, the teacher itself first.

    Raises:
        UserError: the outcomes of a finished network are damaged.
    """
    for teacher in study.teachers:
        for row in (None, *study.rows):
            name = row.name if row else TEACHER
            own = tuple(
                each
                for each in of_all
                if (each.trial.teacher.name, each.trial.row_name) == (teacher.name, name)
            )
            if own:
                yield TableRow(teacher, row, own, _entries(own, study))


def _entries(own: Sequence[TrialState], study: Study) -> dict[str, ScoredGroup]:
    entries = {}
    for evaluation in study.evaluations:
        folders = [each.evaluation(evaluation) for each in own if each.is_scored(evaluation)]
        if folders:
            name = _board_name(own[0], evaluation, study)
            entries[evaluation.name] = read_scored_group(name, folders)
    return entries


def _board_name(state: TrialState, evaluation: Evaluation, study: Study) -> str:
    """In a leaderboard over all, with whatever sets rows apart."""
    name = state.trial.row_name
    if len(study.teachers) > 1:
        name = f"{state.trial.teacher.name}: {name}"
    images = [(each.settings.limit, each.settings.per_class) for each in study.evaluations]
    alike = images.count((evaluation.settings.limit, evaluation.settings.per_class)) > 1
    return f"{name} ({evaluation.name})" if alike else name


def shown_figures() -> dict[str, Figure]:
    """Key → figure shown under each attack."""
    return {key: each for key, each in board_figures().items() if not each.limit}


@dataclass(frozen=True, eq=False)
class AgainstBaseline:
    """A row against the baseline under one attack; not compared if both have too few seeds."""

    row: TableRow
    baseline: TableRow
    column: AttackColumn
    seeds: tuple[int, ...]
    found: Comparison | None

    @property
    def why_not(self) -> str:
        have = f"seeds {listed(tuple(map(str, self.seeds)))}" if self.seeds else "no seed"
        return (
            f"{self.row.name} and {self.baseline.name} have {have} in common under "
            f"{self.column.attack}; a verdict on methods needs {FEWEST_SEEDS} or more."
        )


def against_baseline(
    rows: Sequence[TableRow], shown: Sequence[AttackColumn], study: Study
) -> Iterator[AgainstBaseline]:
    """All rows but the baseline, teacher by teacher and attack by attack."""
    students = [row for row in rows if row.row is not None]
    for baseline in students:
        if baseline.name == study.baseline:
            others = [row for row in students if row.teacher == baseline.teacher]
            for column in shown:
                for row in others:
                    if row is not baseline:
                        yield _compare(baseline, row, column)


def _compare(baseline: TableRow, row: TableRow, column: AttackColumn) -> AgainstBaseline:
    first, second = baseline.by_seed(column), row.by_seed(column)
    seeds = tuple(seed for seed in first if seed in second)
    found = None
    if len(seeds) >= FEWEST_SEEDS:
        found = compare_methods(
            [first[seed] for seed in seeds],
            [second[seed] for seed in seeds],
            column.attack,
            by_seed=True,
        )
    return AgainstBaseline(row, baseline, column, seeds, found)
