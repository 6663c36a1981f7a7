"""What a leaderboard says, before any format: built once, rendered by every format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.metrics import PairwiseTests, seed_mean
from ferd_eval.metrics.figures import LOWEST, Figure, board_figures, lowest_figure, papers_figures
from ferd_eval.report.format import NOTHING, PRINTERS, FormattedValue, Table
from ferd_eval.report.leaderboard.model import ScoredGroup, apart, variants
from ferd_eval.report.leaderboard.notes import (
    constants_of_columns,
    notes,
    origin_table,
    trust_table,
)
from ferd_eval.report.leaderboard.reported import Reported, ReportedTables

#: Columns of a papers' table in their order, and what stands above them.
TITLES: Mapping[str, str] = {
    "clean": "Clean",
    "fgsm": "FGSM",
    "pgd": "PGD",
    "cw": "CW∞",
    "aa": "AA",
    "aa-audited": "AA audited",
}

_NO_FIGURE = FormattedValue(None, NOTHING)


class Place(StrEnum):
    """Among the measured rows that can be compared, by the printed figure."""

    BEST = "best"
    SECOND = "second"
    NONE = ""


@dataclass(frozen=True)
class Score:
    """One figure of one row with its uncertainty.

    Attributes:
        low, high: 95 % interval for one network; of a mean over seeds, the figure ± `half`.
        half: half the 95 % t interval over training seeds.
        tied: whether the difference to the best may be 0; None for the best and where not tested.
    """

    figure: FormattedValue
    low: FormattedValue = _NO_FIGURE
    high: FormattedValue = _NO_FIGURE
    half: FormattedValue = _NO_FIGURE
    place: Place = Place.NONE
    tied: bool | None = None

    @property
    def sure(self) -> str:
        """The uncertainty in words of few letters; empty where there is none."""
        if self.half.value is not None:
            return f"± {self.half}"
        return f"{self.low} to {self.high}" if self.low.value is not None else ""


@dataclass(frozen=True, eq=False)
class Column:
    """One attack with one set of constants.

    Attributes:
        key: id of the attack, with what sets it apart where the table holds it more than once.
        constants: None where nobody measured it.
    """

    key: str
    attack: str
    title: str
    constants: Mapping[str, Any] | None


@dataclass(frozen=True, eq=False)
class Row:
    """One network, method, or published row.

    Attributes:
        marks: short words on what to know of it: `!` where its attacks are in doubt.
        seeds: networks behind it; 0 of a published row, which does not say.
        scores: column key → figure key → score.
    """

    name: str
    marks: tuple[str, ...]
    seeds: int
    scores: Mapping[str, Mapping[str, Score]]
    reported: bool = False

    @property
    def label(self) -> str:
        """Its marks as they stand behind the name."""
        signs = "".join(mark for mark in self.marks if mark in "!†")
        words = ", ".join(mark for mark in self.marks if mark not in "!†")
        return signs + (" " if signs and words else "") + (f"({words})" if words else "")

    def score(self, column: Column, figure: str) -> Score:
        """A score, a dash where there is none."""
        return self.scores.get(column.key, {}).get(figure, Score(_NO_FIGURE))


@dataclass(frozen=True, eq=False)
class Board:
    """The rows that met the same images within the same ball, and what is published beside them.

    Attributes:
        worst: heading of the column of the lowest classes.
        source: of the published rows.
    """

    title: str
    dataset: str
    images: int | None
    eps: str
    worst: str
    worst_figure: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    reported: tuple[Row, ...]
    source: str
    notes: tuple[str, ...]
    tables: tuple[Table, ...]

    @property
    def figures(self) -> tuple[str, ...]:
        """Keys of the figures under each attack; published rows alone have those of papers."""
        return tuple(board_figures() if self.rows else papers_figures())

    def heading(self, figure: str) -> str:
        """Heading of a figure's column."""
        return self.worst if figure == LOWEST else short_heading(figure)


