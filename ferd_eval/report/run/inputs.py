"""Runs as reports take them, from whatever a caller has of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ferd_eval.errors import UserError
from ferd_eval.metrics import scorecard
from ferd_eval.report.run.model import Run
from ferd_eval.results.outcomes import Outcomes

#: One run, several, or several by name.
Results = Outcomes | Run | Sequence[Outcomes | Run] | Mapping[str, Outcomes]


def as_run(name: str, outcomes: Outcomes) -> Run:
    """Outcomes with their figures."""
    groups = outcomes.manifest.get("groups") or {}
    card = scorecard(outcomes, {name: tuple(names) for name, names in groups.items()} or None)
    return Run(name, card, outcomes.manifest)


def as_runs(results: object) -> tuple[Run, ...]:
    """Runs with names of their own: the checkpoints', where the caller gives none.

    Raises:
        UserError: there is none, two share a name, or it is something else.
    """
    if isinstance(results, Mapping):
        runs = [_named(str(name), each) for name, each in results.items()]
    elif isinstance(results, Sequence) and not isinstance(results, str):
        runs = [_named("", each) for each in results]
    else:
        runs = [_named("", results)]
    names = [run.name for run in runs]
    if not runs:
        raise UserError("there is no run to report. Give one Outcomes or more.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two runs are called {twice[0]}. Give {{name: outcomes}} instead.")
    return tuple(runs)


def _named(name: str, result: object) -> Run:
    if isinstance(result, Run):
        return result
    if isinstance(result, Outcomes):
        recorded = (result.manifest.get("checkpoint") or {}).get("name")
        return as_run(name or str(recorded or "run"), result)
    raise UserError(
        f"a report is made from Outcomes, not from a {type(result).__name__}. Give what "
        "ferd_eval.score returns, or Outcomes.load(DIR) reads."
    )
