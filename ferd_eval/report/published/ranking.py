"""Rankings of what is published: one for each set of images and ε, a column for each attack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from ferd_eval.metrics.comparison.methods import FEWEST_SEEDS
from ferd_eval.metrics.figures import LOWEST, WORST_CLASS, Figure, board_figures
from ferd_eval.report.format import NOTHING, Table
from ferd_eval.report.leaderboard.build import (
    attack_columns,
    by_figure,
    mark_places,
    papers_first,
    row_scores,
)
from ferd_eval.report.leaderboard.model import Board, Column, Row, Score
from ferd_eval.report.leaderboard.notes import constants_of_columns
from ferd_eval.report.published.counts import PublishedAttack, stable
from ferd_eval.report.published.link import href
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


@dataclass(frozen=True, eq=False)
class Ranking:
    """Networks that can be compared, and nothing else.

    Attributes:
        methods: means over training seeds; None where no method has enough.
        networks: every network by itself.
        links: name of a row of `networks` → its folder, seen from the page.
        lowest: the lowest classes of each network.
    """

    title: str
    methods: Board | None
    networks: Board
    links: Mapping[str, str]
    notes: tuple[str, ...]
    lowest: Table
    constants: Table


def rankings(runs: Sequence[PublishedRun]) -> tuple[Ranking, ...]:
    """Rank together the runs on the same images within the same ball."""
    together: dict[tuple[object, ...], list[tuple[PublishedRun, dict[str, PublishedAttack]]]] = {}
    for run in runs:
        for eps, attacks in _by_eps(run).items():
            key = (run.dataset, run.fingerprint, run.class_names, _sizes(attacks), eps)
            together.setdefault(key, []).append((run, attacks))
    found = [_ranking(_networks(those)) for those in together.values()]
    found.sort(key=lambda r: (r.networks.dataset, -(r.networks.images or 0), r.title))
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


def _sizes(attacks: Mapping[str, PublishedAttack]) -> tuple[int, ...]:
    return next(iter(attacks.values())).sizes


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
            same = (before.run.sha256, before.run.key) == (run.sha256, run.key)
            if clean_alike and same:
                found[name] = replace(before, attacks={**before.attacks, **attacks})
                continue
            name = str(run.place.file.parent)
        found[name] = Network(name, run, attacks)
    return list(found.values())


def _ranking(networks: Sequence[Network]) -> Ranking:
    first = networks[0].run
    figures = board_figures(len(first.class_names))
    columns = _columns(networks)
    eps = _eps_text([a for each in networks for a in each.attacks.values() if not a.is_clean])
    images = sum(_sizes(networks[0].attacks))
    selection = f" ({first.selection})" if first.selection not in ("", "all") else ""
    budget = f"ε = {eps}" if eps else "no attack"
    title = f"{first.dataset}, {images} images{selection}, {budget}"

    def board(groups: Mapping[str, Sequence[int]]) -> Board:
        rows = _in_order(_rows(groups, networks, columns, figures), columns)
        return Board(title, first.dataset, images, eps, figures[LOWEST].key, columns, rows)

    methods = _methods(networks)
    each = board({network.name: (i,) for i, network in enumerate(networks)})
    return Ranking(
        title,
        board(methods) if methods else None,
        each,
        {network.name: href(str(network.run.place.network)) for network in networks},
        _notes(networks, methods, figures[LOWEST]),
        _lowest_classes([row.name for row in each.rows], networks, columns),
        constants_of_columns(columns),
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
        key = (run.place.method, run.training.constants, run.training.teacher_sha256)
        if run.training.seed is not None:
            groups.setdefault(key, []).append(i)
    found: dict[str, tuple[int, ...]] = {}
    for (name, *_), places in groups.items():
        seeds = {networks[i].run.training.seed for i in places}
        if len(seeds) == len(places) >= FEWEST_SEEDS and name not in found:
            found[name] = tuple(places)
    return found


def _rows(
    groups: Mapping[str, Sequence[int]],
    networks: Sequence[Network],
    columns: Sequence[Column],
    figures: Mapping[str, Figure],
) -> list[Row]:
    """One network, or the mean over a method's; without the attacks that one of them lacks.

    Outcomes may not be published, so nothing is paired here. Two intervals that do not overlap
    are a difference; two that do may still be one, which `ferd-eval compare` can tell.
    """
    scores: dict[str, dict[str, dict[str, Score]]] = {name: {} for name in groups}
    for column in columns:
        names = [name for name, places in groups.items() if {*places} <= {*column.members}]
        of_rows = [
            row_scores(
                [networks[i].attacks[column.attack].scores for i in groups[name]], figures, stable
            )
            for name in names
        ]
        mark_places(of_rows, figures, partial(_overlap, of_rows), with_interval=True)
        for name, of in zip(names, of_rows, strict=True):
            scores[name][column.key] = of
    rows = []
    for name, places in groups.items():
        several = (f"{len(places)} seeds",) if len(places) > 1 else ()
        marks = _marks([networks[i] for i in places]) + several
        rows.append(Row(name, marks, len(places), scores[name]))
    return rows


def _marks(those: Sequence[Network]) -> tuple[str, ...]:
    marks = {
        "!": any(each.run.flags for each in those),
        "audited": any(of.is_open for each in those for of in each.attacks.values()),
        "imported": any(each.run.imported for each in those),
        "real images": any(each.run.training.real_images for each in those),
    }
    return tuple(mark for mark, holds in marks.items() if holds)


def _overlap(rows: Sequence[Mapping[str, Score]], first: int, second: int, figure: str) -> bool:
    one, other = rows[first][figure], rows[second][figure]
    ends = (one.low.value, one.high.value, other.low.value, other.high.value)
    low, high, other_low, other_high = (0.0 if end is None else end for end in ends)
    return low <= other_high and other_low <= high


def _in_order(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[Row, ...]:
    """By the lowest classes under the last column that most rows have; ties by name."""
    times = {c.key: sum(c.key in row.scores for row in rows) for c in columns}
    decisive = [c for c in columns if times[c.key] == max(times.values())][-1]
    return by_figure(sorted(rows, key=lambda row: row.name), decisive, LOWEST)


def _lowest_classes(
    names: Sequence[str], networks: Sequence[Network], columns: Sequence[Column]
) -> Table:
    """The lowest class of each sample, and which others may be it."""
    places = {network.name: i for i, network in enumerate(networks)}
    return Table(
        "Which class is lowest",
        ("Network", *(column.title for column in columns)),
        tuple(
            (
                name,
                *(
                    _lowest(networks[places[name]].attacks[column.attack])
                    if places[name] in column.members
                    else NOTHING
                    for column in columns
                ),
            )
            for name in names
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


def _notes(
    networks: Sequence[Network], methods: Mapping[str, Sequence[int]], worst: Figure
) -> tuple[str, ...]:
    """What a reader must know, the most needed first."""
    lowest = worst.heading.lower()
    truly = "class" if worst is WORST_CLASS else "tenth of the classes"
    notes = []
    if methods:
        counts = sorted({len(those) for those in methods.values()})
        notes.append(
            f"Methods: mean over {' or '.join(map(str, counts))} training seeds ± half the 95 % t "
            "interval over seeds. Two or fewer seeds are no row there."
        )
    notes += [
        f"Networks: the intervals (95 %) are for other images like these; that of the {lowest} is "
        f"of the {truly} that truly is lowest. A network is a checkpoint, not a method.",
        "Accuracy in per cent. Best bold, second underlined, by the printed figure. ≈: the "
        "interval overlaps that of the best, so these figures alone do not tell them apart; "
        "ferd-eval compare on the runs themselves, paired by image, may.",
        f"The {lowest} is picked after the fact and tends to look worse than it is. NSD, standard "
        "deviation over classes ÷ their mean, falls whenever the mean rises.",
        "Floor: with 95 % confidence every class is right at least this often under the attack; "
        "of several seeds, every class of each of their networks.",
    ]
    marks = {mark for network in networks for mark in _marks([network])}
    if "!" in marks:
        notes.append("! marks networks whose attacks are in doubt; the signs are listed below.")
    if "audited" in marks:
        notes.append("Audited: part of the attack saw a sample only; the figure may be too high.")
    if "imported" in marks:
        notes.append("Imported: another tool made the predictions; its attack is not recorded.")
    if "real images" in marks:
        notes.append("Real images: learned from a data set's own images, not data-free.")
    return tuple(notes)
