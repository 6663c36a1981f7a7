"""Leaderboards: many runs in one table, rendered from one view in every format."""

from ferd_eval.report.leaderboard.build import leaderboard
from ferd_eval.report.leaderboard.latex import LatexStyle, misfit
from ferd_eval.report.leaderboard.model import ScoredGroup
from ferd_eval.report.leaderboard.reported import read_reported
from ferd_eval.report.leaderboard.terminal import render_terminal
from ferd_eval.report.leaderboard.write import record, write_leaderboard

__all__ = [
    "LatexStyle",
    "ScoredGroup",
    "leaderboard",
    "misfit",
    "read_reported",
    "record",
    "render_terminal",
    "write_leaderboard",
]
