"""Reports on run folders: read outcomes, compute, write. No torch on this path."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ferd_eval.errors import require_kind
from ferd_eval.io.json import parse_json, to_json
from ferd_eval.report import (
    Run,
    as_run,
    scorecard_file,
    scorecards,
    write_appendix,
    write_report,
)
from ferd_eval.results.class_groups import read_groups
from ferd_eval.results.outcomes import SUMS, Outcomes
from ferd_eval.results.run_folder import find_runs

#: Files of a complete report folder, beside the scorecards.
REPORT_FILES = ("report.md", "report.csv", "report_wide.csv", "report.html")


def report_folder(
    folder: Path, groups: str | None = None, *, audit: bool = False
) -> tuple[list[Run], list[Path]]:
    """Write the reports of one run, or of each run in a folder and one over all.

    Args:
        audit: whether to write an audit appendix beside the report of each run.

    Returns:
        The runs, and the page over all of them; the pages of each where they are many methods or
        evaluations, as of a study.
    """
    found = find_runs(folder)
    runs = _with_own_names(found.runs, [read_run(each, groups) for each in found.runs])
    for each, run in zip(found.runs, runs, strict=True):
        write_report(each, [run])
        if audit:
            write_appendix(each, run)
    folders = found.runs
    roots = {each.parent for each in folders}
    if len(roots) == 1 and not found.is_one_run:
        folders = tuple(roots)
        write_report(folders[0], runs)
    return runs, [each / "report.html" for each in folders]


def report(
    folder: Path | str, groups: str | None = None, *, audit: bool = False
) -> tuple[Path, ...]:
    """Write the reports of a finished run, or of each run in a folder, again from its outcomes.

    Args:
        folder: a run, or a folder of runs.
        groups: figures for groups of classes: ``superclass`` or a CSV file class,group.
        audit: an audit appendix too, of each run.

    Returns:
        The page over all runs; the pages of each where they are many methods or evaluations.

    Raises:
        UserError: there is no finished run.
    """
    require_kind(folder, Path | str, "the folder", "the path of a run, or of a folder of runs")
    return tuple(report_folder(Path(folder), groups, audit=audit)[1])


def _with_own_names(folders: Sequence[Path], runs: Sequence[Run]) -> list[Run]:
    """A checkpoint scored twice: its folders tell the runs apart."""
    by_run = [run.name for run in runs]
    by_folder = [folder.name for folder in folders]
    distinct = (names for names in (by_run, by_folder) if len({*names}) == len(names))
    names = next(distinct, list(map(str, folders)))
    return [replace(run, name=name) for name, run in zip(names, runs, strict=True)]


def is_current(folder: Path, runs: Sequence[Run]) -> bool:
    """Whether every file of a report is there, and it is the report of these runs."""
    if not all((folder / name).exists() for name in (*REPORT_FILES, SUMS)):
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
