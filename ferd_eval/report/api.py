"""Reports on run folders: read outcomes, compute, write, show. No torch on this path."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ferd_eval.io.json import parse_json, to_json
from ferd_eval.report import (
    Run,
    as_run,
    render_terminal,
    scorecard_file,
    scorecards,
    view,
    write_appendix,
    write_report,
)
from ferd_eval.results.class_groups import read_groups
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.results.run_folder import find_runs
from ferd_eval.runtime.console import console

#: Files of a complete report folder, beside the scorecards.
REPORT_FILES = ("report.md", "report.csv", "report_wide.csv", "report.html")


def report_folder(folder: Path, groups: str | None, *, audit: bool = False, as_json: bool) -> None:
    """Write the reports of one run, or of each run in a folder and one over all, and show them.

    Args:
        audit: whether to write an audit appendix beside the report of each run.
    """
    found = find_runs(folder)
    runs = _with_own_names(found.runs, [read_run(each, groups) for each in found.runs])
    for each, run in zip(found.runs, runs, strict=True):
        write_report(each, [run])
        if audit:
            write_appendix(each, run)
    if found.is_one_run:
        show(runs, found.runs[0] / "report.html", as_json=as_json)
        return
    roots = {each.parent for each in found.runs}
    if len(roots) == 1:
        (root,) = roots
        write_report(root, runs)
        show(runs, root / "report.html", as_json=as_json)
    elif as_json:
        print(to_json(scorecards(runs)), end="")
    else:  # many methods or evaluations, as of a study: no one report is over all
        print(*(each / "report.html" for each in found.runs), sep="\n")


def _with_own_names(folders: Sequence[Path], runs: Sequence[Run]) -> list[Run]:
    """A checkpoint scored twice: its folders tell the runs apart."""
    for names in (
        [run.name for run in runs],
        [folder.name for folder in folders],
        list(map(str, folders)),
    ):
        if len({*names}) == len(names):
            break
    return [replace(run, name=name) for name, run in zip(names, runs, strict=True)]


def show(runs: Sequence[Run], report: Path, *, as_json: bool) -> None:
    """Print the table, or the scorecards as JSON; the report's path is the last line."""
    if as_json:
        print(to_json(scorecards(runs)), end="")
        print(report, file=sys.stderr)
    else:
        console().print(render_terminal(view(runs)))
        print(report)


def is_current(folder: Path, runs: Sequence[Run]) -> bool:
    """Whether every file of a report is there, and it is the report of these runs."""
    if not all((folder / name).exists() for name in REPORT_FILES):
        return False
    try:
        written = parse_json((folder / scorecard_file(runs)).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(written == json.loads(to_json(scorecards(runs))))


def read_run(folder: Path, groups: str | None = None) -> Run:
    """A finished run with its figures.

    Raises:
        UserError: it cannot be read as one.
    """
    outcomes = Outcomes.load(folder)
    if groups is not None:
        built_in = outcomes.manifest["dataset"].get("groupings", {})
        chosen = read_groups(groups, outcomes.class_names, built_in)
        outcomes = replace(outcomes, manifest={**outcomes.manifest, "groups": chosen})
    name = (outcomes.manifest.get("checkpoint") or {}).get("name") or folder.name
    return as_run(str(name), outcomes)
