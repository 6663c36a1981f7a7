"""The trials of a recipe: an ordinary student run each, in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ferd_eval.errors import UserError
from ferd_eval.results.manifest import read_manifest
from ferd_train.config.recipe import flat
from ferd_train.monitoring.epoch_log import StudentLog
from ferd_train.recipes.student import StudentRecipe
from ferd_train.study.definition import MethodRow, TeacherSource, Trial
from ferd_train.study.status import TrialState
from ferd_train.tuning.space import Space, draw


@dataclass(frozen=True)
class Candidate:
    """A trial with its values of what varies, by name as in a recipe's file.

    Attributes:
        number: 0 for the recipe unchanged.
        drawn: its changes to the recipe; none of trial 0.
    """

    number: int
    drawn: Mapping[str, Any]
    values: Mapping[str, Any]
    state: TrialState

    @property
    def name(self) -> str:
        return f"trial {self.number}"

    @property
    def words(self) -> str:
        """Its values."""
        return words(self.values) + (" (unchanged)" if self.number == 0 else "")

    @property
    def recipe(self) -> StudentRecipe:
        return self.state.trial.recipe

    def last_log(self) -> StudentLog | None:
        """Figures of the last epoch; None unless the run is finished."""
        record = read_manifest(self.state.run, frozenset({"status"})) or {}
        if record.get("status") != "finished":
            return None
        result, known = record["result"], {each.name for each in fields(StudentLog)}
        return StudentLog(**{name: result[name] for name in known & result.keys()})


def candidates(
    recipe: StudentRecipe, space: Space, seed: int, count: int, teacher: TeacherSource, out: Path
) -> tuple[list[Candidate], dict[int, int]]:
    """The trials; and number → earlier number of those left out because they draw the same.

    Raises:
        UserError: some values are wrong, or do not go with each other.
    """
    made: dict[tuple[object, ...], Candidate] = {}
    repeats: dict[int, int] = {}
    for number in range(count):
        drawn = draw(space, seed, number)
        try:
            changed = recipe.with_changes(drawn)
        except UserError as reason:
            raise UserError(f"trial {number} ({words(drawn)}): {reason}") from reason
        known = flat(changed)
        key = tuple(known.items())
        if key in made:
            repeats[number] = made[key].number
            continue
        trial = Trial(teacher, MethodRow(f"trial-{number}", "", changed), changed.seed)
        state = TrialState(trial, out / f"trial-{number}")
        made[key] = Candidate(number, drawn, {name: known[name] for name in space}, state)
    return [*made.values()], repeats


def words(values: Mapping[str, Any]) -> str:
    """Values by the shortest names that tell them apart: ``lr 0.2, lambda_oh 12``."""
    lasts = [name.rpartition(".")[2] for name in values]
    return ", ".join(
        f"{last if lasts.count(last) == 1 else name} {_text(value)}"
        for (name, value), last in zip(values.items(), lasts, strict=True)
    )


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
