"""Rankings of the published runs: one for each set of images and ε, a column for each attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ferd_eval.metrics.comparison.methods import FEWEST_SEEDS
from ferd_eval.metrics.figures import LOWEST, WORST_CLASS, Figure, board_figures
from ferd_eval.report.format import NOTHING, Table, href
from ferd_eval.report.leaderboard.build import (
    Ranked,
    Tied,
    attack_columns,
    by_figure,
    papers_first,
    ranked_scores,
)
from ferd_eval.report.leaderboard.model import Board, Column, Row
from ferd_eval.report.leaderboard.notes import constants_of_columns
from ferd_eval.report.published.counts import PublishedAttack, stable
from ferd_eval.report.published.run import PublishedRun
from ferd_eval.results.attack_id import preset_of


@dataclass(frozen=True, eq=False)
class Network:
    """One network on one set of images within one ball.

    Attributes:
        name: its folder below the reports.
        attacks: attack without its ε → figures.
    """

    name: str
    run: PublishedRun
    attacks: Mapping[str, PublishedAttack]


class Ranking(NamedTuple):
    """Networks that can be compared, and nothing else.

    Attributes:
        methods: means over training seeds; None where no method has enough.
        networks: every network by itself, with notes and tables about both.
    """

    methods: Board | None
    networks: Board


def rankings(runs: Sequence[PublishedRun]) -> tuple[Ranking, ...]:
    """Rank together the runs on the same images within the same ball."""
    together: dict[tuple[object, ...], list[tuple[PublishedRun, dict[str, PublishedAttack]]]] = {}
    for run in runs:
        for eps, attacks in _by_eps(run).items():
            sizes = next(iter(attacks.values())).sizes
            key = (run.dataset, run.fingerprint, run.class_names, sizes, eps)
            together.setdefault(key, []).append((run, attacks))
    found = [_ranking(_networks(those)) for those in together.values()]
    found.sort(key=lambda r: (r.networks.dataset, -(r.networks.images or 0), r.networks.title))
    return tuple(found)


def _by_eps(run: PublishedRun) -> dict[str, dict[str, PublishedAttack]]:
    """Attacks by their ε, each with the clean images; clean images alone come under no ε."""
    clean = {each.attack: each for each in run.attacks if each.is_clean}
    found: dict[str, dict[str, PublishedAttack]] = {}
    for each in run.attacks:
        if not each.is_clean:
            eps = "unknown" if each.eps is None else f"{each.eps:.9g}"
            found.setdefault(eps, dict(clean))[preset_of(each.attack)] = each
    return found or {"": clean}


def _networks(
    those: Sequence[tuple[PublishedRun, dict[str, PublishedAttack]]],
) -> list[Network]:
    """Join the evaluations of a network; where two contradict each other, each is a row."""
    found: dict[str, Network] = {}
    for run, attacks in those:
        name = str(run.place.network)
        before = found.get(name)
        if before is not None:
            shared = {*before.attacks} & {*attacks}
            clean_alike = shared <= {"clean"} and all(
                before.attacks[a].accuracies == attacks[a].accuracies for a in shared
            )
            if clean_alike and (before.run.sha256, before.run.key) == (run.sha256, run.key):
                found[name] = replace(before, attacks={**before.attacks, **attacks})
                continue
            name = str(run.place.file.parent)
        found[name] = Network(name, run, attacks)
    return list(found.values())


def _ranking(networks: Sequence[Network]) -> Ranking:
    first = networks[0].run
    images = sum(next(iter(networks[0].attacks.values())).sizes)
    figures = board_figures(len(first.class_names))
    eps = _eps_text([a for each in networks for a in each.attacks.values() if not a.is_clean])
    selection = f" ({first.selection})" if first.selection not in ("", "all") else ""
    budget = f"ε = {eps}" if eps else "no attack"
    methods = _methods(networks)
    board = Board(
        title=f"{first.dataset}, {images} images{selection}, {budget}",
        dataset=first.dataset,
        images=images,
        eps=eps,
        worst_figure=figures[LOWEST].key,
        columns=_columns(networks),
        notes=_notes(networks, methods, figures[LOWEST]),
    )
    each = _with_rows(board, {of.name: (i,) for i, of in enumerate(networks)}, networks, figures)
    tables = _lowest_classes(each, networks), constants_of_columns(board.columns)
    return Ranking(
        _with_rows(board, methods, networks, figures) if methods else None,
        replace(each, tables=tables),
    )


def _eps_text(attacked: Sequence[PublishedAttack]) -> str:
    if not attacked:
        return ""
    texts = [t for each in attacked if isinstance(t := each.constants.get("eps_text"), str) and t]
    eps = attacked[0].eps
    return min(texts) if texts else "unknown" if eps is None else f"{eps:.6g}"


def _columns(networks: Sequence[Network]) -> tuple[Column, ...]:
    met = [{name: of.constants for name, of in each.attacks.items()} for each in networks]
    for each in met:
        if "clean" in each:  # whatever its record says makes no difference
            each["clean"] = {"family": "clean"}
    return attack_columns(met, papers_first(sorted({attack for each in met for attack in each})))


def _methods(networks: Sequence[Network]) -> dict[str, tuple[int, ...]]:
    """Places of networks that differ in the training seed alone, where there are enough of them.

    A method is a folder with one recipe, one teacher and the seeds below it.
    """
    groups: dict[tuple[str, ...], list[int]] = {}
    for i, network in enumerate(networks):
        run = network.run
        if run.training.seed is not None:
            key = (run.place.method, run.training.constants, run.training.teacher_sha256)
            groups.setdefault(key, []).append(i)
    found: dict[str, tuple[int, ...]] = {}
    for (name, *_), places in groups.items():
        seeds = {networks[i].run.training.seed for i in places}
        if len(seeds) == len(places) >= FEWEST_SEEDS:
            found.setdefault(name, tuple(places))
    return found


def _with_rows(
    board: Board,
    groups: Mapping[str, Sequence[int]],
    networks: Sequence[Network],
    figures: Mapping[str, Figure],
) -> Board:
    """One network a row, or the mean over a method's; without the attacks that one of them lacks.

    The lowest classes under the last column that most rows have come first; ties go by name.
    Outcomes may not be published, so nothing is paired here. Two intervals that do not overlap
    are a difference; two that do may still be one, which `ferd-eval compare` can tell.
    """
    columns = []
    for column in board.columns:
        met = {*column.members}
        rows_met = tuple(row for row, places in enumerate(groups.values()) if met >= {*places})
        columns.append(replace(column, members=rows_met))
    those = [[networks[i] for i in places] for places in groups.values()]
    members = [
        [{attack: of.scores for attack, of in network.attacks.items()} for network in group]
        for group in those
    ]
    scores = ranked_scores(members, columns, figures, _overlaps, stable, with_interval=True)
    rows = [
        Row(
            name,
            _marks(group) + ((f"{len(group)} seeds",) if len(group) > 1 else ()),
            len(group),
            of,
            href=href(str(group[0].run.place.network)) if len(group) == 1 else "",
        )
        for name, group, of in zip(groups, those, scores, strict=True)
    ]
    most = max(len(column.members) for column in columns)
    decisive = [column for column in columns if len(column.members) == most][-1]
    in_order = by_figure(sorted(rows, key=lambda row: row.name), decisive, LOWEST)
    return replace(board, rows=in_order)


def _overlaps(_: Column, ranked: Ranked) -> Tied:
    def tied(first: int, second: int, figure: str) -> bool:
        one, other = ranked[first][figure], ranked[second][figure]
        ends = (one.low.value, one.high.value, other.low.value, other.high.value)
        low, high, other_low, other_high = (0.0 if end is None else end for end in ends)
        return low <= other_high and other_low <= high

    return tied


def _marks(those: Sequence[Network]) -> tuple[str, ...]:
    marks = {
        "!": any(each.run.flags for each in those),
        "audited": any(of.is_open for each in those for of in each.attacks.values()),
        "imported": any(each.run.imported for each in those),
        "real images": any(each.run.training.real_images for each in those),
    }
    return tuple(mark for mark, holds in marks.items() if holds)


def _lowest_classes(board: Board, networks: Sequence[Network]) -> Table:
    """The lowest class of each sample, and which others may be it."""
    places = {network.name: i for i, network in enumerate(networks)}

    def cell(name: str, column: Column) -> str:
        met = places[name] in column.members
        return _lowest(networks[places[name]].attacks[column.attack]) if met else NOTHING

    return Table(
        "Which class is lowest",
        ("Network", *(column.title for column in board.columns)),
        tuple(
            (row.name, *(cell(row.name, column) for column in board.columns)) for row in board.rows
        ),
        "The lowest of the sample; in brackets the others that cannot be excluded, with 95 % "
        "confidence.",
    )


def _lowest(of: PublishedAttack) -> str:
    """Names, many of them counted."""
    lowest = ", ".join(of.lowest[:3]) + (" …" if len(of.lowest) > 3 else "")
    if of.possibly_worst is None:
        return f"{lowest} (part of the attack is open)"
    others = [name for name in of.possibly_worst if name not in of.lowest]
    if not others:
        return lowest
    return f"{lowest} ({', '.join(others) if len(others) <= 3 else f'{len(others)} others'})"


#: Mark of a row → its note.
_MARKS = {
    "!": "! marks networks whose attacks are in doubt; the signs are listed below.",
    "audited": "Audited: part of the attack saw a sample only; the figure may be too high.",
    "imported": "Imported: another tool made the predictions; its attack is not recorded.",
    "real images": "Real images: learned from a data set's own images, not data-free.",
}


def _notes(
    networks: Sequence[Network], methods: Mapping[str, Sequence[int]], worst: Figure
) -> tuple[str, ...]:
    """What a reader must know, the most needed first."""
    lowest = worst.heading.lower()
    truly = "class" if worst is WORST_CLASS else "tenth of the classes"
    counts = " or ".join(map(str, sorted({len(those) for those in methods.values()})))
    about_methods = (
        f"Methods: mean over {counts} training seeds ± half the 95 % t interval over seeds. Two "
        "or fewer seeds are no row there."
    )
    return (
        *([about_methods] if methods else []),
        f"Networks: the intervals (95 %) are for other images like these; that of the {lowest} is "
        f"of the {truly} that truly is lowest. A network is a checkpoint, not a method.",
        "Accuracy in per cent. Best bold, second underlined, by the printed figure. ≈: the "
        "interval overlaps that of the best, so these figures alone do not tell them apart; "
        "ferd-eval compare on the runs themselves, paired by image, may.",
        f"The {lowest} is picked after the fact and tends to look worse than it is. NSD, standard "
        "deviation over classes ÷ their mean, falls whenever the mean rises.",
        "Floor: with 95 % confidence every class is right at least this often under the attack; "
        "of several seeds, every class of each of their networks.",
        *(note for mark, note in _MARKS.items() if mark in _marks(networks)),
    )
