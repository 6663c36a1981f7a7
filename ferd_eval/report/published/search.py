"""Find the published runs below a folder of reports, and the files that must be left out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ferd_eval.errors import UserError
from ferd_eval.io.escape import one_line
from ferd_eval.report.published.read import SCORING, TRAINING, read_run
from ferd_eval.report.published.run import Place, PublishedRun
from ferd_eval.results.manifest import RECORD, look_up
from ferd_eval.results.schema import Fields

#: Folder of the pages, inside the folder of reports.
PUBLISHED = "published"

#: Folders that are not searched: the user's own runs, and the pages.
_NOT_PUBLISHED = ("runs", PUBLISHED)

_CARD = "scorecard.json"


@dataclass(frozen=True)
class Found:
    """Published runs in the order of their paths.

    Attributes:
        problems: one line for each folder or file left out: why, and the next step.
    """

    runs: tuple[PublishedRun, ...]
    problems: tuple[str, ...]


def search(reports: Path) -> Found:
    """Read every published run below a folder.

    Raises:
        UserError: there is no such folder, or it is a run.
    """
    if not reports.is_dir():
        raise UserError(f"there is no folder {reports}. Give the folder of published reports.")
    if (reports / _CARD).is_file() and (reports / RECORD).is_file():
        raise UserError(
            f"{reports} is a run itself. Copy it into a folder of reports, such as "
            f"reports/mine/{reports.resolve().name}, and type ferd-eval publish reports."
        )
    runs: list[PublishedRun] = []
    known: dict[tuple[object, ...], str] = {}
    cards, records, problems = _walk(reports)
    for card in cards:
        try:
            run = read_run(reports, Place(card))
            _require_new(run, known)
        except UserError as reason:
            problems.append(str(reason))
        else:
            runs.append(run)
    problems += _without_scores(cards, records, {run.sha256 for run in runs})
    return Found(tuple(runs), tuple(sorted(map(one_line, problems))))


def _walk(
    reports: Path,
) -> tuple[list[PurePosixPath], list[tuple[PurePosixPath, Fields]], list[str]]:
    """Scorecards, records and problems; links are not followed."""
    cards: list[PurePosixPath] = []
    records: list[tuple[PurePosixPath, Fields]] = []
    problems: list[str] = []
    for at, folders, files in os.walk(reports):
        here = PurePosixPath(Path(at).relative_to(reports).as_posix())
        left_out = () if here.parts else _NOT_PUBLISHED
        seen = {name for name in folders if not name.startswith(".") and name not in left_out}
        links = {name for name in (*seen, *files) if (Path(at) / name).is_symlink()}
        problems += [
            f"{here / name} is a link. Put a copy of the file or folder there."
            for name in sorted(links)
        ]
        folders[:] = sorted(seen - links)
        real = sorted({*files} - links)
        found = [here / name for name in real if name == _CARD or name.endswith(f"-{_CARD}")]
        if found and not here.parts:
            problems.append(f"{found[0]} is in no folder of a report. Give it a folder of its own.")
            continue
        cards += found
        if RECORD in real and here.parts:
            try:
                records.append((here, Fields.read(Path(at) / RECORD, str(here / RECORD))))
            except UserError as reason:
                problems.append(str(reason))
    return cards, records, problems


def _without_scores(
    cards: list[PurePosixPath], records: list[tuple[PurePosixPath, Fields]], scored_sha256: set[str]
) -> list[str]:
    """Problems of runs without a scorecard; that of a trained network may lie anywhere."""
    scored = {card.parent for card in cards}
    trained = {folder for card in cards for folder in Place(card).training}
    problems = []
    for folder, record in records:
        fields = {*record.values}
        if fields >= SCORING and folder not in scored:
            problems.append(
                f"{folder} holds a scoring run without {_CARD}. Finish it, or make the file with "
                "ferd-eval report."
            )
        elif (
            fields >= TRAINING
            and folder not in trained
            and look_up(record.values, "result.sha256") not in scored_sha256
        ):
            problems.append(
                f"{folder} holds a training run without scores. Score its network, or remove it."
            )
    return problems


def _require_new(run: PublishedRun, known: dict[tuple[object, ...], str]) -> None:
    """Refuse a method's network published twice on the same images: it would count twice."""
    network = (run.place.method, run.sha256, run.key, run.fingerprint)
    keys: list[tuple[object, ...]] = [
        (*network, each.attack, str(sorted(each.constants.items(), key=str)))
        for each in run.attacks
        if not each.is_clean
    ] or [(*network, "clean")]
    for key in keys:
        if key in known:
            raise UserError(
                f"{run.place.file}: the same network on the same images is also in {known[key]}. "
                "Publish it once."
            )
    known.update(dict.fromkeys(keys, str(run.place.file)))
