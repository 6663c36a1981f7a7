"""Build a leaderboard: group rows by their images, compute figures, rank, sort."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.metrics import PairwiseTests, Scores, seed_mean
from ferd_eval.metrics.figures import LOWEST, Figure, Unit, board_figures, lowest_figure
from ferd_eval.report.format import PRINTERS, FormattedValue
from ferd_eval.report.leaderboard.model import (
    TITLES,
    Board,
    Column,
    Leaderboard,
    Place,
    Row,
    Score,
    ScoredGroup,
    short_heading,
)
from ferd_eval.report.leaderboard.notes import (
    constants_of_columns,
    notes,
    origin_table,
    trust_table,
)
from ferd_eval.report.leaderboard.reported import Reported, ReportedTables

#: Scores of the rows of a column, by figure.
Ranked = list[dict[str, Score]]

#: Whether two rows of a column, the best first, may be equal in a figure; None if not tested.
Tied = Callable[[int, int, str], bool | None]


def leaderboard(
    groups: Sequence[ScoredGroup],
    reported: ReportedTables | None = None,
    *,
    attacks: Sequence[str] | None = None,
    figures: Sequence[str] = (),
    sort: str | None = None,
    num_classes: Mapping[str, int] | None = None,
) -> Leaderboard:
    """Rank networks and methods, each board by itself.

    Args:
        attacks: ids to show, in this order; default: all, those of the papers first.
        figures: names of the figures to show, in this order, as `sort` takes them; default: all.
        sort: "ATTACK.FIGURE", a figure under the last attack that all rows met, "name" or "given";
            default: the lowest classes under that attack.
        num_classes: of data sets that have published rows only.

    Raises:
        UserError: an attack or a figure is not there.
    """
    assert groups, "a leaderboard needs at least one row"
    published = reported.rows if reported else ()
    source = reported.source if reported else ""
    met = dict.fromkeys(attack for group in groups for attack in group.attacks)
    known = {*met, *(attack for row in published for attack in row.scores)}
    for attack in attacks or ():
        if attack not in known:
            raise UserError(f"no run was scored under {attack!r}.{did_you_mean(attack, met)}")
    sort_attack, sort_figure = _read_sort(sort, known)
    shown = _read_figures(figures)
    by_images: dict[tuple[str, ...], list[ScoredGroup]] = {}
    for group in groups:
        by_images.setdefault(group.images, []).append(group)
    # Published rows stand below the runs of their data set that met the most images.
    below: dict[str, tuple[str, ...]] = {}
    for images, those in sorted(by_images.items(), key=lambda item: -_images(item[1][0])):
        below.setdefault(_dataset(those[0]), images)
    boards = []
    for images, those in by_images.items():
        name = _dataset(those[0])
        beside = [row for row in published if row.dataset == name and below[name] == images]
        board = _board(those, beside, source if beside else "", attacks, shown)
        boards.append(replace(board, rows=_sorted_rows(board, sort_attack, sort_figure)))
    # Data sets that no run was scored on have a table of published rows alone.
    for name in dict.fromkeys(row.dataset for row in published if row.dataset not in below):
        own = [row for row in published if row.dataset == name]
        columns = _columns((), own, attacks)
        classes = (num_classes or {}).get(name)
        boards.append(
            Board(
                title=f"{name}: published figures only",
                dataset=name,
                images=None,
                eps="",
                worst_figure=lowest_figure(classes).key if classes else "",
                columns=columns,
                reported=_reported_rows(own, columns),
                source=source,
                notes=notes((), (), (), source),
                shown=shown,
            )
        )
    title = f"Leaderboard of {len(groups)} row{'s' * (len(groups) > 1)}"
    return Leaderboard(title, tuple(boards), tuple(groups))


def _board(
    groups: Sequence[ScoredGroup],
    published: Sequence[Reported],
    source: str,
    attacks: Sequence[str] | None,
    shown: tuple[str, ...],
) -> Board:
    first = groups[0].runs[0]
    figures = board_figures(len(first.class_names))
    columns = _columns(groups, published, attacks)
    unaligned = []

    def tests(column: Column, _: Ranked) -> Tied:
        found = PairwiseTests([groups[i] for i in column.members], column.attack)
        if not found.same_images:
            unaligned.append(column.attack)
        return lambda best, i, key: found.tied(best, i, figures[key])

    members = [[card.attacks for card in group.cards] for group in groups]
    scores = ranked_scores(members, columns, figures, tests)
    eps = str((first.manifest.get("threat") or {}).get("eps_text") or "")
    attacked = any(column.attack != "clean" for column in columns)
    budget = f", ε = {eps}" if eps else ", ε not known" if attacked else ""
    images = _images(groups[0])
    doubts = trust_table(groups)
    return Board(
        title=f"{_dataset(groups[0])}, {images} images{budget}",
        dataset=_dataset(groups[0]),
        images=images,
        eps=eps,
        worst_figure=figures[LOWEST].key,
        columns=columns,
        rows=tuple(
            Row(group.name, _marks(group, columns), len(group.runs), of)
            for group, of in zip(groups, scores, strict=True)
        ),
        reported=_reported_rows(published, columns),
        source=source,
        notes=notes(groups, columns, unaligned, source, shown or tuple(figures)),
        tables=(
            constants_of_columns(columns),
            origin_table(groups),
            *([doubts] if doubts.rows else []),
        ),
        shown=shown,
    )


def _columns(
    groups: Sequence[ScoredGroup], published: Sequence[Reported], attacks: Sequence[str] | None
) -> tuple[Column, ...]:
    measured = [attack for group in groups for attack in group.attacks]
    found = [*measured, *(attack for row in published for attack in row.scores)]
    met = [{a: group.cards[0].attacks[a].constants for a in group.attacks} for group in groups]
    return attack_columns(met, attacks or papers_first(found))


def papers_first(attacks: Iterable[str]) -> list[str]:
    """Each attack once, those of the papers' tables first."""
    found = dict.fromkeys(attacks)
    return [a for a in TITLES if a in found] + [a for a in found if a not in TITLES]