@dataclass(frozen=True, eq=False)
class Leaderboard:
    """One table for each set of images."""

    title: str
    boards: tuple[Board, ...]


def leaderboard(
    entries: Sequence[ScoredGroup],
    reported: ReportedTables | None = None,
    *,
    attacks: Sequence[str] | None = None,
    sort: str | None = None,
    num_classes: Mapping[str, int] | None = None,
) -> Leaderboard:
    """Rank networks and methods, each table within itself.

    Args:
        attacks: ids to show, in this order; default: all, those of the papers first.
        sort: "ATTACK.FIGURE", a figure under the last attack that all rows met, "name" or "given";
            default: the lowest classes under that attack.
        num_classes: of data sets that only published rows are of.

    Raises:
        UserError: an attack or a figure is not there.
    """
    assert entries, "a leaderboard needs at least one entry"
    known = dict.fromkeys(attack for entry in entries for attack in entry.attacks)
    published = reported.rows if reported else ()
    for attack in attacks or ():
        if attack not in known and not any(attack in row.scores for row in published):
            raise UserError(f"no run was scored under {attack!r}.{did_you_mean(attack, known)}")
    order = _sort_key(sort, {*known, *(attack for row in published for attack in row.scores)})
    tables: dict[tuple[str, ...], list[ScoredGroup]] = {}
    for entry in entries:
        tables.setdefault(entry.images, []).append(entry)
    # Published rows stand below the runs of their data set that met the most images.
    below: dict[str, tuple[str, ...]] = {}
    for key, those in sorted(tables.items(), key=lambda item: -_images(item[1][0])):
        below.setdefault(_dataset(those[0]), key)
    boards = []
    for key, those in tables.items():
        name = _dataset(those[0])
        own = [row for row in published if row.dataset == name] if below[name] == key else []
        board = _board(those, own, reported.source if reported and own else "", attacks)
        boards.append(replace(board, rows=order(board)))
    for name in dict.fromkeys(row.dataset for row in published):
        if name not in below:
            own = [row for row in published if row.dataset == name]
            classes = (num_classes or {}).get(name)
            boards.append(_published_board(name, own, reported, attacks, classes))
    rows = len(entries)
    return Leaderboard(f"Leaderboard of {rows} row{'s' * (rows > 1)}", tuple(boards))


def _board(
    entries: Sequence[ScoredGroup],
    published: Sequence[Reported],
    source: str,
    attacks: Sequence[str] | None,
) -> Board:
    first = entries[0]
    figures = board_figures(len(first.runs[0].class_names))
    columns = _columns(entries, published, attacks)
    standings: list[PairwiseTests] = []
    scores: list[dict[str, dict[str, Score]]] = [{} for _ in entries]
    for column, members in columns:
        if not members:
            continue
        those = [entries[i] for i in members]
        standing = PairwiseTests(those, column.attack)
        standings.append(standing)
        unranked = [_scores(each, column.attack, figures) for each in those]
        ranked = _ranked(unranked, standing, figures)
        for i, score in zip(members, ranked, strict=True):
            scores[i][column.key] = score
    eps = str((first.runs[0].manifest.get("threat") or {}).get("eps_text") or "")
    shown = tuple(column for column, _ in columns)
    images = _images(first)
    attacked = any(column.attack != "clean" for column in shown)
    budget = f", ε = {eps}" if eps else ", ε not known" if attacked else ""
    return Board(
        title=f"{_dataset(first)}, {images} images{budget}",
        dataset=_dataset(first),
        images=images,
        eps=eps,
        worst=figures[LOWEST].heading,
        worst_figure=figures[LOWEST].key,
        columns=shown,
        rows=tuple(
            Row(entry.name, _marks(entry, shown), len(entry.runs), of)
            for entry, of in zip(entries, scores, strict=True)
        ),
        reported=_reported_rows(published, shown),
        source=source,
        notes=notes(entries, columns, standings, source=source),
        tables=(
            constants_of_columns(shown),
            origin_table(entries),
            *([table] if (table := trust_table(entries)) else []),
        ),
    )


