"""Reports: one view of one or several runs, rendered to files and to the terminal."""

import sys
from pathlib import Path
from types import ModuleType

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


class _Package(ModuleType):
    """This package, which is the function ``ferd_eval.report`` as well: both have that name."""

    def __call__(
        self, folder: Path | str, groups: str | None = None, *, audit: bool = False
    ) -> tuple[Path, ...]:
        """As `ferd_eval.report.api.report`."""
        from ferd_eval.report.api import report

        return report(folder, groups, audit=audit)


sys.modules[__name__].__class__ = _Package