def attack_columns(
    met: Sequence[Mapping[str, Mapping[str, Any]]], attacks: Sequence[str]
) -> tuple[Column, ...]:
    """An attack has a column for each set of constants that it ran with.

    Args:
        met: for each row, attack → constants.
        attacks: in the order of the columns.
    """
    columns = []
    for attack in attacks:
        title = TITLES.get(attack, attack)
        found = _variants({i: of[attack] for i, of in enumerate(met) if attack in of})
        if not found:
            columns.append(Column(attack, attack, title, None))
        for constants, members in found:
            own = _differing(constants, [other for other, _ in found])
            suffix = f" ({own})" if own else ""
            key = attack + suffix
            columns.append(Column(key, attack, title + suffix, constants, tuple(members)))
    return tuple(columns)


def _variants(
    constants: Mapping[int, Mapping[str, Any]],
) -> list[tuple[dict[str, Any], list[int]]]:
    """Group rows by constants that do not contradict each other; a missing one contradicts none.

    Args:
        constants: place of a row → its constants.

    Returns:
        The constants of each group and its places, in order of the first place.
    """
    known = {
        i: {name: value for name, value in of.items() if value is not None}
        for i, of in constants.items()
    }
    found: list[tuple[dict[str, Any], list[int]]] = []
    for i in sorted(known, key=lambda i: (-len(known[i]), i)):
        for together, members in found:
            if all(together.get(name, value) == value for name, value in known[i].items()):
                together |= known[i] | together
                members.append(i)
                break
        else:
            found.append((dict(known[i]), [i]))
    for _, members in found:
        members.sort()
    return sorted(found, key=lambda item: item[1][0])


def _differing(constants: Mapping[str, Any], variants: Sequence[Mapping[str, Any]]) -> str:
    """Those constants in which the variants of an attack differ."""
    names = [
        name
        for name in dict.fromkeys(name for each in variants for name in each)
        if name not in ("eps_text", "step_size_text")  # repeat eps and step_size, for print
        and len({str(each[name]) for each in variants if name in each}) > 1
    ]
    return ", ".join(
        f"{'ε' if name == 'eps' else name.replace('_', ' ')} "
        f"{constants.get(f'{name}_text', constants[name])}"
        for name in names
        if name in constants
    )


def ranked_scores(
    members: Sequence[Sequence[Mapping[str, Scores]]],
    columns: Sequence[Column],
    figures: Mapping[str, Figure],
    tests: Callable[[Column, Ranked], Tied],
    tidy: Callable[[float], float] = float,
    *,
    with_interval: bool = False,
) -> list[dict[str, dict[str, Score]]]:
    """Figures of each row by column, with the best, the second, and the ties with the best marked.

    Args:
        members: for each row attack → scores of its networks, one for each training seed.
        figures: key on leaderboards → figure; limits get no place.
        tests: of the rows that a column has, from their figures under it.
        tidy: applied to each mean and end of an interval.
        with_interval: rank only figures that have an interval.
    """
    found: list[dict[str, dict[str, Score]]] = [{} for _ in members]
    for column in columns:
        if not column.members:
            continue
        ranked = [
            _row_scores([scores[column.attack] for scores in members[i]], figures, tidy)
            for i in column.members
        ]
        tied = tests(column, ranked)
        for key, figure in figures.items():
            if not figure.limit:
                _mark_places(ranked, key, figure, tied, with_interval=with_interval)
        for i, of in zip(column.members, ranked, strict=True):
            found[i][column.key] = of
    return found


def _row_scores(
    cards: Sequence[Scores], figures: Mapping[str, Figure], tidy: Callable[[float], float]
) -> dict[str, Score]:
    """Figures of one network with intervals over images, or means over seeds; not ranked."""

    def show_as(unit: Unit, value: float | None) -> FormattedValue:
        return PRINTERS[unit](None if value is None else tidy(value))

    scores = {}
    for key, figure in figures.items():
        show = partial(show_as, figure.unit)
        values = [card.figures[figure.key] for card in cards]
        mean = seed_mean(values)
        if mean.value is None:
            scores[key] = Score(show(None))
        elif figure.limit:
            scores[key] = Score(show(min(value for value in values if value is not None)))
        elif mean.half95 is not None:
            value, half = mean.value, mean.half95
            scores[key] = Score(show(value), show(value - half), show(value + half), show(half))
        else:
            interval = cards[0].intervals.get(figure.interval_key) if len(cards) == 1 else None
            low, high = interval or (None, None)
            scores[key] = Score(show(mean.value), show(low), show(high))
    return scores


