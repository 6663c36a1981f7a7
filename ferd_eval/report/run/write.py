"""Write a report folder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferd_eval.errors import UserError
from ferd_eval.io.files import make_folder, write_texts
from ferd_eval.io.json import to_json
from ferd_eval.report import render
from ferd_eval.report.run.build import view
from ferd_eval.report.run.csv import long_csv, wide_csv
from ferd_eval.report.run.html import page
from ferd_eval.report.run.model import Run, as_run
from ferd_eval.results.digests import write_sums
from ferd_eval.results.outcomes import SUMS, Outcomes

#: One run, several, or several by name.
Results = Outcomes | Run | Sequence[Outcomes | Run] | Mapping[str, Outcomes]

#: Of one run, and of several.
_SCORECARD_FILES = ("scorecard.json", "scorecards.json")


def write_report(folder: Path | str | Results, runs: Results | Path | str) -> tuple[Path, ...]:
    """Write ``scorecard.json``, ``report.md``, both CSV files, ``report.html`` and ``SHA256SUMS``.

    With several runs each file compares them, and ``scorecards.json`` in place of
    ``scorecard.json`` holds ``{"runs": {name: scorecard}}``.

    Args:
        folder: where; it is made if it is missing. Either argument may come first.
        runs: one `Outcomes` or `Run`, several in a sequence, or ``{name: Outcomes}``.

    Returns:
        The files of the report.

    Raises:
        UserError: the folder cannot be written, or `runs` is empty, something else, or has a
            name twice.
    """
    if isinstance(runs, str | Path):
        folder, runs = runs, folder
    if not isinstance(folder, str | Path):
        raise UserError(f"the folder of a report is of type {type(folder).__name__}; give a path.")
    folder, runs = Path(folder), _as_runs(runs)
    contents = {
        scorecard_file(runs): _rows_on_lines(to_json(scorecards(runs))),
        **report_pages(runs),
    }
    make_folder(folder)
    (folder / SUMS).unlink(missing_ok=True)
    written = write_texts(folder, contents)
    # A folder of one run that has become one of several keeps no figures of the one.
    (folder / _SCORECARD_FILES[len(runs) == 1]).unlink(missing_ok=True)
    write_sums(folder)
    return written


def report_pages(runs: Sequence[Run]) -> dict[str, str]:
    """The report of one run or several, without the scorecards: file → content."""
    rendered = view(runs)
    return {
        "report.md": render.text("report.md.j2", view=rendered),
        "report.csv": long_csv(rendered),
        "report_wide.csv": wide_csv(rendered),
        "report.html": page(rendered),
    }


def _as_runs(results: object) -> tuple[Run, ...]:
    """Runs with names of their own: the checkpoints', where the caller gives none."""
    if isinstance(results, Mapping):
        runs = [_named(str(name), each) for name, each in results.items()]
    elif isinstance(results, Sequence) and not isinstance(results, str):
        runs = [_named("", each) for each in results]
    else:
        runs = [_named("", results)]
    names = [run.name for run in runs]
    if not runs:
        raise UserError("there is no run to report. Give one Outcomes or more.")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"two runs are called {twice[0]}. Give {{name: outcomes}} instead.")
    return tuple(runs)


def _named(name: str, result: object) -> Run:
    if isinstance(result, Run):
        return result
    if isinstance(result, Outcomes):
        recorded = (result.manifest.get("checkpoint") or {}).get("name")
        return as_run(name or str(recorded or "run"), result)
    raise UserError(
        f"a report is made from Outcomes, not from a {type(result).__name__}. Give what "
        "ferd_eval.score returns, or Outcomes.load(DIR) reads."
    )


def scorecard_file(runs: Sequence[object]) -> str:
    """Name of the file that `scorecards` is written to."""
    return _SCORECARD_FILES[len(runs) > 1]


def scorecards(runs: Sequence[Run]) -> Mapping[str, Any]:
    """The JSON form of one run's scorecard, or of several by name."""
    cards = {run.name: run.scorecard.to_dict() for run in runs}
    assert len(cards) == len(runs), "runs need names of their own"
    return cards[runs[0].name] if len(runs) == 1 else {"runs": cards}


def _rows_on_lines(text: str) -> str:
    """Put each list of numbers on one line; JSON strings hold no line break, so none is touched."""
    return re.sub(
        r"\[\n[-+.\deEnul,\s]+\]",
        lambda found: re.sub(r"\s+", " ", found[0]).replace("[ ", "[").replace(" ]", "]"),
        text,
    )
