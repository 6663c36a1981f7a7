"""The pages over everything published: their contents, and whether the written ones are current."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ferd_eval.io.files import make_folder, write_atomically
from ferd_eval.report import render
from ferd_eval.report.leaderboard.write import STYLE_AND_SCRIPT
from ferd_eval.report.published.csv import results_csv
from ferd_eval.report.published.index import HOW_TO_ADD, TITLE, Hub
from ferd_eval.report.published.markdown import markdown


def contents(hub: Hub) -> Mapping[str, bytes]:
    """Every file by its name; the same for the same published runs, whenever and wherever."""
    return {
        "index.md": markdown(hub).encode(),
        "results.csv": results_csv(hub).encode(),
        "index.html": page(hub).encode(),
    }


def page(hub: Hub) -> str:
    """One self-contained HTML file; every name is escaped, and links stay below the reports."""
    return render.page(
        "published.html.j2", **STYLE_AND_SCRIPT, hub=hub, title=TITLE, how_to_add=HOW_TO_ADD
    )


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