def _mark_places(
    ranked: Ranked, key: str, figure: Figure, tied: Tied, *, with_interval: bool
) -> None:
    """Mark, in place, the best and the second of a figure, and the ties with the best."""
    values = {
        i: of[key].figure.value
        for i, of in enumerate(ranked)
        if of[key].low.value is not None or not with_interval
    }
    sign = -1 if figure.more_is_better else 1
    known = {i: sign * value for i, value in values.items() if value is not None}
    order = sorted(known, key=known.__getitem__)
    if len(order) < 2:
        return
    printed = dict.fromkeys(ranked[i][key].figure.text for i in order)
    places = dict(zip(printed, (Place.BEST, Place.SECOND), strict=False))
    for i in order:
        ranked[i][key] = replace(
            ranked[i][key],
            place=places.get(ranked[i][key].figure.text, Place.NONE),
            tied=None if i == order[0] else tied(order[0], i, key),
        )


def _marks(group: ScoredGroup, columns: Sequence[Column]) -> tuple[str, ...]:
    shown = {column.attack for column in columns}
    marks = {
        "!": any(card.flags for card in group.cards),
        "audited": any(
            scores.audit is not None and scores.audit.leaves_open and attack in shown
            for card in group.cards
            for attack, scores in card.attacks.items()
        ),
        "imported": any(run.manifest.get("engine") == "imported" for run in group.runs),
    }
    return tuple(mark for mark, holds in marks.items() if holds)


def _reported_rows(published: Sequence[Reported], columns: Sequence[Column]) -> tuple[Row, ...]:
    """Published rows under the first column of each attack; never ranked."""
    key = {column.attack: column.key for column in reversed(columns)}
    return tuple(
        Row(
            row.name,
            ("†", *([f"Table {row.table}"] if row.table else [])),
            0,
            {
                key[attack]: {name: Score(figure) for name, figure in of.items()}
                for attack, of in row.scores.items()
                if attack in key
            },
            reported=True,
        )
        for row in published
        if any(attack in key for attack in row.scores)
    )


def _figure_names() -> dict[str, str]:
    """What a command may call a figure → its key."""
    return {name: key for key in board_figures() for name in (short_heading(key).lower(), key)}


def _read_figures(names: Sequence[str]) -> tuple[str, ...]:
    """Keys of the figures named, each once; UserError where one is none."""
    known = _figure_names()
    for name in names:
        if name.lower() not in known:
            raise UserError(f"no figure is called {name!r}.{did_you_mean(name, known)}")
    return tuple(dict.fromkeys(known[name.lower()] for name in names))


def _read_sort(sort: str | None, attacks: Collection[str]) -> tuple[str, str]:
    """Attack (or empty) and figure of ``--sort``, of which ``name`` and ``given`` count as figures.

    Raises:
        UserError: it names no figure, or an attack that is not there.
    """
    if sort in ("name", "given"):
        return "", sort
    figures = _figure_names()
    attack, dot, figure = (sort or LOWEST).rpartition(".")
    if figure.lower() not in figures or (dot and not attack):
        raise UserError(
            f"--sort {sort} is no column. Give ATTACK.FIGURE, such as pgd.worst, or one of "
            f"{', '.join(('name', 'given', *figures))}."
        )
    if attack and attack not in attacks:
        raise UserError(
            f"--sort {sort}: no column is of {attack!r}.{did_you_mean(attack, attacks)}"
        )
    return attack, figures[figure.lower()]


def _sorted_rows(board: Board, attack: str, figure: str) -> tuple[Row, ...]:
    """By the first column of the attack; without one, by the last that all rows have."""
    if figure == "given":
        return board.rows
    if figure == "name":
        return tuple(sorted(board.rows, key=lambda row: row.name.casefold()))
    of_attack = [column for column in board.columns if column.attack == attack]
    shared = [c for c in board.columns if all(c.key in row.scores for row in board.rows)]
    measured = [c for c in board.columns if any(c.key in row.scores for row in board.rows)]
    column = of_attack[0] if of_attack else (shared or measured or board.columns)[-1]
    return by_figure(board.rows, column, figure)


def by_figure(rows: Sequence[Row], column: Column, figure: str) -> tuple[Row, ...]:
    """The best row first, those without the figure last; ties stay in order."""
    sign = -1 if board_figures()[figure].more_is_better else 1

    def key(row: Row) -> tuple[bool, float]:
        value = row.score(column, figure).figure.value
        return value is None, sign * (value or 0.0)

    return tuple(sorted(rows, key=key))


def _dataset(group: ScoredGroup) -> str:
    return str(group.runs[0].manifest["dataset"].get("name") or "data set without a name")


def _images(group: ScoredGroup) -> int:
    return max(scores.n for scores in group.cards[0].attacks.values())
