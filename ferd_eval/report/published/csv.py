"""``results.csv``: a line for each network, evaluation and attack; accuracies are fractions."""

from __future__ import annotations

from collections.abc import Iterator

from ferd_eval.metrics.figures import WORST_CLASS, published_figures
from ferd_eval.report.published.counts import PublishedAttack
from ferd_eval.report.published.index import Hub
from ferd_eval.report.published.run import CodeState, PublishedRun
from ferd_eval.report.render import csv_text

_LOWEST, _POSSIBLY = f"{WORST_CLASS.key}_name", "possibly_worst"
_BEFORE = (
    "report", "network", "evaluation", "folder", "method", "taught_by", "seed", "teacher",
    "teacher_sha256", "checkpoint_sha256", "checkpoint_published", "architecture", "dataset",
    "selection", "fingerprint", "eps", "attack", "n",
)  # fmt: skip
_AFTER = ("marks", "ferd_eval", "scored", "scored_commit", "trained", "trained_commit")


def _columns() -> Iterator[str]:
    yield from _BEFORE
    for figure in published_figures():
        ends = ("", "_low", "_high") if figure.interval else ("",)
        yield from (figure.key + end for end in ends)
        if figure is WORST_CLASS:
            yield from (_LOWEST, _POSSIBLY)
    yield from _AFTER


def results_csv(hub: Hub) -> str:
    """Values with six decimals: no spreadsheet needs more, and no library disagrees on them."""
    return csv_text(_columns(), (_line(run, of) for run in hub.runs for of in run.attacks))


def _line(run: PublishedRun, of: PublishedAttack) -> list[str]:
    place, training, scores = run.place, run.training, of.scores
    cells = {}
    for figure in published_figures():
        low, high = scores.intervals.get(figure.interval_key) or (None, None)
        values = {"": scores.figures[figure.key], "_low": low, "_high": high}
        for suffix, value in values.items():
            cells[figure.key + suffix] = "" if value is None else f"{value:.6f}"
    cells |= {
        "report": place.report,
        "network": str(place.network),
        "evaluation": place.evaluation,
        "folder": str(place.file.parent),
        "method": place.method,
        "taught_by": training.recipe,
        "seed": "" if training.seed is None else str(training.seed),
        "teacher": training.teacher,
        "teacher_sha256": training.teacher_sha256,
        "checkpoint_sha256": run.sha256,
        "checkpoint_published": str(int(run.weights)),
        "architecture": run.architecture,
        "dataset": run.dataset,
        "selection": run.selection,
        "fingerprint": run.fingerprint,
        "eps": "" if of.eps is None else f"{of.eps:.9g}",
        "attack": of.attack,
        "n": str(scores.n),
        _LOWEST: "; ".join(of.lowest),
        _POSSIBLY: "; ".join(of.possibly_worst or ()),
        "marks": " ".join(_marks(run, of)),
        "ferd_eval": run.version,
        "scored": run.scored.day,
        "scored_commit": _commit(run.scored),
        "trained": training.code.day,
        "trained_commit": _commit(training.code),
    }
    return [cells[name] for name in _columns()]


def _marks(run: PublishedRun, of: PublishedAttack) -> Iterator[str]:
    if run.flags:
        yield "in-doubt"
    if of.is_open:
        yield "audited"
    if run.imported:
        yield "imported"
    if run.training.real_images:
        yield "real-images"


def _commit(code: CodeState) -> str:
    return code.commit + ("+changes" if code.dirty else "")
