"""Compares runs: reads both sides, decides on attack and pairing, and writes the report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ferd_eval.errors import UserError, did_you_mean, listed
from ferd_eval.metrics import Comparison, compare, compare_methods, trust_panel
from ferd_eval.metrics.comparison.alignment import Mismatch, SameImages, mismatch, unknown_constants
from ferd_eval.metrics.comparison.circumstances import differing
from ferd_eval.metrics.comparison.methods import FEWEST_SEEDS
from ferd_eval.metrics.comparison.verdict import MARGIN
from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.comparison.model import ComparisonReport, Reference
from ferd_eval.report.comparison.seed_pairing import SeedPairs, pair_seeds
from ferd_eval.report.comparison.text import headline
from ferd_eval.results.attack_id import is_within_threat
from ferd_eval.results.manifest import look_up
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.results.run_group import RunGroup, Side, read_run_groups

#: Default parent folder of comparisons.
COMPARISONS = Path("reports/compare")

#: Longest part of a default folder name.
_LONGEST_SLUG = 60


@dataclass(frozen=True)
class ComparisonRequest:
    """What is to be compared, and how; as the options of ``ferd-eval compare``."""

    first: Side
    second: Side
    reference: Side | None = None
    attack: str | None = None
    margin: float = MARGIN
    pair_seeds: bool | None = None


def default_folder(report: ComparisonReport) -> Path:
    """Where the command writes a comparison: after the names of its sides."""
    return COMPARISONS / "-vs-".join(_slug(side.name) for side in (report.first, report.second))


def verdict_on(first: Path, second: Path) -> str:
    """The verdict on two runs with its reason, a sentence; nothing is written.

    Raises:
        UserError: the runs cannot be compared.
    """
    return headline(compare_runs(ComparisonRequest(first, second)))


def compare_runs(asked: ComparisonRequest) -> ComparisonReport:
    """Compare; nothing is written.

    Raises:
        UserError: the runs cannot be compared.
    """
    if not 0 <= asked.margin < 1:
        raise UserError(f"--margin is {asked.margin:g}; give a fraction from 0 on, as 0.01.")
    sides = [asked.first, asked.second, *([] if asked.reference is None else [asked.reference])]
    first, second, *others = read_run_groups(sides)
    _require_comparable(first, second)
    if len(first.runs) == 1 and asked.pair_seeds is not None:
        raise UserError("--pair-seeds is about several seeds a side; here is one. Leave it out.")
    attack = _choose(first, second, asked.attack)
    pairs = pair_seeds(first, second, asked.pair_seeds)
    by_attack, unlike = {}, []
    for each in _shared(first, second):
        if found := mismatch([*first.runs, *second.runs], each):
            unlike.append(f"{each} is not compared: {_in_words(found, [first, second])}")
        else:
            by_attack[each] = _compare(pairs, each, asked.margin)
    report = ComparisonReport(
        first=pairs.first,
        second=pairs.second,
        attack=attack,
        by_attack=by_attack,
        by_seed=pairs.by_seed and len(first.runs) > 1,
        pairing=pairs.said if len(first.runs) > 1 else "One network a side: no seeds to pair.",
        warnings=(*_warnings([first, second, *others], attack), *unlike),
        reference=_reference(pairs, others[0], attack, asked) if others else None,
    )
    if report.comparison.n == 0:
        raise UserError(f"the runs hold no images under {attack}. Finish them first.")
    return report


def _compare(pairs: SeedPairs, attack: str, margin: float) -> Comparison:
    first, second = pairs.first.runs, pairs.second.runs
    if len(first) == len(second) == 1:
        return compare(first[0], second[0], attack, margin)
    return compare_methods(first, second, attack, by_seed=pairs.by_seed, margin=margin)


def _require_comparable(first: RunGroup, second: RunGroup) -> None:
    """One network each, or at least three each."""
    counts = len(first.runs), len(second.runs)
    if counts == (1, 1) or min(counts) >= FEWEST_SEEDS:
        return
    single = f"{first.folders[0]} {second.folders[0]}"
    runs = [counted(count, "run", "runs") for count in counts]
    if min(counts) == 1:
        raise UserError(
            f"{first.name} has {runs[0]} and {second.name} has {runs[1]}: one "
            "checkpoint cannot be compared with a method. Give one run of each, e.g. "
            f"{single}, or {FEWEST_SEEDS} or more seeds of each."
        )
    fewer, number = (first, runs[0]) if counts[0] < FEWEST_SEEDS else (second, runs[1])
    raise UserError(
        f"{fewer.name} has {number}: a method needs {FEWEST_SEEDS} seeds or more. "
        f"Train and score another, or compare single runs: {single}."
    )


def _shared(first: RunGroup, second: RunGroup) -> list[str]:
    """Attacks that every run met, in the order of the first."""
    return [attack for attack in first.attacks if attack in second.attacks]


def _choose(first: RunGroup, second: RunGroup, asked: str | None) -> str:
    """The attack asked for, else the strongest over both sides within its ε.

    Raises:
        UserError: it is not shared, or not the same attack on both sides.
    """
    shared = _shared(first, second)
    if not shared:
        ours, theirs = (", ".join(side.runs[0].attacks) for side in (first, second))
        raise UserError(
            f"{first.name} and {second.name} share no attack: {ours}; {theirs}. Score both under "
            "the same ones."
        )
    if asked is not None and asked not in shared:
        raise UserError(
            f"--attack {asked}: not every run was scored under it.{did_you_mean(asked, shared)}"
        )
    attack = asked or _strongest([first, second], shared) or shared[0]
    runs = [*first.runs, *second.runs]
    found = mismatch(runs, attack)
    if found is None:
        return attack
    others = [each for each in shared if each != attack and mismatch(runs, each) is None]
    instead = f", or give --attack {others[-1]}" if others else ""
    raise UserError(
        f"{attack} is not the same attack on both sides: {_in_words(found, [first, second])}. "
        f"Score both with the same constants{instead}."
    )


def _strongest(sides: Sequence[RunGroup], attacks: Sequence[str]) -> str | None:
    """The attack of the lowest average over both sides, whatever their order."""
    manifest = sides[0].runs[0].manifest
    average = {
        attack: sum(_right(run, attack) / len(side.runs) for side in sides for run in side.runs)
        for attack in attacks
        if is_within_threat(attack, manifest["attacks"][attack] or {}, manifest)
    }
    return min(average, key=average.__getitem__, default=None)


def _right(run: Outcomes, attack: str) -> float:
    """Share of correctly classified images."""
    right_RN = SameImages.of([run], attack).right_RN
    return float(right_RN.mean()) if right_RN.size else 1.0


def _in_words(found: Mismatch, sides: Sequence[RunGroup]) -> str:
    """``steps is 20 for A and 50 for B``."""
    owners = _owners(sides)
    here, there = ("not set" if value is None else value for value in (found.here, found.there))
    return f"{found.constant} is {here} for {owners[0]} and {there} for {owners[found.place]}"


def _owners(sides: Sequence[RunGroup]) -> list[str]:
    """Name of each run in messages."""
    return [
        side.name if len(side.runs) == 1 else f"{side.name} ({folder.name})"
        for side in sides
        for folder in side.folders
    ]


def _reference(
    pairs: SeedPairs, reference: RunGroup, attack: str, asked: ComparisonRequest
) -> Reference:
    """Compare both sides with a third; refuse one without the verdict's attack, or of two runs."""
    name, sides = reference.name, (pairs.first, pairs.second)
    if not all(attack in run.attacks for run in reference.runs):
        raise UserError(
            f"--reference {name} was not scored under {attack}. Score it, or give --attack one "
            "that all share."
        )
    if found := mismatch([*pairs.first.runs, *reference.runs], attack):
        said = _in_words(found, [pairs.first, reference])
        raise UserError(f"--reference: {attack} is not the same attack: {said}.")
    if len(reference.runs) == 2:
        raise UserError(f"--reference {name} has 2 runs. Give one, or {FEWEST_SEEDS} or more.")
    single = len(reference.runs) == 1, len(pairs.first.runs) == 1
    note = ""
    if single == (True, False):
        note = f"{name} is one network and taken as it is."
    elif single == (False, True):
        note = f"{pairs.first.name} and {pairs.second.name} are one network each, taken as it is."
    elif single == (False, False):
        said_of_each = (pair_seeds(reference, side, asked.pair_seeds).said for side in sides)
        note = " ".join(dict.fromkeys(said_of_each))
    to_first, to_second = (_to_reference(reference, side, attack, asked) for side in sides)
    return Reference(reference, to_first, to_second, note)


