"""Write a leaderboard's folder."""

from __future__ import annotations

from pathlib import Path

from ferd_eval.io.files import make_folder, write_texts
from ferd_eval.io.json import to_json
from ferd_eval.report import render
from ferd_eval.report.leaderboard.csv import long_csv
from ferd_eval.report.leaderboard.json import record
from ferd_eval.report.leaderboard.latex import latex
from ferd_eval.report.leaderboard.markdown import markdown
from ferd_eval.report.leaderboard.model import RULE, Leaderboard

#: Those of every page with boards.
STYLE_AND_SCRIPT = {"styles": ("report.css", "leaderboard.css"), "scripts": ("sort.js",)}


def write_leaderboard(folder: Path, board: Leaderboard) -> tuple[Path, ...]:
    """Write ``leaderboard`` as .md, .csv, .tex, .json and .html, the last of which opens best.

    Raises:
        UserError: the folder cannot be written.
    """
    contents = {
        "leaderboard.md": markdown(board),
        "leaderboard.csv": long_csv(board),
        "leaderboard.tex": latex(board),
        "leaderboard.json": to_json(record(board)),
        "leaderboard.html": page(board),
    }
    make_folder(folder)
    return write_texts(folder, contents)


def page(board: Leaderboard) -> str:
    """One self-contained HTML file that can be sorted; every name is escaped."""
    return render.page("leaderboard.html.j2", **STYLE_AND_SCRIPT, board=board, rule=RULE)
