"""Write a comparison's folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ferd_eval._version import __version__
from ferd_eval.io.files import make_folder, write_texts
from ferd_eval.io.json import to_json
from ferd_eval.report import render
from ferd_eval.report.comparison.build import comparison_view
from ferd_eval.report.comparison.model import ComparisonReport, ComparisonView
from ferd_eval.report.comparison.text import headline, sentences
from ferd_eval.report.render import CsvCell, csv_text, figure_rows
from ferd_eval.results.run_group import RunGroup

#: Ticks of the chart's axis, as shares of its reach.
_TICKS = (-1.0, -0.5, 0.0, 0.5, 1.0)

_CSV_COLUMNS = ("difference", "attack", "scope", "index", "name", "metric", "value", "printed")


def write_comparison(folder: Path, report: ComparisonReport) -> tuple[Path, ...]:
    """Write ``compare.json``, ``compare.md``, ``compare.csv`` and ``compare.html``.

    Returns:
        The files written.

    Raises:
        UserError: the folder cannot be written.
    """
    view = comparison_view(report)
    contents = {
        "compare.json": to_json(record(report)),
        "compare.md": render.text("compare.md.j2", view=view),
        "compare.csv": csv_text(_CSV_COLUMNS, _csv_rows(view)),
        "compare.html": comparison_page(view),
    }
    make_folder(folder)
    return write_texts(folder, contents)


def comparison_page(view: ComparisonView) -> str:
    """One self-contained page that looks like a report."""
    return render.page(
        "compare.html.j2",
        styles=("report.css", "compare.css"),
        scripts=("sort.js",),
        view=view,
        ticks=[((1 + share) / 2, _tick(share * view.reach)) for share in _TICKS],
    )


def _tick(points: float) -> str:
    sign = "+" if points > 0 else "\N{MINUS SIGN}" if points < 0 else ""
    return f"{sign}{100 * abs(points):g}"


def _csv_rows(view: ComparisonView) -> Iterator[tuple[CsvCell, ...]]:
    """One for each figure, in full precision and as printed."""
    direction, attack = view.direction, view.attack
    yield direction, attack, "overall", "", "", "verdict", view.verdict, view.verdict
    overall = {line.key: line.figures for line in view.overall} | dict(view.more)
    for key, figures in overall.items():
        yield from figure_rows(figures, direction, attack, "overall", "", key)
    for line in sorted(view.classes, key=lambda line: line.index):
        yield from figure_rows(line.figures, direction, attack, "class", line.index, line.name)
    for other, lines in view.by_attack.items():
        for line in lines if other != attack else ():
            yield from figure_rows(line.figures, direction, other, "overall", "", line.key)
    for direction, overall_lines in view.to_reference.items():
        for line in overall_lines:
            yield from figure_rows(line.figures, direction, attack, "overall", "", line.key)


def record(report: ComparisonReport) -> Mapping[str, Any]:
    """``compare.json``: differences are second − first, fractions in full precision."""
    reference = report.reference
    return {
        "ferd_eval": __version__,
        "verdict": str(report.comparison.verdict),
        "headline": headline(report),
        "sentences": sentences(report),
        "warnings": report.warnings,
        "first": _group(report.first),
        "second": _group(report.second),
        "attack": report.attack,
        "constants": report.constants,
        "paired": {"images": True, "seeds": report.by_seed, "said": report.pairing},
        "comparison": asdict(report.comparison),
        "by_attack": {attack: asdict(found) for attack, found in report.by_attack.items()},
        "reference": reference
        and {
            **_group(reference.group),
            "note": reference.note,
            "to_first": asdict(reference.to_first),
            "to_second": asdict(reference.to_second),
        },
    }


def _group(group: RunGroup) -> dict[str, Any]:
    seeds = group.recorded_seeds or [None] * len(group.runs)
    runs = []
    for folder, run, seed in zip(group.folders, group.runs, seeds, strict=True):
        manifest = run.manifest
        data = ("name", "n", "selection", "fingerprint")
        runs.append(
            {
                "folder": str(folder),
                "checkpoint": manifest.get("checkpoint"),
                "training_seed": seed,
                "attack_seed": manifest.get("seed"),
                "engine": manifest.get("engine"),
                "dataset": {key: manifest["dataset"].get(key) for key in data},
            }
        )
    return {"name": group.name, "runs": runs}