def _to_reference(
    reference: RunGroup, side: RunGroup, attack: str, asked: ComparisonRequest
) -> Comparison:
    """The side − the reference.

    A single network beside several is no sample of a method: it stands as it is beside each of
    them, so that only the other side's seeds vary.
    """
    counts = len(reference.runs), len(side.runs)
    if min(counts) > 1:
        return _compare(pair_seeds(reference, side, asked.pair_seeds), attack, asked.margin)
    if counts == (1, 1):
        return compare(reference.runs[0], side.runs[0], attack, asked.margin)
    theirs, ours = (
        reference.runs * (max(counts) // counts[0]),
        side.runs * (max(counts) // counts[1]),
    )
    return compare_methods(theirs, ours, attack, by_seed=True, margin=asked.margin)


def _warnings(sides: Sequence[RunGroup], attack: str) -> Iterator[str]:
    """Warnings of the runs, and circumstances that were not equal."""
    runs = [run for side in sides for run in side.runs]
    if attack == "clean":
        yield "no attack is compared: this says nothing about robustness"
    if any(attack in (run.manifest.get("audits") or {}) for run in runs):
        yield (
            f"part of {attack} saw only a sample of the images; the intervals do not allow for "
            "what it may have missed"
        )
    if unknown := unknown_constants(runs, attack):
        yield (
            f"whether {attack} was the same attack for all is not known: some runs do not record "
            f"{', '.join(unknown)}"
        )
    if not all(look_up(run.manifest, "dataset.fingerprint") for run in runs):
        yield "that the images are the same is known by their indices and labels alone"
    owners = _owners(sides)
    for what, values in differing(runs).items():
        by_value: dict[str, list[str]] = {}
        for owner, value in zip(owners, values, strict=True):
            if value is not None:
                by_value.setdefault(value, []).append(owner)
        told = "; ".join(f"{value} for {listed(those)}" for value, those in by_value.items())
        yield (
            f"{what} is not the same for all, which may move figures by itself: {told}. Score all "
            "alike before a difference counts"
        )
    n_K = SameImages.of(runs[:1], attack).label_N
    missing = len(runs[0].class_names) - len({*n_K.tolist()})
    if missing:
        yield f"{missing} of {len(runs[0].class_names)} classes have no images and are left out"
    for name, run in zip(owners, runs, strict=True):
        said = [*map(str, run.manifest.get("warnings") or ()), *trust_panel(run).warnings]
        yield from (f"{name}: {each}" for each in said)


def _slug(name: str) -> str:
    """A name as part of a folder's name."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.")[:_LONGEST_SLUG] or "run"
