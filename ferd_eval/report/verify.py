"""Whether a run is as it was written: all digests, and all figures again from the outcomes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ferd_eval.errors import UserError, message_of
from ferd_eval.io.escape import one_line
from ferd_eval.io.files import file_sha256
from ferd_eval.io.json import parse_json, to_json
from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.api import read_run
from ferd_eval.report.audit.appendix import appendix_pages
from ferd_eval.report.baseline import circumstances_apart, drift, read_earlier
from ferd_eval.report.run.model import Run
from ferd_eval.report.run.write import report_pages, scorecard_file, scorecards
from ferd_eval.results.digests import Sums, digests, writer
from ferd_eval.results.manifest import look_up
from ferd_eval.results.outcomes import OUTCOMES, SUMS, Outcomes
from ferd_eval.results.run_folder import RunFolders, find_runs

#: Figures that a sum in another order may move in the last digits.
_RELATIVE, _ABSOLUTE = 1e-9, 1e-12

#: Altered figures of one file that are printed; the rest are counted.
_MOST = 5

#: Longest excerpt of a line that differs.
_EXCERPT = 60


@dataclass(frozen=True)
class Verified:
    """What was found in one folder.

    Attributes:
        altered: file → what is not as it was written, a sentence without its period each.
        notes: what could not be checked, and why.
        files: how many had the digest that was written down.
        figures: how many of the scorecard are those that the outcomes give.
        drift: how the run differs from an earlier one, beyond noise.
    """

    altered: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    files: int
    figures: int
    drift: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing was altered, and nothing is other than expected."""
        return not self.altered and not self.drift

    @property
    def lines(self) -> list[str]:
        """The findings, one a line."""
        found = []
        for name, said in self.altered.items():
            found += [f"altered: {name}: {each}." for each in said[:_MOST]]
            if more := len(said) - _MOST:
                found += [f"altered: {name}: {more} more; --json lists all."] if more > 0 else []
        if not found:
            files = counted(self.files, "file has its digest", "files have their digests")
            figures = counted(self.figures, "figure is", "figures are")
            found = [f"as written: {files}, {figures} what the outcomes give."]
        found += [f"drift: {each}." for each in self.drift]
        return [one_line(each) for each in (*found, *(f"note: {note}." for note in self.notes))]

    def to_dict(self) -> dict[str, Any]:
        """The findings as values that JSON has."""
        return {"pass": self.passed, **asdict(self)}


def verify(
    folder: Path, groups: str | None = None, expect: Path | None = None
) -> dict[str, Verified]:
    """Check a run, or each run in a folder and the report over them.

    Args:
        groups: as for ``ferd-eval report``, where its scorecard was made with some.
        expect: an earlier run, or a folder with an earlier run of each name: the same images, the
            same attacks, and figures within noise are expected.

    Returns:
        Folder, as seen from `folder`, → what was found. "." is the folder itself.

    Raises:
        UserError: there is no finished run, `groups` does not fit, or nothing to expect is there.
    """
    found = find_runs(folder)
    if found.unfinished:
        raise UserError(f"{found.unfinished[0]} is not finished. Repeat its score command.")
    folder = folder if folder.is_dir() else folder.parent
    runs = {str(run.relative_to(folder)): run for run in found.runs}
    earlier = {} if expect is None else read_earlier(runs, expect, "--expect")
    made = {name: _verify_run(run, groups) for name, run in runs.items()}
    for name, before in earlier.items():
        made[name] = _with_drift(made[name], before, runs[name])
    if not found.is_one_run and (folder / scorecard_file(found.runs)).is_file():
        made["."] = _verify_report(folder, found, groups)
    return made


def _with_drift(verified: Verified, before: Outcomes, folder: Path) -> Verified:
    try:
        now = Outcomes.load(folder)
    except UserError:  # which is among the findings
        return verified
    notes = (*verified.notes, *circumstances_apart(before, now))
    return replace(verified, drift=tuple(dict.fromkeys(drift(before, now))), notes=notes)


def _verify_run(folder: Path, groups: str | None) -> Verified:
    check = _Check.of(folder)
    try:
        outcomes = Outcomes.load(folder)
    except UserError as reason:
        check.alter("outcomes", str(reason).removesuffix("."))
        return check.done()
    if (status := outcomes.manifest.get("status")) != "finished":
        raise UserError(f"{folder} is not finished (status {status}). Repeat its score command.")
    check.inputs(outcomes.manifest)
    try:
        run = read_run(folder)
    except Exception as reason:  # a crash would say nothing of the file
        check.alter(OUTCOMES, f"no figures can be made of it: {message_of(reason)}")
        return check.done()
    if groups is not None:
        run = read_run(folder, groups)
    check.report([replace(run, name=name) for name in _names(folder, run)], one=True)
    return check.done()


