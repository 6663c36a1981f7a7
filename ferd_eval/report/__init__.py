"""Reports: one view of one or several runs, rendered to files and to the terminal."""

from ferd_eval.report.figure import Figure, Table, percent, ratio
from ferd_eval.report.runs import as_run
from ferd_eval.report.terminal import render_terminal
from ferd_eval.report.view import Run, View, view
from ferd_eval.report.write import scorecard_file, scorecards, write_report
from ferd_eval.report.write_appendix import write_appendix

__all__ = [
    "Figure",
    "Run",
    "Table",
    "View",
    "as_run",
    "percent",
    "ratio",
    "render_terminal",
    "scorecard_file",
    "scorecards",
    "view",
    "write_appendix",
    "write_report",
]
