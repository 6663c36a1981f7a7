"""The pages over everything published: their contents, and whether the written ones are current."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferd_eval.io.files import make_folder, write_atomically
from ferd_eval.metrics.figures import WORST_CLASS, published_figures
from ferd_eval.report import render
from ferd_eval.report.leaderboard.write import STYLE_AND_SCRIPT
from ferd_eval.report.published.counts import PublishedAttack
from ferd_eval.report.published.index import HOW_TO_ADD, TITLE, Hub
from ferd_eval.report.published.run import PublishedRun
from ferd_eval.report.render import csv_text


def contents(hub: Hub) -> Mapping[str, bytes]:
    """Every file by its name; the same for the same published runs, whenever and wherever."""
    of: dict[str, Any] = {"hub": hub, "title": TITLE, "how_to_add": HOW_TO_ADD}
    files = {
        "index.md": render.text("published.md.j2", **of),
        "results.csv": results_csv(hub),
        "index.html": render.page("published.html.j2", **STYLE_AND_SCRIPT, **of),
    }
    return {name: text.encode() for name, text in files.items()}


def write_site(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write the files; return the path of the page.

    Raises:
        UserError: the folder cannot be written.
    """
    make_folder(folder)
    for name, content in files.items():
        write_atomically(folder / name, content)
    return folder / "index.html"


def stale(folder: Path, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Files that are missing, stale or foreign, each in a few words."""
    found = []
    for name, content in sorted(files.items()):
        file = folder / name
        if not file.is_file():
            found.append(f"{file} is missing")
        elif file.read_bytes() != content:
            found.append(f"{file} is stale")
    if folder.is_dir():
        others = sorted(each.name for each in folder.iterdir() if each.name not in files)
        found += [f"{folder / name} is not one of its files" for name in others]
    return tuple(found)


def results_csv(hub: Hub) -> str:
    """``results.csv``: a line for each network, evaluation and attack; accuracies are fractions.

    Values have six decimals: no spreadsheet needs more, and no library disagrees on them.
    """
    lines = [_line(run, of) for run in hub.runs for of in run.attacks]
    return csv_text(lines[0], (line.values() for line in lines))


def _line(run: PublishedRun, of: PublishedAttack) -> dict[str, str]:
    place, training = run.place, run.training
    marks = {
        "in-doubt": run.flags,
        "audited": of.is_open,
        "imported": run.imported,
        "real-images": training.real_images,
    }
    return {
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
        "n": str(of.scores.n),
        **_figures(of),
        "marks": " ".join(mark for mark, holds in marks.items() if holds),
        "ferd_eval": run.version,
        "scored": run.scored.day,
        "scored_commit": run.scored.full,
        "trained": training.code.day,
        "trained_commit": training.code.full,
    }


def _figures(of: PublishedAttack) -> dict[str, str]:
    cells = {}
    for figure in published_figures():
        low, high = of.scores.intervals.get(figure.interval_key) or (None, None)
        ends = {"_low": low, "_high": high} if figure.interval else {}
        for suffix, value in {"": of.scores.figures[figure.key], **ends}.items():
            cells[figure.key + suffix] = "" if value is None else f"{value:.6f}"
        if figure is WORST_CLASS:
            cells[f"{figure.key}_name"] = "; ".join(of.lowest)
            cells["possibly_worst"] = "; ".join(of.possibly_worst or ())
    return cells
