"""Builds the view of a report from scorecards; every format renders it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.metrics import ErrorPattern, Scorecard, Scores, TargetedSuccess
from ferd_eval.metrics.scorecard import ClassScore
from ferd_eval.report.format import percent, span, whole
from ferd_eval.report.run.class_tables import class_table, group_table, profile_table
from ferd_eval.report.run.confusion_tables import (
    confusion_table,
    error_figures,
    error_table,
    targeted_table,
)
from ferd_eval.report.run.model import (
    AttackView,
    ClassLine,
    Heatmap,
    Run,
    RunView,
    SideBySide,
    View,
)
from ferd_eval.report.run.provenance import constants_table, cost_table, provenance_table
from ferd_eval.report.run.sanity_tables import audit_table, gap_table, in_order, trust_table
from ferd_eval.report.run.summary_tables import (
    inference_table,
    overall,
    side_by_side_table,
    summary,
)
from ferd_eval.report.run.targets import targets_view
from ferd_eval.report.run.text import headline_attack, sentences, strongest_shared


def view(runs: Sequence[Run]) -> View:
    """Build the report of one run, or the comparison of several."""
    assert runs, "a report needs at least one run"
    shared = (
        strongest_shared([run.scorecard for run in runs], [run.manifest for run in runs])
        if len(runs) > 1
        else None
    )
    views = tuple(_run_view(run, shared) for run in runs)
    if len(runs) == 1:
        dataset = runs[0].scorecard.dataset.get("name")
        title = f"Class-wise robustness of {runs[0].name}" + (f" on {dataset}" if dataset else "")
    else:
        title = f"Class-wise robustness of {len(runs)} runs"
    return View(title, views, summary(views), _side_by_side(views, shared))


def _side_by_side(runs: Sequence[RunView], shared: str | None) -> SideBySide | None:
    """Each class under the strongest attack that all runs met, else under the last."""
    if len(runs) < 2 or len({run.class_names for run in runs}) > 1:
        return None
    met = [attack for attack in runs[0].attacks if all(attack in run.attacks for run in runs)]
    if not met:
        return None
    attack = shared or met[-1]
    lines = tuple(
        tuple(run.attacks[attack].classes[first.index] for run in runs)
        for first in runs[0].attacks[attack].lowest_first
    )
    return SideBySide(side_by_side_table(attack, [run.name for run in runs], lines), lines)


def _run_view(run: Run, shared: str | None) -> RunView:
    """One run; `shared` is the strongest attack that it and the others met."""
    card, manifest = run.scorecard, run.manifest
    names = tuple(card.dataset["class_names"])
    attacks = {attack: _attack_view(attack, scores) for attack, scores in card.attacks.items()}
    assert attacks, "a run holds at least one attack"
    headline = shared or headline_attack(card, manifest)
    shown = headline or next(iter(attacks))
    return RunView(
        name=run.name,
        sentences=sentences(card, manifest, headline, shared=shared is not None),
        headline=headline,
        class_names=names,
        attacks=attacks,
        groups={
            grouping: {attack: _attack_view(attack, scores) for attack, scores in of.items()}
            for grouping, of in card.groups.items()
        },
        profiles=card.profile,
        confusions={
            attack: _confusion_map(scores.confusion) for attack, scores in card.attacks.items()
        },
        successes={
            attack: _success_map(scores.target)
            for attack, scores in card.attacks.items()
            if isinstance(scores.target, TargetedSuccess)
        },
        errors={
            attack: error_figures(scores.target)
            for attack, scores in card.attacks.items()
            if isinstance(scores.target, ErrorPattern)
        },
        checks=in_order(card.trust.checks),
        inference_table=inference_table(attacks[shown]),
        class_table=class_table(attacks, shown),
        trust_table=trust_table(card.trust.checks),
        audit_tables=tuple(
            audit_table(attack, scores.audit, names)
            for attack, scores in card.attacks.items()
            if scores.audit is not None and scores.audit.leaves_open
        ),
        gap_tables=tuple(map(gap_table, card.trust.gaps)),
        group_tables=tuple(
            group_table(grouping, of, card.attacks) for grouping, of in card.groups.items()
        ),
        profile_tables=tuple(
            profile_table(attack, profile) for attack, profile in card.profile.items()
        ),
        confusion_table=confusion_table(card.attacks),
        error_table=error_table(card.attacks[shown], shown),
        targeted_table=targeted_table(card.attacks),
        targets=targets_view(card.attacks),
        constants_table=constants_table(
            {attack: scores.constants for attack, scores in card.attacks.items()}
        ),
        cost_table=cost_table(manifest),
        provenance_table=provenance_table(card, manifest),
        warnings=_warnings(card, manifest),
    )


def _attack_view(attack: str, scores: Scores) -> AttackView:
    worst, suspects = scores.worst_class, scores.possibly_worst
    names = [each.name for each in scores.per_class]
    return AttackView(
        id=attack,
        overall={key: value for key, _, value in overall(scores)},
        intervals={key: span(ends) for key, ends in scores.intervals.items()},
        possibly_worst=None if suspects is None else tuple(names[i] for i in suspects),
        lowest=tuple(names[i] for i in (worst.index, *worst.tied)) if worst else (),
        classes=tuple(_class_line(each, suspects) for each in scores.per_class),
    )


def _class_line(each: ClassScore, suspects: tuple[int, ...] | None) -> ClassLine:
    low, high = each.wilson95 or (None, None)
    least, most = each.simultaneous95 or (None, None)
    known = each.accuracy is not None and each.drop is not None
    return ClassLine(
        index=each.index,
        name=each.name,
        n=whole(each.n),
        accuracy=percent(each.accuracy),
        low=percent(low),
        high=percent(high),
        least=percent(least),
        most=percent(most),
        possibly_worst=each.index in suspects if suspects is not None and each.n else None,
        drop=percent(each.drop),
        clean=percent((each.accuracy or 0) + (each.drop or 0) if known else None),
    )


def _confusion_map(counts_KK: NDArray[np.int64]) -> Heatmap:
    n_K = counts_KK.sum(axis=1)
    off_KK = counts_KK * ~np.eye(len(counts_KK), dtype=bool)
    rate_KK = off_KK / np.maximum(n_K, 1)[:, None]
    return Heatmap(_cells(counts_KK), tuple(n_K.tolist()), percent(float(rate_KK.max(initial=0))))


def _success_map(target: TargetedSuccess) -> Heatmap:
    hits_KK = np.rint(np.nan_to_num(target.success) * target.attempts).astype(np.int64)
    rates = target.success[~np.isnan(target.success)]
    return Heatmap(
        _cells(hits_KK),
        tuple(tuple(row) for row in target.attempts.tolist()),
        percent(float(rates.max(initial=0))),
    )


def _cells(counts_KK: NDArray[np.int64]) -> tuple[tuple[int, int, int], ...]:
    sources, targets = np.nonzero(counts_KK)
    found = counts_KK[sources, targets]
    return tuple(zip(sources.tolist(), targets.tolist(), found.tolist(), strict=True))


def _warnings(card: Scorecard, manifest: Mapping[str, Any]) -> tuple[str, ...]:
    found = [*map(str, manifest.get("warnings") or ()), *card.flags]
    first = next(iter(card.attacks.values()))
    empty = [each.name for each in first.per_class if each.n == 0]
    if empty:
        named = ", ".join(empty[:5]) + (" and more" if len(empty) > 5 else "")
        found.append(
            f"{len(empty)} of {len(first.per_class)} classes have no images and are left out of "
            f"every figure: {named}."
        )
    return tuple(found)
