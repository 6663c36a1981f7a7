"""``report.html``: one self-contained file that opens anywhere, offline."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ferd_eval.metrics.figures import AVERAGE, WORST_CLASS
from ferd_eval.report.format import Cell, FormattedValue, Table
from ferd_eval.report.run.build import AttackView, Heatmap, ProfileView, RunView, View

#: Ticks of an axis from 0 to 100 %: where, as a share of it, and what stands there.
_HUNDRED = tuple((percent / 100, str(percent)) for percent in (0, 25, 50, 75, 100))

#: Of an ε profile on a phone, in pixels: its axis, a character, and the least room between labels.
_AXIS, _CHARACTER, _ROOM = 300, 7, 6


def page(view: View) -> str:
    """Render the report; every name is escaped, and the charts' data is embedded once as JSON."""
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            view=view,
            profiles=[_profile_lines(run) for run in view.runs],
            hundred=_HUNDRED,
            style=style(),
            script=Markup(template_text("sort.js") + template_text("report.js")),
            data=script_json(chart_data(view)),
        )
    )


def environment() -> Environment:
    """Templates of HTML, which escape whatever is not marked as safe."""
    made = Environment(
        loader=PackageLoader("ferd_eval.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.tests["figure"] = _is_figure
    made.filters["nb"] = keep_units
    made.filters["zipped"] = zip
    return made


def style() -> Markup:
    """The style sheet of every page."""
    return Markup(template_text("report.css"))


def template_text(name: str) -> str:
    """A style sheet or script, as it is."""
    return (resources.files("ferd_eval.report") / "templates" / name).read_text(encoding="utf-8")


def chart_data(view: View) -> dict[str, Any]:
    """Return what the charts draw. Numbers that are read, not drawn, come printed, as text."""
    return {"runs": [_run_data(run) for run in view.runs]}


def script_json(value: Any) -> Markup:
    """JSON that may stand inside ``<script>``: no name can end the element or start another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def keep_units(text: str) -> str:
    """Keep a number and its per-cent sign, and ε and its value, on one line."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace(
        "ε = ", "ε\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
    )


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
        for profile, table in zip(run.profiles, run.profile_tables, strict=True)
    ]


def _lines(profile: ProfileView, table: Table, run: RunView) -> dict[str, Any]:
    clean = run.attacks.get("clean")
    start = [0.0] if clean else []
    at = [100 * eps / profile.eps[-1] for eps in (*start, *profile.eps)]

    def points(first: FormattedValue | None, values: Iterable[FormattedValue]) -> str:
        line = ([first] if first else []) + list(values)
        return " ".join(
            f"{x:.2f},{100 - 100 * figure.value:.2f}"
            for x, figure in zip(at, line, strict=True)
            if figure.value is not None
        )

    return {
        "table": table,
        "ticks": _ticks(at, [*(["0"] if clean else []), *profile.eps_text]),
        "average": points(clean.overall[AVERAGE.key] if clean else None, profile.average),
        "worst": points(clean.overall[WORST_CLASS.key] if clean else None, profile.worst_class),
        "classes": [
            {
                "name": name,
                "points": points(
                    clean.classes[i].accuracy if clean else None,
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


def _is_figure(cell: Cell) -> bool:
    return isinstance(cell, FormattedValue)
