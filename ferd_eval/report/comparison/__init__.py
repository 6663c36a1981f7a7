"""Reports of a comparison: one view of two sides, rendered to files and to the terminal."""

from ferd_eval.report.comparison.build import ComparisonView, comparison_view
from ferd_eval.report.comparison.json import record
from ferd_eval.report.comparison.model import Contest, Contestant, Reference
from ferd_eval.report.comparison.terminal import render_comparison
from ferd_eval.report.comparison.write import write_comparison

__all__ = [
    "ComparisonView",
    "Contest",
    "Contestant",
    "Reference",
    "comparison_view",
    "record",
    "render_comparison",
    "write_comparison",
]
