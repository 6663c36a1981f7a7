"""``report.csv`` (long, full precision) and ``report_wide.csv`` (one row for each class)."""

from __future__ import annotations

from collections.abc import Iterator

from ferd_eval.metrics import ErrorPattern, TargetExcess
from ferd_eval.metrics.confusion.target_bias import ShareChange
from ferd_eval.report.format import ends, percent, whole
from ferd_eval.report.render import CsvCell, csv_text, figure_rows
from ferd_eval.report.run.confusion_tables import error_figures
from ferd_eval.report.run.model import AttackView, RunView, View
from ferd_eval.report.run.summary_tables import overall_figures
from ferd_eval.report.run.targets import class_figures, toward_figures

_LONG_COLUMNS = (
    "run", "attack", "scope", "grouping", "index", "name", "metric", "value", "printed",
)  # fmt: skip

_Rows = Iterator[tuple[CsvCell, ...]]


def long_csv(view: View) -> str:
    """One row for each figure: ``value`` as in ``scorecard.json``, ``printed`` as in the report."""
    return csv_text(_LONG_COLUMNS, (row for run in view.runs for row in _long_rows(run)))


def wide_csv(view: View) -> str:
    """One row for each class of each run, accuracies and 95 % interval ends in per cent."""
    attacks = tuple(dict.fromkeys(attack for run in view.runs for attack in run.attacks))
    headings = [f"{attack}{end}" for attack in attacks for end in ("", " low", " high")]
    return csv_text(
        ("run", "index", "class", "images", *headings),
        (row for run in view.runs for row in _wide_rows(run, attacks)),
    )


def _wide_rows(run: RunView, attacks: tuple[str, ...]) -> Iterator[list[CsvCell]]:
    for i, name in enumerate(run.class_names):
        row: list[CsvCell] = [run.name, i, name, whole(run.shown.scores.per_class[i].n)]
        for attack in attacks:
            of = run.attacks[attack].scores.per_class[i] if attack in run.attacks else None
            row += [percent(of.accuracy), *ends(of.wilson95)] if of else [None, None, None]
        yield row


def _long_rows(run: RunView) -> _Rows:
    for attack, shown in run.attacks.items():
        scores = run.source.scorecard.attacks[attack]
        yield from _attack_rows(run.name, shown, "class", "")
        if isinstance(scores.target, ErrorPattern):
            errors = error_figures(scores.target)
            for i, (name, figures) in enumerate(zip(run.class_names, errors, strict=True)):
                yield from figure_rows(figures, run.name, attack, "class", "", i, name)
        if scores.toward is not None:
            overall = toward_figures(scores.toward)
            targets: tuple[TargetExcess | ShareChange, ...] = scores.toward.per_target
            yield from figure_rows(overall, run.name, attack, "overall", "", "", "")
            for i, each in enumerate(targets):
                yield from figure_rows(
                    class_figures(each), run.name, attack, "class", "", i, each.name
                )
    for grouping, of in run.groups.items():
        for shown in of.values():
            yield from _attack_rows(run.name, shown, "group", grouping)


def _attack_rows(run: str, shown: AttackView, scope: str, grouping: str) -> _Rows:
    """Figures over all classes (with a grouping: over its groups), then of each."""
    yield from figure_rows(
        overall_figures(shown.scores), run, shown.id, "overall", grouping, "", ""
    )
    for each in shown.scores.per_class:
        suspect = shown.is_suspect(each)
        figures = {"n": whole(each.n), "accuracy": percent(each.accuracy)}
        for name in ("wilson95", "simultaneous95"):
            low, high = ends(getattr(each, name))
            figures |= {f"{name}_low": low, f"{name}_high": high}
        figures["possibly_worst"] = whole(None if suspect is None else int(suspect))
        figures["drop"] = percent(each.drop)
        yield from figure_rows(figures, run, shown.id, scope, grouping, each.index, each.name)