def _published_board(
    dataset: str,
    published: Sequence[Reported],
    reported: ReportedTables | None,
    attacks: Sequence[str] | None,
    classes: int | None,
) -> Board:
    """Published rows of a data set that no run was scored on."""
    assert reported is not None
    columns = tuple(column for column, _ in _columns((), published, attacks))
    figure = lowest_figure(classes) if classes else None
    return Board(
        title=f"{dataset}: published figures only",
        dataset=dataset,
        images=None,
        eps="",
        worst=figure.heading if figure else short_heading(LOWEST),
        worst_figure=figure.key if figure else "",
        columns=columns,
        rows=(),
        reported=_reported_rows(published, columns),
        source=reported.source,
        notes=notes((), (), (), source=reported.source),
        tables=(),
    )


def _columns(
    entries: Sequence[ScoredGroup], published: Sequence[Reported], attacks: Sequence[str] | None
) -> list[tuple[Column, list[int]]]:
    """Columns, and the entries in each by place: an attack has as many as its constants differ."""
    measured = [attack for entry in entries for attack in entry.attacks]
    found = dict.fromkeys([*measured, *(attack for row in published for attack in row.scores)])
    wanted = attacks or [a for a in TITLES if a in found] + [a for a in found if a not in TITLES]
    columns: list[tuple[Column, list[int]]] = []
    for attack in wanted:
        met = {i: e.constants(attack) for i, e in enumerate(entries) if attack in e.attacks}
        found_here = variants(met)
        if not found_here:
            columns.append((Column(attack, attack, TITLES.get(attack, attack), None), []))
        for constants, members in found_here:
            own = apart(constants, [other for other, _ in found_here])
            key, title = (
                f"{name} ({own})" if own else name for name in (attack, TITLES.get(attack, attack))
            )
            columns.append((Column(key, attack, title, constants), members))
    return columns


def _scores(entry: ScoredGroup, attack: str, figures: Mapping[str, Figure]) -> dict[str, Score]:
    """Figures of one entry under one attack, unranked."""
    cards = [card.attacks[attack] for card in entry.cards]
    scores = {}
    for key, figure in figures.items():
        printer = PRINTERS[figure.unit]
        values = [card.figures[figure.key] for card in cards]
        if figure.limit:
            known = [value for value in values if value is not None]
            scores[key] = Score(printer(min(known) if len(known) == len(cards) else None))
            continue
        scores[key] = _score(values, printer)
        ends = cards[0].intervals.get(figure.interval_key)
        if len(cards) == 1 and ends is not None:
            scores[key] = replace(scores[key], low=printer(ends[0]), high=printer(ends[1]))
    return scores


def _score(
    values: Sequence[float | None], printer: Callable[[float | None], FormattedValue]
) -> Score:
    if len(values) == 1:
        return Score(printer(values[0]))
    mean = seed_mean(values)
    if mean.value is None or mean.half95 is None:
        return Score(printer(mean.value))
    return Score(
        printer(mean.value),
        low=printer(mean.value - mean.half95),
        high=printer(mean.value + mean.half95),
        half=printer(mean.half95),
    )


def _ranked(
    unranked: Sequence[dict[str, Score]],
    standing: PairwiseTests,
    figures: Mapping[str, Figure],
) -> list[dict[str, Score]]:
    """Mark the best and the second of each figure, and what may be no worse than the best."""
    ranked = [dict(scores) for scores in unranked]
    for key, figure in figures.items():
        if figure.limit:
            continue
        values = [scores[key].figure.value for scores in unranked]
        present = [i for i, value in enumerate(values) if value is not None]
        if len(present) < 2:
            continue
        sign = -1 if figure.more_is_better else 1
        present.sort(key=lambda i: sign * (values[i] or 0.0))
        printed = list(dict.fromkeys(unranked[i][key].figure.text for i in present))
        marks = dict(zip(printed, (Place.BEST, Place.SECOND), strict=False))
        for i in present:
            score = unranked[i][key]
            ranked[i][key] = replace(
                score,
                place=marks.get(score.figure.text, Place.NONE),
                tied=None if i == present[0] else standing.tied(present[0], i, figure),
            )
    return ranked


