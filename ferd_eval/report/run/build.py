"""Builds the view of a report from scorecards; every format renders it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ferd_eval.metrics import ClassScore
from ferd_eval.report.format import Table
from ferd_eval.report.run.class_tables import class_table, group_table, profile_table
from ferd_eval.report.run.confusion_tables import confusion_table, error_table, targeted_table
from ferd_eval.report.run.model import AttackView, Run, RunView, View
from ferd_eval.report.run.provenance import constants_table, cost_table, provenance_table
from ferd_eval.report.run.sanity_tables import audit_table, gap_table, in_order, trust_table
from ferd_eval.report.run.summary_tables import (
    inference_table,
    side_by_side_table,
    summary,
)
from ferd_eval.report.run.targets import targets_tables
from ferd_eval.report.run.text import headline_attack, sentences, strongest_shared


def view(runs: Sequence[Run]) -> View:
    """Build the report of one run, or the comparison of several."""
    assert runs, "a report needs at least one run"
    shared = strongest_shared(runs) if len(runs) > 1 else None
    views = tuple(_run_view(run, shared) for run in runs)
    if len(runs) == 1:
        dataset = runs[0].scorecard.dataset.get("name")
        title = f"Class-wise robustness of {runs[0].name}" + (f" on {dataset}" if dataset else "")
    else:
        title = f"Class-wise robustness of {len(runs)} runs"
    return View(title, views, summary(views), *_side_by_side(views, shared))


def _side_by_side(
    runs: Sequence[RunView], shared: str | None
) -> tuple[Table | None, tuple[tuple[ClassScore, ...], ...]]:
    """Each class under the strongest attack that all runs met, else under the last."""
    first = runs[0]
    met = [attack for attack in first.attacks if all(attack in run.attacks for run in runs)]
    if len(runs) < 2 or len({run.class_names for run in runs}) > 1 or not met:
        return None, ()
    attack = shared or met[-1]
    lines = tuple(
        tuple(run.attacks[attack].scores.per_class[line.index] for run in runs)
        for line in first.attacks[attack].lowest_first
    )
    return side_by_side_table(attack, [run.name for run in runs], lines), lines


def _run_view(run: Run, shared: str | None) -> RunView:
    """One run; `shared` is the strongest attack that it and the others met."""
    card, names = run.scorecard, run.scorecard.dataset["class_names"]
    attacks = {attack: AttackView(attack, scores) for attack, scores in card.attacks.items()}
    assert attacks, "a run holds at least one attack"
    headline = shared or headline_attack(run)
    shown = headline or next(iter(attacks))
    tables: dict[str, Sequence[Table | None]] = {
        "constants": [constants_table({a: scores.constants for a, scores in card.attacks.items()})],
        "inference": [inference_table(attacks[shown])],
        "classes": [class_table(attacks, shown)],
        "trust": [trust_table(card.trust.checks)],
        "audits": [audit_table(attack, of.audit, names) for attack, of in card.attacks.items()],
        "gaps": [gap_table(gap) for gap in card.trust.gaps],
        "groups": [group_table(name, of, card.attacks) for name, of in card.groups.items()],
        "profiles": [profile_table(attack, of) for attack, of in card.profile.items()],
        "confusion": [confusion_table(card.attacks)],
        "errors": [error_table(card.attacks[shown], shown)],
        "targeted": [targeted_table(card.attacks)],
        "targets": targets_tables(card.attacks),
        "cost": [cost_table(run.manifest)],
        "provenance": [provenance_table(card, run.manifest)],
    }
    return RunView(
        source=run,
        sentences=sentences(run, headline, shared=shared is not None),
        headline=headline,
        attacks=attacks,
        groups={
            grouping: {attack: AttackView(attack, scores) for attack, scores in of.items()}
            for grouping, of in card.groups.items()
        },
        checks=in_order(card.trust.checks),
        tables={part: tuple(filter(None, those)) for part, those in tables.items()},
        warnings=tuple(_warnings(run)),
    )


def _warnings(run: Run) -> Iterator[str]:
    yield from map(str, run.manifest.get("warnings") or ())
    yield from run.scorecard.flags
    first = next(iter(run.scorecard.attacks.values()))
    if empty := [each.name for each in first.per_class if each.n == 0]:
        named = ", ".join(empty[:5]) + (" and more" if len(empty) > 5 else "")
        yield (
            f"{len(empty)} of {len(first.per_class)} classes have no images and are left out of "
            f"every figure: {named}."
        )
