"""Types of a leaderboard: built once, rendered by every format."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

import pandas as pd

from ferd_eval._lazy import ShownInNotebooks
from ferd_eval.metrics import Scorecard
from ferd_eval.metrics.figures import FIGURES, LOWEST, board_figures, papers_figures
from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.format import EMPTY, FormattedValue, Table
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.results.run_group import RunGroup

#: Attacks in the order of the papers' tables, with their headings.
TITLES: Mapping[str, str] = {
    "clean": "Clean",
    "fgsm": "FGSM",
    "pgd": "PGD",
    "cw": "CW∞",
    "aa": "AA",
    "aa-audited": "AA audited",
}

#: Between measured and published rows.
RULE = "reported, not measured"


@dataclass(frozen=True, eq=False)
class ScoredGroup(RunGroup):
    """One row: runs with the scorecard of each."""

    cards: tuple[Scorecard, ...]

    @cached_property
    def images(self) -> tuple[str, ...]:
        """`images_of` its runs."""
        return images_of(self.runs[0])


def images_of(run: Outcomes) -> tuple[str, ...]:
    """Data set, classes, images scored and ε, as one key: runs with equal keys can be ranked."""
    data = run.manifest["dataset"]
    rows = run.table[["index", "label"]].drop_duplicates().sort_values(["index", "label"])
    digest = hashlib.sha256(rows.to_numpy(dtype="int64").tobytes())
    digest.update("\0".join(run.class_names).encode())
    eps = (run.manifest.get("threat") or {}).get("eps")
    return (
        str(data.get("name") or ""),
        str(data.get("fingerprint") or ""),
        digest.hexdigest(),
        "" if eps is None else f"{eps:.9g}",
    )


#: Of `Leaderboard.to_frame`.
_COLUMNS = (
    "dataset", "images", "eps", "row", "seeds", "reported", "attack", "figure", "value", "low",
    "high", "place", "tied_with_best",
)  # fmt: skip


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
    low: FormattedValue = EMPTY
    high: FormattedValue = EMPTY
    half: FormattedValue = EMPTY
    place: Place = Place.NONE
    tied: bool | None = None

    @property
    def interval(self) -> str:
        """``± 1.2`` or ``40.0 to 46.9``; empty where there is none."""
        if self.half.value is not None:
            return f"± {self.half}"
        return f"{self.low} to {self.high}" if self.low.value is not None else ""


@dataclass(frozen=True, eq=False)
class Column:
    """One attack with one set of constants.

    Attributes:
        key: the attack's id, and its differing constants where the table has several columns of it.
        constants: None where nobody measured it.
        members: places of the rows that met it, in the order in which the rows were given.
    """

    key: str
    attack: str
    title: str
    constants: Mapping[str, Any] | None
    members: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Row:
    """One network, method, or published row.

    Attributes:
        marks: short remarks: `!` where its attacks are in doubt.
        seeds: number of networks; 0 of a published row, which does not say.
        scores: column key → figure key → score.
        href: where the name leads, on pages; empty for nowhere.
    """

    name: str
    marks: tuple[str, ...]
    seeds: int
    scores: Mapping[str, Mapping[str, Score]]
    reported: bool = False
    href: str = ""

    @property
    def label(self) -> str:
        """The marks as printed behind the name."""
        signs = "".join(mark for mark in self.marks if mark in "!†")
        words = ", ".join(mark for mark in self.marks if mark not in "!†")
        return signs + (" " if signs and words else "") + (f"({words})" if words else "")

    def score(self, column: Column, figure: str) -> Score:
        """A score, a dash where there is none."""
        return self.scores.get(column.key, {}).get(figure, Score(EMPTY))


@dataclass(frozen=True, eq=False)
class Board:
    """Rows scored on the same images within the same ball, and published rows beside them.

    Attributes:
        worst_figure: key of the figure of the lowest classes; empty where their number is unknown.
        source: of the published rows.
        shown: keys of the figures asked for, in order; empty for all.
    """

    title: str
    dataset: str
    images: int | None
    eps: str
    worst_figure: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...] = ()
    reported: tuple[Row, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    shown: tuple[str, ...] = ()

    @property
    def figures(self) -> tuple[str, ...]:
        """Keys of the figures under each attack; published rows alone have those of papers."""
        known = tuple(board_figures() if self.rows else papers_figures())
        return tuple(key for key in self.shown if key in known) or known

    def scores(self, row: Row) -> list[Score]:
        """Cells of a row, column by column."""
        return [row.score(column, key) for column in self.columns for key in self.figures]

    def heading(self, figure: str) -> str:
        """Heading of a figure's column."""
        if figure == LOWEST and self.worst_figure:
            return FIGURES[self.worst_figure].heading
        return short_heading(figure)


def short_heading(key: str) -> str:
    """Heading of a figure's column where the number of classes is not known."""
    board = board_figures()[key].board
    assert board is not None
    return board[1]


@dataclass(frozen=True, eq=False, repr=False)
class Leaderboard(ShownInNotebooks):
    """One board for each set of images.

    Attributes:
        groups: the runs of the rows, in the order given.
    """

    title: str
    boards: tuple[Board, ...]
    groups: tuple[ScoredGroup, ...] = ()

    def to_frame(self) -> pd.DataFrame:
        """One row for each figure of each row under each attack; NaN is no value.

        Columns: dataset, images, eps, row, seeds (networks; 0 of a published row), reported
        (published, not measured), attack, figure, value (a fraction; NSD as it is), low and high
        (95 % interval; over seeds value ± the t interval's half), place, tied_with_best.
        """
        cells = [
            (board, row, column, key, row.score(column, key))
            for board in self.boards
            for row in (*board.rows, *board.reported)
            for column in board.columns
            for key in board.figures
        ]
        frame = pd.DataFrame(
            [
                (
                    board.dataset,
                    board.images,
                    board.eps,
                    row.name,
                    row.seeds,
                    row.reported,
                    column.key,
                    key,
                    score.figure.value,
                    score.low.value,
                    score.high.value,
                    str(score.place),
                    score.tied,
                )
                for board, row, column, key, score in cells
                if score.figure.value is not None
            ],
            columns=_COLUMNS,
        )
        fractions = dict.fromkeys(("value", "low", "high"), "float64")
        return frame.astype({**fractions, "images": "Int64", "tied_with_best": "boolean"})

    def __repr__(self) -> str:
        rows = sum(len(board.rows) for board in self.boards)
        sets = ", ".join(dict.fromkeys(board.title for board in self.boards))
        return f"Leaderboard({counted(rows, 'row', 'rows')}: {sets})"
