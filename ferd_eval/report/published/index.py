"""The content of the page over everything published, before any format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ferd_eval.report.format import NOTHING, Cell, Link, Table, whole
from ferd_eval.report.leaderboard.notes import doubts_table
from ferd_eval.report.published.ranking import Ranking, rankings
from ferd_eval.report.published.run import PublishedRun

TITLE = "Published results"

HOW_TO_ADD = (
    "Every figure is computed anew from the counts of each class in the published scorecards. "
    "docs/publishing.md says how to add a run of your own."
)


@dataclass(frozen=True, eq=False)
class Hub:
    """Everything published.

    Attributes:
        reports, origins: tables whose cells may be a `Link`.
        doubts: warnings of the runs' own checks.
    """

    runs: tuple[PublishedRun, ...]
    reports: Table
    rankings: tuple[Ranking, ...]
    origins: Table
    doubts: Table


def hub(runs: Sequence[PublishedRun]) -> Hub:
    """Rank what can be compared, and list the origin of everything."""
    doubts = tuple(
        (str(run.place.network), run.place.evaluation or NOTHING, flag)
        for run in runs
        for flag in run.flags
    )
    origins = Table.of(
        "Where the figures come from",
        map(_origin, runs),
        "Trained, Scored: day and commit of this code, as the run's own record has them; a dash "
        "where no record is published. * the checkpoint itself is published and has this digest; "
        "† the outcomes are, and give these counts.",
    )
    return Hub(
        tuple(runs),
        _reports(runs),
        rankings(runs),
        origins,
        doubts_table(("Network", "Evaluation"), doubts),
    )


def _reports(runs: Sequence[PublishedRun]) -> Table:
    rows: list[dict[str, Cell]] = []
    for name in dict.fromkeys(run.place.report for run in runs):
        own = [run for run in runs if run.place.report == name]
        readme = f"{name}/README.md"
        seeds = (run.training.seed for run in own)
        rows.append(
            {
                "Report": Link(name, readme if any(run.readme == readme for run in own) else name),
                "Networks": whole(len({run.place.network for run in own})),
                "Evaluations": whole(len(own)),
                "Data set": _listed(run.dataset for run in own),
                "ε": _listed(_eps(run) for run in own),
                "Training seeds": _listed(str(seed) for seed in seeds if seed is not None),
                "Trained": _span([run.training.code.day for run in own]),
                "Scored": _span([run.scored.day for run in own]),
                "ferd_eval": _listed(run.version for run in own),
            }
        )
    return Table.of("Reports", rows)


def _listed(values: Iterable[str]) -> str:
    found = sorted({value for value in values if value})
    return ", ".join(found) or NOTHING


def _eps(run: PublishedRun) -> str:
    texts = {
        str(each.constants.get("eps_text") or f"{each.eps:.6g}")
        for each in run.attacks
        if each.eps is not None
    }
    return ", ".join(sorted(texts))


def _span(days: Sequence[str]) -> str:
    known = sorted({day for day in days if day})
    if not known:
        return NOTHING
    return known[0] if len(known) == 1 else f"{known[0]} to {known[-1]}"


def _origin(run: PublishedRun) -> dict[str, Cell]:
    place, training = run.place, run.training
    teacher = " ".join(part for part in (training.teacher, training.teacher_sha256[:12]) if part)
    evaluation = (place.evaluation or "scorecard") + (" †" if run.outcomes else "")
    return {
        "Network": Link(str(place.network), str(place.network)),
        "Evaluation": Link(evaluation, run.page or str(place.file)),
        "Images": whole(run.images),
        "Seed": whole(training.seed),
        "Taught by": training.recipe or NOTHING,
        "Teacher": teacher or NOTHING,
        "Checkpoint SHA-256": run.sha256[:12] + ("*" if run.weights else ""),
        "Architecture": run.architecture or NOTHING,
        "Trained": str(training.code),
        "Scored": str(run.scored),
        "Report": Link("README" if run.readme else NOTHING, run.readme),
    }