def _verify_report(folder: Path, found: RunFolders, groups: str | None) -> Verified:
    """The report over all runs, whose own files are checked by themselves."""
    check = _Check.of(folder)
    runs: dict[str, Run] = {}
    for each in found.runs:
        try:
            run = read_run(each, groups)
        except Exception:  # which is a finding about that run
            check.notes.append(f"{each.name} cannot be read, so the report over all is not checked")
            return check.done()
        runs |= {name: replace(run, name=name) for name in _names(each, run)}
    if len(found.runs) == 1:
        check.report([*runs.values()], one=True)
        return check.done()
    written = check.read(scorecard_file(found.runs))
    named = look_up(written, "runs") if isinstance(written, Mapping) else None
    if not isinstance(named, Mapping) or not {*named} <= {*runs}:
        check.notes.append(f"{scorecard_file(found.runs)} is over other runs than are here")
        return check.done()
    check.report([runs[name] for name in named], one=False)
    return check.done()


def _names(folder: Path, run: Run) -> list[str]:
    """What its report may call a run: as its tables say, else the checkpoint's, else the folder's.

    The name says nothing about the run, so that any of them will do.
    """
    try:
        text = (folder / "report.csv").read_text("utf-8")
        said = [row[0] for row in csv.reader(io.StringIO(text))][1:2]
    except (OSError, ValueError, csv.Error, IndexError):
        said = []
    own = [name.removeprefix("'") for name in said]
    return [*dict.fromkeys([*said, *own, run.name, folder.name])]


