"""Reports: one view of one or several runs, rendered to files and to the terminal."""

from ferd_eval.report.audit.appendix import write_appendix
from ferd_eval.report.format import FormattedValue, Table, percent, ratio
from ferd_eval.report.run.build import view
from ferd_eval.report.run.model import Run, View, as_run
from ferd_eval.report.run.terminal import render_terminal
from ferd_eval.report.run.write import scorecard_file, scorecards, write_report

__all__ = [
    "FormattedValue",
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
