"""``report.html``: one self-contained file that opens anywhere, offline."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup

from ferd_eval.io.escape import script_json
from ferd_eval.metrics import Profile
from ferd_eval.metrics.figures import AVERAGE, WORST_CLASS
from ferd_eval.report import render
from ferd_eval.report.format import Table
from ferd_eval.report.run.model import AttackView, Heatmap, RunView, View

#: Ticks of an axis from 0 to 100 %: where, as a share of it, and what stands there.
_HUNDRED = tuple((percent / 100, str(percent)) for percent in (0, 25, 50, 75, 100))

#: Of an ε profile on a phone, in pixels: its axis, a character, and the least room between labels.
_AXIS, _CHARACTER, _ROOM = 300, 7, 6


def page(view: View) -> str:
    """Render the report; the charts' data is embedded once as JSON."""
    return render.page(
        "report.html.j2",
        styles=("report.css",),
        scripts=("sort.js", "report.js"),
        view=view,
        profiles=[_profile_lines(run) for run in view.runs],
        hundred=_HUNDRED,
        data=Markup(script_json(chart_data(view))),
    )


def chart_data(view: View) -> dict[str, Any]:
    """Return what the charts draw. Numbers that are read, not drawn, come printed, as text."""
    return {"runs": [_run_data(run) for run in view.runs]}


def _run_data(run: RunView) -> dict[str, Any]:
    return {
        "name": run.name,
        "classes": run.class_names,
        "shown": run.shown.id,
        "attacks": {attack: _attack_data(shown) for attack, shown in run.attacks.items()},
        "confusions": {attack: _map_data(of) for attack, of in run.confusions.items()},
        "successes": {attack: _map_data(of) for attack, of in run.successes.items()},
    }


def _attack_data(shown: AttackView) -> dict[str, Any]:
    """Columns over classes: value, lower and upper end, clean value, and their printed forms."""
    lines = shown.classes
    return {
        "n": [line.n.value for line in lines],
        "accuracy": [line.accuracy.value for line in lines],
        "low": [line.low.value for line in lines],
        "high": [line.high.value for line in lines],
        "clean": [line.clean.value for line in lines],
        "worst": [line.possibly_worst for line in lines],
        "text": [
            [line.accuracy.text, line.low.text, line.high.text, line.clean.text] for line in lines
        ],
    }


def _map_data(of: Heatmap) -> dict[str, Any]:
    return {
        "cells": [number for cell in of.cells for number in cell],
        "outOf": of.out_of,
        "peak": of.peak.value,
        "peakText": of.peak.text,
    }


def _profile_lines(run: RunView) -> list[dict[str, Any]]:
    """Geometry of the ε profiles on a 100 × 100 canvas; clean images stand at ε = 0."""
    return [
        _lines(profile, table, run)
        for profile, table in zip(run.profiles.values(), run.profile_tables, strict=True)
    ]


def _lines(profile: Profile, table: Table, run: RunView) -> dict[str, Any]:
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
        return clean.overall[key].value if clean else None

    return {
        "table": table,
        "ticks": _ticks(at, [*(["0"] if clean else []), *profile.eps_text]),
        "average": points(start(AVERAGE.key), profile.average),
        "worst": points(start(WORST_CLASS.key), profile.worst_class),
        "classes": [
            {
                "name": name,
                "points": points(
                    clean.classes[i].accuracy.value if clean else None,
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
