"""What a reader of a leaderboard must know: how to read it, what is in doubt, where it is from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ferd_eval.errors import listed
from ferd_eval.metrics import PairwiseTests
from ferd_eval.metrics.comparison.circumstances import circumstances, differing
from ferd_eval.metrics.comparison.methods import FEWEST_SEEDS
from ferd_eval.metrics.figures import WORST_10PCT, WORST_CLASS, lowest_figure
from ferd_eval.report.format import NOTHING, Table
from ferd_eval.report.leaderboard.model import ScoredGroup
from ferd_eval.report.run.provenance import constants_table
from ferd_eval.results.outcomes import Outcomes

if TYPE_CHECKING:
    from ferd_eval.report.leaderboard.build import Column

#: Names listed in a sentence; the rest are counted.
_MOST_NAMES = 6

_WORST = {
    WORST_CLASS: "Worst class is the lowest of this sample; it is picked after the fact and "
    "tends to look worse than it is.",
    WORST_10PCT: "Worst 10 % is the mean of the lowest tenth of the classes in this sample; "
    "they are picked after the fact and tend to look worse than they are.",
}
_INTERVAL = {
    WORST_CLASS: "the class that truly is lowest, whichever it is",
    WORST_10PCT: "the tenth of the classes that truly is lowest",
}


def notes(
    entries: Sequence[ScoredGroup],
    columns: Sequence[tuple[Column, list[int]]],
    standings: Sequence[PairwiseTests],
    *,
    source: str,
) -> tuple[str, ...]:
    """Sentences under a table, those that every reader needs first."""
    found = list(_how_to_read(entries)) if entries else []
    found += _seeds(entries)
    found += _half_empty(entries, columns)
    found += _told_apart(columns, standings)
    found += _in_doubt(entries)
    found += _other_circumstances(entries)
    if source:
        found.append(
            f"† Reported, not measured: {source.rstrip('.')}. Such rows stand apart and are never "
            "ranked; their attacks, images and seeds are those of the source."
        )
    return tuple(found)


def _how_to_read(entries: Sequence[ScoredGroup]) -> Iterator[str]:
    several = len(entries) > 1
    if several:
        yield (
            "Accuracy in per cent. The best is bold and the second underlined, by the printed "
            "figure. ≈ is not told from the best: the 95 % interval of the difference, paired by "
            "image, holds 0 (for NSD, less what chance adds to it). Each difference stands for "
            "itself, without a correction for many rows."
        )
    else:
        yield "Accuracy in per cent."
    worst = lowest_figure(len(entries[0].runs[0].class_names))
    yield _WORST[worst]
    if any(len(entry.runs) == 1 for entry in entries):
        yield (
            "Intervals (95 %) beside the figures of one network are for other images like these; "
            f"the one of the lowest is that of {_INTERVAL[worst]}."
        )
    yield (
        "Floor: with 95 % confidence every class is right at least this often under the attack"
        + (
            "; of several seeds, every class of each of their networks."
            if any(len(entry.runs) > 1 for entry in entries)
            else "."
        )
    )
    yield (
        "NSD: standard deviation over classes divided by their mean; it falls whenever the mean "
        "rises."
    )


def _seeds(entries: Sequence[ScoredGroup]) -> Iterator[str]:
    methods = [entry for entry in entries if len(entry.runs) >= FEWEST_SEEDS]
    few = [entry for entry in entries if 1 < len(entry.runs) < FEWEST_SEEDS]
    single = [entry for entry in entries if len(entry.runs) == 1]
    if methods:
        yield (
            "±: half the 95 % t interval of the mean over training seeds ("
            + listed([f"{entry.name}: {len(entry.runs)}" for entry in methods], _MOST_NAMES)
            + "). Between such rows ≈ goes by the seeds and the images."
        )
    for entry in few:
        yield (
            f"{entry.name}: mean of {len(entry.runs)} seeds; fewer than {FEWEST_SEEDS} give no "
            "interval and no ≈."
        )
    if single:
        yield (
            ("A row" if methods or few else "Each row")
            + " of one network speaks of that checkpoint, not of a method."
        )
    if single and methods:
        yield "One network and a method of several are not tested against each other: no ≈ there."


def _half_empty(
    entries: Sequence[ScoredGroup], columns: Sequence[tuple[Column, list[int]]]
) -> Iterator[str]:
    """Attacks that some rows met and others did not, which leaves dashes."""
    titles = {column.attack: column.title.partition(" (")[0] for column, _ in columns}
    met = dict.fromkeys(titles, 0)
    for column, members in columns:
        met[column.attack] += len(members)
    some = [
        f"{title} on {met[attack]} of {len(entries)}"
        for attack, title in titles.items()
        if 0 < met[attack] < len(entries)
    ]
    if some:
        yield (f"A dash: not every attack was run on every row, but {listed(some, _MOST_NAMES)}.")
    if met.get("aa") and met.get("aa-audited"):
        yield (
            f"{titles['aa-audited']} is {titles['aa']} whose last two searches, FAB and Square, "
            "saw only a sample of the images left: accuracies can only be higher, so it has "
            "columns of its own and is not ranked against the other."
        )


def _told_apart(
    columns: Sequence[tuple[Column, list[int]]], standings: Sequence[PairwiseTests]
) -> Iterator[str]:
    attacks = [column.attack for column, _ in columns]
    for attack in dict.fromkeys(attack for attack in attacks if attacks.count(attack) > 1):
        yield (
            f"{attack} ran with other constants in some runs: it has a column for each, and rows "
            "are ranked within a column only."
        )
    for standing in standings:
        if not standing.same_images:
            yield (
                f"Under {standing.attack} the rows were not scored on the same images, image by "
                "image: no ≈ there."
            )


def _in_doubt(entries: Sequence[ScoredGroup]) -> Iterator[str]:
    if any(card.flags for entry in entries for card in entry.cards):
        yield "! marks rows whose attacks are in doubt; the signs are listed below."
    if any(
        scores.audit is not None and scores.audit.leaves_open
        for entry in entries
        for card in entry.cards
        for scores in card.attacks.values()
    ):
        yield (
            "Audited: part of the attack saw only a sample of the images, so the figure may be too "
            "high; the run's own report says by how much."
        )
    if any(run.manifest.get("engine") == "imported" for entry in entries for run in entry.runs):
        yield (
            "Imported: predictions that another tool made; what the attack did is not recorded "
            "here."
        )


def _other_circumstances(entries: Sequence[ScoredGroup]) -> Iterator[str]:
    """Versions, precisions and engines that differ; they may move figures by themselves."""
    for what, values in differing([run for entry in entries for run in entry.runs]).items():
        known = list(dict.fromkeys(value for value in values if value is not None))
        yield (
            f"{what} is not the same for all rows ({listed(known, _MOST_NAMES)}), which may move "
            "figures by itself: score all alike before a difference counts."
        )


def constants_of_columns(columns: Sequence[Column]) -> Table:
    """Every constant behind each column."""
    return constants_table(
        {column.key: column.constants for column in columns if column.constants is not None}
    )


def origin_table(entries: Sequence[ScoredGroup]) -> Table:
    """One line for each network: what was scored, by which code, how."""
    return Table(
        "Where the rows come from",
        (
            "Row", "Trained with seed", "Checkpoint SHA-256", "Architecture", "Engine",
            "Attack seed", "Precision", "Device", "torch", "ferd_eval",
        ),
        tuple(
            (
                entry.name,
                _text(seed),
                str((run.manifest.get("checkpoint") or {}).get("sha256") or NOTHING)[:12],
                str((run.manifest.get("model") or {}).get("architecture") or NOTHING),
                str(run.manifest.get("engine") or NOTHING),
                _text(run.manifest.get("seed")),
                with_.get("precision", NOTHING),
                _device(run),
                with_.get("torch", NOTHING),
                with_.get("ferd_eval", NOTHING),
            )
            for entry in entries
            for run, seed in zip(entry.runs, entry.seeds, strict=True)
            for with_ in (circumstances(run.manifest),)
        ),
    )  # fmt: skip


def trust_table(entries: Sequence[ScoredGroup]) -> Table | None:
    """What the checks of each run warn of; None where there is nothing."""
    rows = tuple(
        (entry.name, _text(seed), sentence)
        for entry in entries
        for card, seed in zip(entry.cards, entry.seeds, strict=True)
        for sentence in card.flags
    )
    if not rows:
        return None
    return Table(
        "What is in doubt",
        ("Row", "Trained with seed", "Sign"),
        rows,
        "Signs that an attack says more of itself than of the network, from the runs' own checks.",
    )


def _device(run: Outcomes) -> str:
    device = run.manifest.get("device") or {}
    return ", ".join(str(device[key]) for key in ("kind", "name") if device.get(key)) or NOTHING


def _text(value: Any) -> str:
    return NOTHING if value is None else str(value)
