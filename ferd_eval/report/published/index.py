"""What the page over everything published says, before any format."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ferd_eval.report.format import NOTHING, Cell, Table, whole
from ferd_eval.report.published.link import Link
from ferd_eval.report.published.ranking import Ranking, rankings
from ferd_eval.report.published.run import PublishedRun

TITLE = "Published results"

HOW_TO_ADD = (
    "Every figure is computed anew from the counts of each class in the published scorecards. "
    "docs/publishing.md says how to add a run of your own."
)


@dataclass(frozen=True)
class LinkedTable:
    """A table whose cells may be links.

    Attributes:
        note: one sentence under it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell | Link, ...], ...]
    note: str = ""


@dataclass(frozen=True, eq=False)
class Hub:
    """Everything published.

    Attributes:
        doubts: what the runs' own checks warn of; None where there is nothing.
    """

    runs: tuple[PublishedRun, ...]
    reports: LinkedTable
    rankings: tuple[Ranking, ...]
    origins: LinkedTable
    doubts: Table | None


def hub(runs: Sequence[PublishedRun]) -> Hub:
    """Rank what can be compared, and say of everything where it is from."""
    return Hub(tuple(runs), _reports(runs), rankings(runs), _origins(runs), _doubts(runs))


def _reports(runs: Sequence[PublishedRun]) -> LinkedTable:
    rows = []
    for name in dict.fromkeys(run.place.report for run in runs):
        own = [run for run in runs if run.place.report == name]
        networks = {run.place.network for run in own}
        readme = f"{name}/README.md"
        there = any(run.readme == readme for run in own)
        rows.append(
            (
                Link(name, readme if there else name),
                whole(len(networks)),
                whole(len(own)),
                _listed(run.dataset for run in own),
                _listed(_eps(run) for run in own),
                _listed(str(run.training.seed) for run in own if run.training.seed is not None),
                _span([run.training.code.day for run in own]),
                _span([run.scored.day for run in own]),
                _listed(run.version for run in own),
            )
        )
    columns = (
        "Report", "Networks", "Evaluations", "Data set", "ε", "Training seeds", "Trained",
        "Scored", "ferd_eval",
    )  # fmt: skip
    return LinkedTable("Reports", columns, tuple(rows))


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


def _origins(runs: Sequence[PublishedRun]) -> LinkedTable:
    columns = (
        "Network", "Evaluation", "Images", "Seed", "Taught by", "Teacher", "Checkpoint SHA-256",
        "Architecture", "Trained", "Scored", "Report",
    )  # fmt: skip
    return LinkedTable(
        "Where the figures come from",
        columns,
        tuple(_origin(run) for run in runs),
        "Trained, Scored: day and commit of this code, as the run's own record has them; a dash "
        "where no record is published. * the checkpoint itself is published and has this digest; "
        "† the outcomes are, and give these counts.",
    )


def _origin(run: PublishedRun) -> tuple[Cell | Link, ...]:
    training = run.training
    teacher = " ".join(part for part in (training.teacher, training.teacher_sha256[:12]) if part)
    return (
        Link(str(run.place.network), str(run.place.network)),
        Link(
            (run.place.evaluation or "scorecard") + (" †" if run.outcomes else ""),
            run.page or str(run.place.file),
        ),
        whole(run.images),
        whole(training.seed),
        training.recipe or NOTHING,
        teacher or NOTHING,
        run.sha256[:12] + ("*" if run.weights else ""),
        run.architecture or NOTHING,
        str(training.code),
        str(run.scored),
        Link("README" if run.readme else NOTHING, run.readme),
    )


def _doubts(runs: Sequence[PublishedRun]) -> Table | None:
    rows = tuple(
        (str(run.place.network), run.place.evaluation or NOTHING, flag)
        for run in runs
        for flag in run.flags
    )
    if not rows:
        return None
    return Table(
        "What is in doubt",
        ("Network", "Evaluation", "Sign"),
        rows,
        "Signs that an attack says more of itself than of the network, from the runs' own checks.",
    )
