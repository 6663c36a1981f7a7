"""``report.html``: one self-contained file that opens anywhere, offline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ferd_eval.io.escape import script_json
from ferd_eval.metrics import Profile, TargetedSuccess
from ferd_eval.metrics.figures import AVERAGE, WORST_CLASS
from ferd_eval.report import render
from ferd_eval.report.format import Table, ends, percent
from ferd_eval.report.run.model import AttackView, RunView, View

#: Ticks of an axis from 0 to 100 %: where, as a share of it, and its label.
_HUNDRED = tuple((at / 100, str(at)) for at in (0, 25, 50, 75, 100))

#: Of an ε profile on a phone, in pixels: its axis, a character, and the least room between labels.
_AXIS, _CHARACTER, _ROOM = 300, 7, 6


def page(view: View) -> str:
    """Render the report; the charts' data is embedded once as JSON."""
    charts = {"runs": [_run_data(run) for run in view.runs]}
    return render.page(
        "report.html.j2",
        styles=("report.css",),
        scripts=("sort.js", "report.js"),
        view=view,
        profiles=[_profile_lines(run) for run in view.runs],
        hundred=_HUNDRED,
        charts=charts,
        data=Markup(script_json(charts)),
    )


def _run_data(run: RunView) -> dict[str, Any]:
    """Data of the charts; numbers that are read rather than drawn come as printed."""
    scores = run.source.scorecard.attacks
    return {
        "name": run.name,
        "classes": run.class_names,
        "shown": run.shown.id,
        "attacks": {attack: _attack_data(shown) for attack, shown in run.attacks.items()},
        "confusions": {attack: _confusion_map(of.confusion) for attack, of in scores.items()},
        "successes": {
            attack: _success_map(of.target)
            for attack, of in scores.items()
            if isinstance(of.target, TargetedSuccess)
        },
    }


def _attack_data(shown: AttackView) -> dict[str, Any]:
    """Columns over classes: value, lower and upper end, clean value, and their printed forms."""
    classes = shown.scores.per_class
    clean = [shown.clean(each) for each in classes]
    printed = [
        (percent(each.accuracy), *ends(each.wilson95), percent(without))
        for each, without in zip(classes, clean, strict=True)
    ]
    return {
        "n": [each.n for each in classes],
        "accuracy": [each.accuracy for each in classes],
        "low": [low.value for _, low, _, _ in printed],
        "high": [high.value for _, _, high, _ in printed],
        "clean": clean,
        "worst": [shown.is_suspect(each) for each in classes],
        "text": [[figure.text for figure in of_class] for of_class in printed],
    }


def _confusion_map(counts_KK: NDArray[np.int64]) -> dict[str, Any]:
    """Its highest rate is that off the diagonal."""
    n_K = counts_KK.sum(axis=1)
    off_KK = counts_KK * ~np.eye(len(counts_KK), dtype=bool)
    rate_KK = off_KK / np.maximum(n_K, 1)[:, None]
    return _heatmap(counts_KK, n_K, rate_KK)


def _success_map(target: TargetedSuccess) -> dict[str, Any]:
    success_KK = np.nan_to_num(target.success)
    hits_KK = np.rint(success_KK * target.attempts).astype(np.int64)
    return _heatmap(hits_KK, target.attempts, success_KK)


def _heatmap(
    counts_KK: NDArray[np.int64], out_of: NDArray[np.int64], rate_KK: NDArray[np.float64]
) -> dict[str, Any]:
    """A K × K picture: counts, their totals, and the highest rate.

    Args:
        out_of: K totals of the rows, or K × K totals of the cells.

    Returns:
        ``cells`` holds source, target and count in turn, where the count is not 0.
    """
    sources, targets = np.nonzero(counts_KK)
    cells = np.stack([sources, targets, counts_KK[sources, targets]], axis=1)
    peak = percent(float(rate_KK.max(initial=0)))
    return {
        "cells": cells.ravel().tolist(),
        "outOf": out_of.tolist(),
        "peak": peak.value,
        "peakText": peak.text,
    }


def _profile_lines(run: RunView) -> list[dict[str, Any]]:
    profiles = zip(run.source.scorecard.profile.values(), run.tables["profiles"], strict=True)
    return [_lines(profile, table, run) for profile, table in profiles]


def _lines(profile: Profile, table: Table, run: RunView) -> dict[str, Any]:
    """Geometry of an ε profile on a 100 × 100 canvas; clean images stand at ε = 0."""
    clean = run.attacks.get("clean")
    at = [100 * eps / profile.eps[-1] for eps in (*([0.0] if clean else []), *profile.eps)]

    def points(start: float | None, values: Iterable[float | None]) -> str:
        line = [*([start] if clean else []), *values]
        return " ".join(
            f"{x:.2f},{100 - 100 * value:.2f}"
            for x, value in zip(at, line, strict=True)
            if value is not None
        )

    def start(key: str) -> float | None:
        return clean.scores.figures[key] if clean else None

    return {
        "table": table,
        "ticks": _ticks(at, [*(["0"] if clean else []), *profile.eps_text]),
        "average": points(start(AVERAGE.key), profile.average),
        "worst": points(start(WORST_CLASS.key), profile.worst_class),
        "classes": [
            {
                "name": name,
                "points": points(
                    clean.scores.per_class[i].accuracy if clean else None,
                    (each[i] for each in profile.per_class),
                ),
            }
            for i, name in enumerate(run.class_names)
        ],
    }


def _ticks(at: Sequence[float], texts: Sequence[str]) -> list[tuple[float, str]]:
    """The labels of an axis from 0 to 100 that do not run into one another, its ends first."""

    def apart(one: tuple[float, str], other: tuple[float, str]) -> bool:
        half = _CHARACTER * (len(one[1]) + len(other[1])) / 2
        return abs(one[0] - other[0]) * _AXIS >= half + _ROOM

    first, *others = ((round(x / 100, 4), text) for x, text in zip(at, texts, strict=True))
    kept = [first]
    for tick in reversed(others):
        if all(apart(tick, other) for other in kept):
            kept.append(tick)
    return kept