@dataclass
class _Check:
    """Gathers the findings in one folder."""

    folder: Path
    sums: Sums | None
    by_same: bool  #: whether this very code wrote the reports: then texts must agree, too
    altered: dict[str, list[str]]
    notes: list[str]
    files: int = 0
    figures: int = 0

    @classmethod
    def of(cls, folder: Path) -> _Check:
        """With the digests of the files checked."""
        check = cls(folder, None, False, {}, [])
        try:
            sums = check.sums = Sums.read(folder)
        except UserError as reason:
            check.alter(SUMS, str(reason).removesuffix("."))
            return check
        if sums is None:
            check.notes.append(
                f"no {SUMS} is here, as in runs of earlier versions: only figures are checked;"
                f" ferd-eval report {folder} writes it"
            )
            return check
        check.by_same = sums.writer == writer()
        if not check.by_same:
            check.notes.append(
                f"written by {sums.writer or 'an unknown version'}: numbers are checked, the words "
                "and pages around them by their digests alone"
            )
        now = digests(folder)
        check.files = sum(now.get(name) == digest for name, digest in sums.by_name.items())
        for name, digest in sums.by_name.items():
            if name not in now:
                check.alter(name, "is missing")
            elif now[name] != digest:
                check.alter(name, f"SHA-256 is {now[name][:16]}…, when written {digest[:16]}…")
        for name in now.keys() - sums.by_name.keys():
            check.alter(name, f"was added after {SUMS} was written")
        return check

    def alter(self, name: str, said: str) -> None:
        """Add a finding."""
        self.altered.setdefault(name, []).append(said)

    def inputs(self, manifest: Mapping[str, Any]) -> None:
        """The checkpoint, where it still lies at its place."""
        path, digest = (look_up(manifest, f"checkpoint.{key}") for key in ("path", "sha256"))
        if not isinstance(path, str) or not isinstance(digest, str):
            self.notes.append("no checkpoint is recorded")
        elif not Path(path).is_file():
            self.notes.append(f"checkpoint {path} is not here; it had SHA-256 {digest}")
        elif (now := file_sha256(Path(path))) != digest:
            self.alter(path, f"SHA-256 is {now[:16]}…, the checkpoint scored had {digest[:16]}…")
        else:
            self.files += 1

    def read(self, name: str) -> Any:
        """A file of JSON; None with a finding where there is none."""
        try:
            return parse_json((self.folder / name).read_text("utf-8"))
        except FileNotFoundError:
            if name not in self.altered:
                self.notes.append(f"no {name} is here")
        except (OSError, ValueError) as reason:
            self.alter(name, f"cannot be read: {reason}")
        return None

    def report(self, runs: Sequence[Run], *, one: bool) -> None:
        """Scorecard, pages and appendix against those that these runs give.

        Args:
            one: whether `runs` are one run under the names that its report may have.
        """
        those = [[each] for each in runs] if one else [runs]
        name = scorecard_file(those[0])
        written = self.read(name)
        if isinstance(written, dict):
            if self._has_other_groups(written, runs):
                return
            made = parse_json(to_json(scorecards(those[0])))
            for found in _differences(written, made, exact=self.by_same):
                self.alter(name, found)
            self.figures += _count(written)
            if self.by_same:
                self._pages([report_pages(each) for each in those])
        if one and self.by_same and (self.folder / "audit.json").exists():
            self._appendix(runs)

    def _has_other_groups(self, written: dict[str, Any], runs: Sequence[Run]) -> bool:
        """Whether it has figures of groups that only a file of the user's can give."""
        cards = [written] if "groups" in written else [*(written.get("runs") or {}).values()]
        made = {group for run in runs for group in run.scorecard.groups}
        unknown = {
            group
            for card in cards
            if isinstance(card, dict) and isinstance(card.get("groups"), dict)
            for group in card["groups"]
        } - made
        if unknown:
            self.notes.append(
                f"made with groups of classes ({', '.join(sorted(unknown))}); give --groups to "
                "check the figures, too"
            )
        return bool(unknown)

    def _appendix(self, runs: Sequence[Run]) -> None:
        data = self.read("audit.json")
        if isinstance(data, dict) and data.get("written_by") == writer() and self.sums:
            self._pages([appendix_pages(run, self.sums.by_name) for run in runs])
        elif isinstance(data, dict):
            self.notes.append("the audit appendix is of another version: its digest is checked")

    def _pages(self, candidates: Sequence[Mapping[str, str]]) -> None:
        """Compare pages with those made again, under the name that fits best."""
        found: list[dict[str, str]] = []
        for pages in candidates:
            said = {name: self._first_difference(name, page) for name, page in pages.items()}
            found.append({name: each for name, each in said.items() if each})
        for name, said_of in min(found, key=len).items():
            self.alter(name, said_of)

    def _first_difference(self, name: str, made: str) -> str:
        try:
            written = (self.folder / name).read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return ""  # which the digests tell
        lines = zip(written.split("\n"), made.split("\n"), strict=False)
        for number, (ours, theirs) in enumerate(lines, start=1):
            if ours != theirs:
                at = next(
                    (i for i, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b),
                    min(len(ours), len(theirs)),
                )
                start = max(at - _EXCERPT // 3, 0)
                here, there = (each[start : start + _EXCERPT] for each in (ours, theirs))
                return f'line {number} has "{here}", the outcomes give "{there}"'
        return "" if written == made else "it is longer or shorter than what the outcomes give"

    def done(self) -> Verified:
        """The findings."""
        altered = {name: tuple(said) for name, said in sorted(self.altered.items())}
        return Verified(altered, tuple(self.notes), self.files, self.figures)


def _differences(written: Any, made: Any, path: str = "", *, exact: bool) -> Iterator[str]:
    """Each value of a scorecard that is not the one made again: ``attacks.pgd.average is 1, …``.

    Args:
        exact: whether texts and missing values count; else only numbers that both have.
    """
    if isinstance(written, dict) and isinstance(made, dict):
        for key in {**written, **made}:
            place = f"{path}.{key}" if path else str(key)
            if key in written and key in made:
                yield from _differences(written[key], made[key], place, exact=exact)
            elif exact:
                have = "is not there" if key in made else f"is {_short(written[key])}"
                give = _short(made[key]) if key in made else "nothing of that name"
                yield f"{place} {have}, the outcomes give {give}"
    elif isinstance(written, list) and isinstance(made, list):
        if len(written) != len(made) and exact:
            yield f"{path} has {len(written)} entries, the outcomes give {len(made)}"
        for i, (ours, theirs) in enumerate(zip(written, made, strict=False)):
            name = theirs.get("name", i) if isinstance(theirs, dict) else i
            yield from _differences(ours, theirs, f"{path}.{name}", exact=exact)
    elif _is_number(written) and _is_number(made):
        if not math.isclose(written, made, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE):
            yield f"{path} is {written:.6g}, the outcomes give {made:.6g}"
    elif written != made and (exact or (_is_number(written) or _is_number(made))):
        yield f"{path} is {_short(written)}, the outcomes give {_short(made)}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _EXCERPT else f"{text[:_EXCERPT]}…"


def _count(value: Any) -> int:
    """Numbers in a scorecard."""
    if isinstance(value, dict | list):
        return sum(map(_count, value.values() if isinstance(value, dict) else value))
    return int(_is_number(value))
