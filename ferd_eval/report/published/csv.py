"""``results.csv``: a line for each network, evaluation and attack; accuracies are fractions."""

from __future__ import annotations

from collections.abc import Iterator

from ferd_eval.metrics.figures import WORST_CLASS, published_figures
from ferd_eval.report.published.counts import ClassCounts
from ferd_eval.report.published.index import Hub
from ferd_eval.report.published.run import CodeState, PublishedRun
from ferd_eval.report.run.csv import as_csv, guard

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
    return as_csv(_columns(), (_line(run, counts) for run in hub.runs for counts in run.attacks))


def _line(run: PublishedRun, counts: ClassCounts) -> list[str]:
    place, training = run.place, run.training
    possibly = counts.possibly_worst
    texts = {
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
        "eps": "" if counts.eps is None else f"{counts.eps:.9g}",
        "attack": counts.attack,
        "n": str(counts.n),
        _LOWEST: "; ".join(counts.lowest),
        _POSSIBLY: "" if possibly is None else "; ".join(possibly),
        "marks": " ".join(_marks(run, counts)),
        "ferd_eval": run.version,
        "scored": run.scored.day,
        "scored_commit": _commit(run.scored),
        "trained": training.code.day,
        "trained_commit": _commit(training.code),
    }
    numbers = dict(_numbers(counts))
    # What we computed is a number; all else is text of unknown hands.
    return [numbers[name] if name in numbers else guard(texts[name]) for name in _columns()]


def _numbers(counts: ClassCounts) -> Iterator[tuple[str, str]]:
    for figure in published_figures():
        low, high = counts.interval(figure) or (None, None)
        value = counts.value(figure)
        for suffix, number in {"": value, "_low": low, "_high": high}.items():
            yield figure.key + suffix, "" if number is None else f"{number:.6f}"


def _marks(run: PublishedRun, counts: ClassCounts) -> Iterator[str]:
    if run.flags:
        yield "in-doubt"
    if counts.open_ends is not None:
        yield "audited"
    if run.imported:
        yield "imported"
    if run.training.real_images:
        yield "real-images"


def _commit(code: CodeState) -> str:
    return code.commit + ("+changes" if code.dirty else "")