def _marks(entry: ScoredGroup, columns: Sequence[Column]) -> tuple[str, ...]:
    marks = ["!"] if any(card.flags for card in entry.cards) else []
    shown = {column.attack for column in columns}
    if any(
        scores.audit is not None and scores.audit.leaves_open
        for card in entry.cards
        for attack, scores in card.attacks.items()
        if attack in shown
    ):
        marks.append("audited")
    if any(run.manifest.get("engine") == "imported" for run in entry.runs):
        marks.append("imported")
    return tuple(marks)


def _reported_rows(published: Sequence[Reported], columns: Sequence[Column]) -> tuple[Row, ...]:
    """Published rows under the first column of each attack; never ranked."""
    place: dict[str, str] = {}
    for column in columns:
        place.setdefault(column.attack, column.key)
    return tuple(
        Row(
            row.name,
            ("†", *([f"Table {row.table}"] if row.table else [])),
            0,
            {
                place[attack]: {key: Score(figure) for key, figure in of.items()}
                for attack, of in row.scores.items()
                if attack in place
            },
            reported=True,
        )
        for row in published
        if any(attack in place for attack in row.scores)
    )


def _sort_key(sort: str | None, attacks: Collection[str]) -> Callable[[Board], tuple[Row, ...]]:
    """Read ``--sort``.

    Raises:
        UserError: it names no figure, or an attack that is not there.
    """
    figures = {name: key for key in board_figures() for name in (short_heading(key).lower(), key)}
    attack, dot, figure = (sort or LOWEST).rpartition(".")
    if sort not in ("name", "given") and (figure.lower() not in figures or (dot and not attack)):
        names = ("name", "given", *figures)
        raise UserError(
            f"--sort {sort} is no column. Give ATTACK.FIGURE, such as pgd.worst, or one of "
            f"{', '.join(names)}."
        )

    if attack and attack not in attacks:
        raise UserError(
            f"--sort {sort}: no column is of {attack!r}.{did_you_mean(attack, attacks)}"
        )

    def in_order(board: Board) -> tuple[Row, ...]:
        if sort == "given":
            return board.rows
        if sort == "name":
            return tuple(sorted(board.rows, key=lambda row: row.name.casefold()))
        column = _sorted_by(board, attack)
        key = figures[figure.lower()]
        sign = -1 if board_figures()[key].more_is_better else 1

        def place(row: Row) -> tuple[bool, float]:
            value = row.score(column, key).figure.value
            return value is None, sign * (value or 0.0)

        return tuple(sorted(board.rows, key=place))

    return in_order


def _sorted_by(board: Board, attack: str) -> Column:
    """The first column of an attack; without one, the last that all rows have."""
    for column in board.columns:
        if column.attack == attack:
            return column
    shared = [c for c in board.columns if all(c.key in row.scores for row in board.rows)]
    measured = [c for c in board.columns if any(c.key in row.scores for row in board.rows)]
    return (shared or measured or board.columns)[-1]


def short_heading(key: str) -> str:
    """Heading of a figure's column where the number of classes is not known."""
    board = board_figures()[key].board
    assert board is not None
    return board[1]


def _dataset(entry: ScoredGroup) -> str:
    return str(entry.runs[0].manifest["dataset"].get("name") or "data set without a name")


def _images(entry: ScoredGroup) -> int:
    return max(scores.n for scores in entry.cards[0].attacks.values())
