"""Notes and tables under a board: how to read it, doubts, and the origin of the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ferd_eval.errors import listed
from ferd_eval.metrics.comparison.circumstances import circumstances, differing
from ferd_eval.metrics.comparison.methods import FEWEST_SEEDS
from ferd_eval.metrics.figures import LOWEST, WORST_10PCT, WORST_CLASS, lowest_figure
from ferd_eval.report.format import NOTHING, Cell, Table
from ferd_eval.report.leaderboard.model import Column, ScoredGroup
from ferd_eval.report.run.provenance import constants_table
from ferd_eval.results.manifest import look_up

#: How the note on intervals begins, which tables without intervals leave out.
ABOUT_INTERVALS = "Intervals (95 %)"

#: Names listed in a sentence; the rest are counted.
_MOST_NAMES = 6

#: Figure of the lowest classes → how to read it, and the subject of its interval.
_LOWEST = {
    WORST_CLASS: (
        "Worst class is the lowest of this sample; it is picked after the fact and tends to look "
        "worse than it is.",
        "the class that truly is lowest, whichever it is",
    ),
    WORST_10PCT: (
        "Worst 10 % is the mean of the lowest tenth of the classes in this sample; they are picked "
        "after the fact and tend to look worse than they are.",
        "the tenth of the classes that truly is lowest",
    ),
}


def notes(
    groups: Sequence[ScoredGroup],
    columns: Sequence[Column],
    unaligned: Sequence[str],
    source: str,
    figures: Collection[str] = (),
) -> tuple[str, ...]:
    """Sentences under a board, those that every reader needs first.

    Args:
        unaligned: attacks whose rows were not scored on the same images.
        source: of published rows; empty without.
        figures: keys of those shown, which alone are explained.
    """
    found: list[str] = []
    if groups:
        found += _how_to_read(groups, figures)
        found += _seeds(groups)
        found += _missing(groups, columns)
        found += _not_ranked(columns, unaligned)
        found += _in_doubt(groups)
    if source:
        found.append(
            f"† Reported, not measured: {source.rstrip('.')}. Such rows stand apart and are never "
            "ranked; their attacks, images and seeds are those of the source."
        )
    return tuple(found)


def _how_to_read(groups: Sequence[ScoredGroup], figures: Collection[str]) -> Iterator[str]:
    sizes = [len(group.runs) for group in groups]
    lowest, truly_lowest = _LOWEST[lowest_figure(len(groups[0].runs[0].class_names))]
    ranked = (
        " The best is bold and the second underlined, by the printed figure. ≈ is not told from "
        "the best: the 95 % interval of the difference, paired by image, holds 0 (for NSD, less "
        "what chance adds to it). Each difference stands for itself, without a correction for "
        "many rows."
    )
    yield "Accuracy in per cent." + (ranked if len(groups) > 1 else "")
    if LOWEST in figures:
        yield lowest
    if 1 in sizes:
        yield (
            f"{ABOUT_INTERVALS} beside the figures of one network are for other images like these; "
            f"the one of the lowest is that of {truly_lowest}."
        )
    if "floor" in figures:
        of_seeds = "; of several seeds, every class of each of their networks"
        yield (
            "Floor: with 95 % confidence every class is right at least this often under the attack"
            f"{of_seeds if max(sizes) > 1 else ''}."
        )
    if "nsd" in figures:
        yield (
            "NSD: standard deviation over classes divided by their mean; it falls whenever the "
            "mean rises."
        )


def _seeds(groups: Sequence[ScoredGroup]) -> Iterator[str]:
    methods = [group for group in groups if len(group.runs) >= FEWEST_SEEDS]
    few = [group for group in groups if 1 < len(group.runs) < FEWEST_SEEDS]
    single = len(groups) > len(methods) + len(few)
    if methods:
        names = listed([f"{group.name}: {len(group.runs)}" for group in methods], _MOST_NAMES)
        yield (
            f"±: half the 95 % t interval of the mean over training seeds ({names}). Between such "
            "rows ≈ goes by the seeds and the images."
        )
    for group in few:
        yield (
            f"{group.name}: mean of {len(group.runs)} seeds; fewer than {FEWEST_SEEDS} give no "
            "interval and no ≈."
        )
    if single:
        subject = "A row" if methods or few else "Each row"
        yield f"{subject} of one network speaks of that checkpoint, not of a method."
    if single and methods:
        yield "One network and a method of several are not tested against each other: no ≈ there."


def _missing(groups: Sequence[ScoredGroup], columns: Sequence[Column]) -> Iterator[str]:
    """Attacks that some rows met and others did not, which leaves dashes."""
    titles = {column.attack: column.title.partition(" (")[0] for column in columns}
    met: Counter[str] = Counter()
    for column in columns:
        met[column.attack] += len(column.members)
    some = [
        f"{title} on {met[attack]} of {len(groups)}"
        for attack, title in titles.items()
        if 0 < met[attack] < len(groups)
    ]
    if some:
        yield f"A dash: not every attack was run on every row, but {listed(some, _MOST_NAMES)}."
    if met["aa"] and met["aa-audited"]:
        yield (
            f"{titles['aa-audited']} is {titles['aa']} whose last two searches, FAB and Square, "
            "saw only a sample of the images left: accuracies can only be higher, so it has "
            "columns of its own and is not ranked against the other."
        )


def _not_ranked(columns: Sequence[Column], unaligned: Sequence[str]) -> Iterator[str]:
    for attack, times in Counter(column.attack for column in columns).items():
        if times > 1:
            yield (
                f"{attack} ran with other constants in some runs: it has a column for each, and "
                "rows are ranked within a column only."
            )
    for attack in unaligned:
        yield (
            f"Under {attack} the rows were not scored on the same images, image by image: no ≈ "
            "there."
        )


def _in_doubt(groups: Sequence[ScoredGroup]) -> Iterator[str]:
    """Warnings, audits and imports; then versions, precisions and engines that differ."""
    cards = [card for group in groups for card in group.cards]
    runs = [run for group in groups for run in group.runs]
    if any(card.flags for card in cards):
        yield "! marks rows whose attacks are in doubt; the signs are listed below."
    audits = [scores.audit for card in cards for scores in card.attacks.values()]
    if any(audit is not None and audit.leaves_open for audit in audits):
        yield (
            "Audited: part of the attack saw only a sample of the images, so the figure may be too "
            "high; the run's own report says by how much."
        )
    if any(run.manifest.get("engine") == "imported" for run in runs):
        yield (
            "Imported: predictions that another tool made; what the attack did is not recorded "
            "here."
        )
    for what, values in differing(runs).items():
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


def origin_table(groups: Sequence[ScoredGroup]) -> Table:
    """One line for each network: checkpoint, code and circumstances of its scoring."""
    return Table.of(
        "Where the rows come from",
        (
            _origin(group.name, seed, run.manifest)
            for group in groups
            for run, seed in zip(group.runs, group.seeds, strict=True)
        ),
    )


def _origin(name: str, seed: int | None, manifest: Mapping[str, Any]) -> dict[str, Cell]:
    found = circumstances(manifest)
    device = manifest.get("device") or {}
    kind = ", ".join(str(device[key]) for key in ("kind", "name") if device.get(key))
    return {
        "Row": name,
        "Trained with seed": _text(seed),
        "Checkpoint SHA-256": str(look_up(manifest, "checkpoint.sha256") or NOTHING)[:12],
        "Architecture": str(look_up(manifest, "model.architecture") or NOTHING),
        "Engine": str(manifest.get("engine") or NOTHING),
        "Attack seed": _text(manifest.get("seed")),
        "Precision": found.get("precision", NOTHING),
        "Device": kind or NOTHING,
        "torch": found.get("torch", NOTHING),
        "ferd_eval": found.get("ferd_eval", NOTHING),
    }


def trust_table(groups: Sequence[ScoredGroup]) -> Table:
    """What the checks of each run warn of."""
    return doubts_table(
        ("Row", "Trained with seed"),
        tuple(
            (group.name, _text(seed), sentence)
            for group in groups
            for card, seed in zip(group.cards, group.seeds, strict=True)
            for sentence in card.flags
        ),
    )


def doubts_table(owner: tuple[str, str], rows: tuple[tuple[str, str, str], ...]) -> Table:
    """Warnings of the runs' checks, each with the two columns that say whose it is."""
    note = (
        "Signs that an attack says more of itself than of the network, from the runs' own checks."
    )
    return Table("What is in doubt", (*owner, "Sign"), rows, note)


def _text(value: Any) -> str:
    return NOTHING if value is None else str(value)
