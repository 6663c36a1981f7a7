"""Judges runs against a floor and a largest drop by class. No torch on this path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.io.escape import one_line
from ferd_eval.metrics import AttackScores, class_drops, class_floors
from ferd_eval.metrics.comparison.circumstances import circumstances
from ferd_eval.metrics.sanity.check import classes, counted
from ferd_eval.report import Run, as_run
from ferd_eval.report.format import percent, percent_end
from ferd_eval.report.run.text import headline_attack
from ferd_eval.results.attack_id import eps_of
from ferd_eval.results.digests import require_unaltered
from ferd_eval.results.manifest import environment, look_up
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.results.run_folder import find_runs

#: Releases that may move figures: name → place in the record.
_RELEASES = {"torch": "packages.torch", "timm": "packages.timm", "ferd_eval": "ferd_eval"}


@dataclass(frozen=True)
class Finding:
    """One requirement and the evidence in the run, all in fractions.

    Attributes:
        asked: the floor, or the largest drop allowed.
        shown: holds for every class with 95 % confidence; None where nothing does.
        decided_by: the class whose limit this is.
        value: its accuracy, or its drop, in this sample of `n` images.
        sentence: the finding in words.
    """

    asked: float
    shown: float | None
    passed: bool
    decided_by: str
    n: int
    value: float
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """All requirements under one attack.

    Attributes:
        without_images: classes of which the run can show nothing.
        warnings: why the figures themselves may be in doubt.
        scored_with: versions and arithmetic behind the figures, by name.
        elsewhere: where these are not those installed here.
    """

    attack: str
    floor: Finding | None
    max_drop: Finding | None
    without_images: tuple[str, ...]
    warnings: tuple[str, ...]
    scored_with: Mapping[str, str]
    elsewhere: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every requirement is shown for every class."""
        return not self.without_images and all(each.passed for each in self._findings)

    @property
    def line(self) -> str:
        """The verdict and its reason on one line."""
        said = [each.sentence for each in sorted(self._findings, key=lambda each: each.passed)]
        if empty := self.without_images:
            said = [f"{classes(empty)} without images, of which nothing is shown", *said]
        line = f"{'pass' if self.passed else 'fail'}: {'; '.join(said)}."
        if self.warnings:
            count = counted(len(self.warnings), "warning", "warnings")
            line += f" {count} on these figures: see the run's report."
        if self.elsewhere:
            line += f" Scored with {', '.join(self.elsewhere)}."
        return one_line(line)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as values that JSON has."""
        return {"pass": self.passed, "reason": self.line, **asdict(self)}

    @property
    def _findings(self) -> list[Finding]:
        return [each for each in (self.floor, self.max_drop) if each]


@dataclass(frozen=True)
class Verdicts:
    """One for each run of a folder of runs; all have to pass."""

    by_name: Mapping[str, Verdict]

    @property
    def passed(self) -> bool:
        """Whether every run passes."""
        return all(verdict.passed for verdict in self.by_name.values())

    @property
    def line(self) -> str:
        """A line for each run."""
        return "\n".join(f"{name}: {verdict.line}" for name, verdict in self.by_name.items())

    def to_dict(self) -> dict[str, Any]:
        """The verdicts as values that JSON has."""
        runs = {name: verdict.to_dict() for name, verdict in self.by_name.items()}
        return {"pass": self.passed, "runs": runs}


def judge(
    folder: Path, floor: str | None, max_drop: str | None, attack: str | None
) -> Verdict | Verdicts:
    """Judge a run, or each run of a folder of runs.

    Raises:
        UserError: as `judge_run`, or there is no run.
    """
    found = find_runs(folder)
    if found.unfinished:
        raise UserError(f"{found.unfinished[0]} is not finished. Repeat its score command.")
    runs = found.without_teachers()
    if found.is_one_run:
        return judge_run(runs[0], floor, max_drop, attack)
    within = folder if folder.is_dir() else folder.parent
    names = {run: one_line(str(run.relative_to(within))) for run in runs}
    return Verdicts({name: judge_run(run, floor, max_drop, attack) for run, name in names.items()})


def judge_run(folder: Path, floor: str | None, max_drop: str | None, attack: str | None) -> Verdict:
    """Judge one run against its requirements.

    Raises:
        UserError: nothing is asked, the run cannot be read, or it cannot answer.
    """
    least, most = _fraction("--floor", floor), _fraction("--max-drop", max_drop)
    if least is None and most is None:
        raise UserError("nothing is asked of the run. Give --floor 0.20, --max-drop 0.30, or both.")
    outcomes, run = _read(folder)
    chosen = _choose(run, folder, attack)
    scores = run.scorecard.attacks[chosen]
    if scores.floor95 is None:
        raise UserError(f"{folder} holds no images under {chosen}. Finish the run first.")
    return Verdict(
        chosen,
        None if least is None else _floor(scores, chosen, least),
        None if most is None else _max_drop(outcomes, folder, chosen, most),
        tuple(each.name for each in scores.per_class if each.n == 0),
        run.scorecard.flags,
        circumstances(outcomes.manifest),
        tuple(_elsewhere(outcomes)),
    )


def _elsewhere(outcomes: Outcomes) -> Iterator[str]:
    """``torch 2.11.0 (here 2.14.1)``: releases that a new run here would not use."""
    here = environment()
    for name, path in _RELEASES.items():
        theirs, ours = look_up(outcomes.manifest, path), look_up(here, path)
        if theirs and ours and theirs != ours:
            yield f"{name} {theirs} (here {ours})"


def _read(folder: Path) -> tuple[Outcomes, Run]:
    try:
        outcomes = Outcomes.load(folder)
        run = as_run(folder.name, outcomes)
    except UserError:
        raise
    except Exception as reason:  # a crash would exit with 1, which says "not shown"
        raise UserError(
            f"{folder} cannot be read as a run: {type(reason).__name__}: {reason}. Score or "
            "import it again."
        ) from reason
    if (status := outcomes.manifest.get("status")) != "finished":
        raise UserError(f"{folder} is not finished (status {status}). Repeat its score command.")
    require_unaltered(folder)
    return outcomes, run


def _choose(run: Run, folder: Path, attack: str | None) -> str:
    known = run.scorecard.attacks
    if attack is None:
        strongest = headline_attack(run)
        if strongest is None:
            raise UserError(
                f"{folder} holds no attack, only {', '.join(known) or 'nothing'}. Score with "
                "--attacks aa, or give --attack clean."
            )
        return strongest
    if attack not in known:
        hint = did_you_mean(attack, known)
        there_are = "" if "There are" in hint else f" There are: {', '.join(known)}."
        raise UserError(f"{folder} holds no attack {attack!r}.{hint}{there_are}")
    return attack


def _floor(scores: AttackScores, attack: str, asked: float) -> Finding:
    shown = scores.floor95
    limits = class_floors(scores)
    lowest = min(
        (each for each in scores.per_class if each.n),
        key=lambda each: (limits[each.index], each.accuracy),
    )
    assert lowest.accuracy is not None
    assert lowest.wilson95 is not None
    under = "without an attack" if attack == "clean" else f"under {attack}"
    if attack != "clean" and eps_of(attack, scores.constants) is None:
        under += " at an unknown ε"
    sentence = (
        f"{under} every class is right at least {percent_end(shown, (asked,))} % of the time with "
        f"95 % confidence; the floor asked for is {percent_end(asked, (shown,))} %"
    )
    if shown < asked:
        low, high = map(percent, lowest.wilson95)
        may = ", and more images may show it" if lowest.accuracy > asked else ""
        sentence += (
            f"; lowest is {lowest.name} at {percent(lowest.accuracy)} % of {lowest.n} images "
            f"(95 % interval {low} to {high}){may}"
        )
    return Finding(asked, shown, shown >= asked, lowest.name, lowest.n, lowest.accuracy, sentence)


def _max_drop(outcomes: Outcomes, folder: Path, attack: str, asked: float) -> Finding:
    if attack == "clean" or "clean" not in outcomes.attacks:
        raise UserError(
            f"--max-drop compares an attack with clean images; {folder} holds "
            f"{', '.join(outcomes.attacks)}, and asked for is {attack}. Take a run with both."
        )
    largest = max(
        (each for each in class_drops(outcomes, attack) if each.n),
        key=lambda each: (each.at_most, each.drop),
    )
    shown, drop = largest.at_most, largest.drop
    assert shown is not None
    assert drop is not None
    sentence = (
        f"from clean to {attack} no class loses more than {percent_end(shown, (asked,))} points "
        f"with 95 % confidence; allowed are {percent_end(asked, (shown,))}"
    )
    if shown > asked:
        may = ", and more images may show it" if drop < asked else ""
        sentence += (
            f"; the limit is that of {largest.name}, which loses {percent(drop)} on {largest.n} "
            f"images{may}"
        )
    return Finding(asked, shown, shown <= asked, largest.name, largest.n, drop, sentence)


def _fraction(flag: str, text: str | None) -> float | None:
    """``0.20`` and ``20%`` alike."""
    if text is None:
        return None
    number, sign, rest = text.strip().partition("%")
    try:
        value = float(number) / (100 if sign else 1)
    except ValueError:
        value = float("nan")
    if rest or not 0 < value < 1:
        hint = f" Did you mean {number}%?" if not sign and 1 < value < 100 else ""
        raise UserError(f"{flag} is {text!r}; give a share between 0 and 1, as 0.20 or 20%.{hint}")
    return value
