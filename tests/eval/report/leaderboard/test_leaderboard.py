"""Leaderboards: one figure in every format, ranks and ties by brute force, names as text."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace as changed
from functools import cache
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from ferd_eval.errors import UserError
from ferd_eval.io.escape import escape_latex as escape
from ferd_eval.metrics import Comparison, compare, compare_methods, scorecard
from ferd_eval.metrics.comparison import pairwise
from ferd_eval.report.leaderboard import (
    ScoredGroup,
    leaderboard,
    read_reported,
    render_terminal,
    write_leaderboard,
)
from ferd_eval.results.outcomes import Outcomes
from tests.eval.report.leaderboard.latex_table import read_tables

FIGURES = ("average", "worst", "nsd", "floor")
TITLES = {"clean": "Clean", "fgsm": "FGSM", "pgd": "PGD", "aa": "AA", "cw": "CW∞"}
HUNDRED = [f"c{i}" for i in range(100)]


@pytest.fixture
def simulate(make_run: Any) -> Any:
    """`simulated_run.simulate`; the fixture asked for makes it importable."""
    from tests.eval.metrics.simulated_run import simulate

    return simulate


def entry(name: str, *runs: Outcomes, seeds: Sequence[int] = ()) -> ScoredGroup:
    folders = [Path(f"seed-{seed}") for seed in seeds] or [Path(name)] * len(runs)
    return ScoredGroup(name, tuple(folders), runs, tuple(map(scorecard, runs)))


def network(of: Outcomes, seed: int, flip: float = 0.06) -> Outcomes:
    """Another network on the same images: some verdicts differ."""
    random = np.random.default_rng(seed)
    table = of.table.copy()
    flipped = random.random(len(table)) < flip
    right = table["correct"].to_numpy() ^ flipped
    label = table["label"].to_numpy()
    table["adv_pred"] = np.where(right, label, (label + 1) % len(of.class_names))
    table["correct"] = right
    clean = table["attack"] == "clean"
    first = table.loc[clean].set_index("index")["adv_pred"]
    table["clean_pred"] = first.loc[table["index"]].to_numpy()
    return changed(of, table=table.astype(of.table.dtypes.to_dict()))


# Reading the formats back


@dataclass(frozen=True)
class Read:
    text: str
    place: str
    tied: bool
    sure: str


Boards = list[dict[str, dict[tuple[str, str], Read]]]


def columns(attacks: Sequence[str], figures: Sequence[str] = FIGURES) -> list[tuple[str, str]]:
    return [(attack, figure) for attack in attacks for figure in figures]


def from_json(text: str) -> Boards:
    def read(score: dict[str, Any]) -> Read:
        half, low, high = (score[key]["printed"] for key in ("half95", "low", "high"))
        sure = f"± {half}" if half else f"{low} to {high}" if low else ""
        printed = score["printed"] or "–"
        return Read(printed, score["place"] or "", bool(score["tied_with_best"]), sure)

    return [
        {
            row["name"]: {
                (column, figure): read(score)
                for column, of in row["scores"].items()
                for figure, score in of.items()
            }
            for row in (*board["rows"], *board["reported"])
        }
        for board in json.loads(text)["tables"]
    ]


def from_csv(text: str) -> Boards:
    boards: dict[str, dict[str, dict[tuple[str, str], Read]]] = {}
    for line in csv.DictReader(io.StringIO(text)):
        figure = line["figure"].replace("worst_class", "worst").replace("worst_10pct", "worst")
        sure = f"± {line['half_printed']}" if line["half_printed"] else ""
        if line["low_printed"] and not sure:
            sure = f"{line['low_printed']} to {line['high_printed']}"
        boards.setdefault(line["table"], {}).setdefault(line["row"], {})[line["column"], figure] = (
            Read(line["printed"] or "–", line["place"], line["tied_with_best"] == "1", sure)
        )
    return list(boards.values())


def from_markdown(text: str) -> Boards:
    boards = []
    for part in text.split("\n## ")[1:]:
        lines = [line[2:-2].split(" | ") for line in part.split("\n\n")[1].splitlines()]
        heads = lines[0][1:]
        figures = {"Avg": "average", "Worst": "worst", "NSD": "nsd", "Floor": "floor"}
        keys = []
        for head in heads:
            attack, word = re.fullmatch(
                r"(.*) (Avg|Worst|NSD|Floor)(?: class| 10 %)?", head
            ).groups()  # type: ignore[union-attr]
            keys.append((attack, figures[word]))
        boards.append(
            {
                line[0]: {
                    key: markdown_cell(cell) for key, cell in zip(keys, line[1:], strict=True)
                }
                for line in lines[2:]
                if not line[0].startswith("*")
            }
        )
    return boards


def markdown_cell(cell: str) -> Read:
    tie, best, second, text, sure = re.fullmatch(
        r"(≈ )?(\*\*)?(<u>)?([\d.–]+)(?:\*\*|</u>)?(?: \((.*)\))?", cell
    ).groups()  # type: ignore[union-attr]
    return Read(text, "best" if best else "second" if second else "", bool(tie), sure or "")


class Page(HTMLParser):
    """Cells of the tables of class `board`, with what stands out in them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.boards: list[list[list[dict[str, str]]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside = ""
        self.in_board = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = dict(attrs)
        self.tags.append((tag, of))
        if tag == "table":
            self.in_board = "board" in (of.get("class") or "")
            if self.in_board:
                self.boards.append([])
        elif self.in_board and tag == "tr":
            self.boards[-1].append([])
        elif self.in_board and tag in ("td", "th"):
            self.boards[-1][-1].append(
                {"class": of.get("class") or "", "v": of.get("data-v") or ""}
            )
            self.inside = "text"
        elif self.in_board and tag in ("small", "span"):
            self.inside = {"v": "text", "tie": "tie"}.get(of.get("class") or "", tag)

    def handle_data(self, data: str) -> None:
        if self.in_board and self.boards[-1] and self.boards[-1][-1] and data.strip():
            cell = self.boards[-1][-1][-1]
            cell[self.inside] = cell.get(self.inside, "") + data.strip()

    def handle_endtag(self, tag: str) -> None:
        if tag == "table":
            self.in_board = False


def from_html(text: str, keys: Sequence[Sequence[tuple[str, str]]]) -> Boards:
    boards = []
    for rows, own in zip(Page(text).boards, keys, strict=True):
        found = {}
        for row in rows[2:]:
            if len(row) == len(own) + 1:
                found[row[0]["text"]] = {
                    key: Read(
                        cell["text"],
                        next((p for p in ("best", "second") if p in cell["class"].split()), ""),
                        "tie" in cell,
                        cell.get("small", ""),
                    )
                    for key, cell in zip(own, row[1:], strict=True)
                }
        boards.append(found)
    return boards


def from_latex(text: str) -> Boards:
    ids = {title: attack for attack, title in TITLES.items()}
    return [
        {
            name: {(ids[title], figure): Read(*cell) for (title, figure), cell in row.items()}
            for name, row in table.cells().items()
        }
        for table in read_tables(text)
    ]


def written(folder: Path, board: Any) -> dict[str, str]:
    return {file.suffix: file.read_text("utf-8") for file in write_leaderboard(folder, board)}


# What they should say, said a second time


def expected(entries: Sequence[ScoredGroup], attacks: Sequence[str]) -> dict[str, Any]:
    """Places and ties by comparing everything with everything, straight from the outcomes."""
    worst = "worst_10pct" if len(entries[0].runs[0].class_names) >= 100 else "worst_class"
    compared = cache(compare_groups)
    found: dict[str, Any] = {each.name: {} for each in entries}
    for attack in attacks:
        those = [each for each in entries if attack in each.attacks]
        for figure in FIGURES:
            values = {}
            for each in those:
                cards = [card.attacks[attack] for card in each.cards]
                if figure == "worst" and worst == "worst_class":
                    of = [min(c.accuracy for c in card.per_class if c.n) for card in cards]
                elif figure == "worst":
                    of = [
                        float(np.mean(sorted(c.accuracy for c in card.per_class if c.n)[:10]))
                        for card in cards
                    ]
                elif figure == "floor":
                    values[each.name] = min(card.floor95 for card in cards)
                    continue
                else:
                    of = [getattr(card, figure) for card in cards]
                values[each.name] = sum(of) / len(of)
                sure = ""
                if len(of) >= 3:
                    low, high = stats.t.interval(0.95, len(of) - 1, np.mean(of), stats.sem(of))
                    half = (high - low) / 2
                    sure = f"± {half:.3f}" if figure == "nsd" else f"± {100 * half:.1f}"
                elif len(of) == 1 and figure != "nsd":
                    low, high = getattr(
                        cards[0], "average95" if figure == "average" else worst + "95"
                    )
                    sure = f"{100 * low:.1f} to {100 * high:.1f}"
                found[each.name][attack, figure] = sure
            texts = {
                name: f"{value:.3f}" if figure == "nsd" else f"{100 * value:.1f}"
                for name, value in values.items()
            }
            sign = 1 if figure == "nsd" else -1
            ladder = sorted({float(text) for text in texts.values()}, key=lambda x: sign * x)
            top = min(values, key=lambda name: sign * values[name])
            for each in those:
                place, tied = "", False
                if figure != "floor" and len(those) > 1:
                    rank = ladder.index(float(texts[each.name]))
                    place = ("best", "second", "")[min(rank, 2)]
                    if each.name != top:
                        best = next(t for t in those if t.name == top)
                        tied = holds_zero(compared(best, each, attack), figure, worst)
                sure = found[each.name].get((attack, figure), "")
                found[each.name][attack, figure] = Read(texts[each.name], place, tied, sure)
    for each in entries:
        for key in columns(attacks):
            found[each.name].setdefault(key, Read("–", "", False, ""))
    return found


def compare_groups(top: ScoredGroup, other: ScoredGroup, attack: str) -> Comparison | None:
    sizes = {len(top.runs), len(other.runs)}
    if sizes == {1}:
        return compare(top.runs[0], other.runs[0], attack)
    if min(sizes) < 3:
        return None
    paired = top.seeds == other.seeds and None not in top.seeds
    return compare_methods(top.runs, other.runs, attack, by_seed=paired)


def holds_zero(comparison: Comparison | None, figure: str, worst: str) -> bool:
    interval = comparison and getattr(comparison, worst if figure == "worst" else figure).interval95
    return interval is not None and interval[0] <= 0 <= interval[1]


CASES = {
    "networks": {},
    "many classes": {"names": HUNDRED, "per_class": 12},
    "methods": {"methods": True},
    "no attack shared by all": {"missing": True},
}


@pytest.mark.parametrize("case", CASES)
def test_every_figure_is_the_same_in_every_format(simulate: Any, tmp_path: Path, case: str) -> None:
    options: dict[str, Any] = {**CASES[case]}
    methods, missing = options.pop("methods", False), options.pop("missing", False)
    base = simulate(seed=3, **options)
    if methods:
        entries = [
            entry("a", *(network(base, s) for s in range(3)), seeds=[0, 1, 2]),
            entry("b", *(network(base, s + 9, 0.09) for s in range(3)), seeds=[0, 1, 2]),
            entry("c", *(network(base, s + 20, 0.2) for s in range(4)), seeds=[0, 1, 2, 3]),
            entry("two", *(network(base, s + 40) for s in range(2))),
            entry("one", network(base, 60)),
        ]
    else:
        entries = [
            entry(f"n{s}", network(base, s, flip))
            for s, flip in enumerate((0.02, 0.02, 0.03, 0.12, 0.3))
        ]
        entries.append(entry("same as n0", entries[0].runs[0]))
    attacks = ["clean", "fgsm", "pgd", "aa"]
    if missing:
        last = entries[-1].runs[0]
        kept = {"clean": last.manifest["attacks"]["clean"]}
        table = last.table[last.table["attack"] == "clean"]
        alone = changed(last, table=table, manifest={**last.manifest, "attacks": kept})
        entries[-1] = entry("clean only", alone)
    board = leaderboard(entries, sort="given")
    files = written(tmp_path, board)
    keys = [columns(attacks)]
    wanted = expected(entries, attacks)
    places = {read.place for row in wanted.values() for read in row.values()}
    ties = {read.tied for row in wanted.values() for read in row.values()}
    assert places == {"best", "second", ""}
    assert ties == {True, False}
    read = from_json(files[".json"])
    assert list(read[0]) == [each.name for each in entries]
    for name, row in read[0].items():
        assert row == {key: wanted[name][key] for key in row}
    assert from_csv(files[".csv"]) == [wanted]
    titled = {
        name: {(TITLES[attack], figure): of for (attack, figure), of in row.items()}
        for name, row in wanted.items()
    }
    assert from_markdown(files[".md"]) == [titled]
    assert from_html(files[".html"], keys) == [wanted]
    assert from_latex(files[".tex"]) == [wanted]


def test_full_precision_stands_beside_the_print(simulate: Any, tmp_path: Path) -> None:
    runs = [entry(f"n{s}", simulate(seed=1)) for s in range(2)]
    card = runs[0].cards[0].attacks["pgd"]
    lines = list(csv.DictReader(written(tmp_path, leaderboard(runs))[".csv"].splitlines()))
    of = {line["figure"]: line for line in lines if line["row"] == "n0" and line["attack"] == "pgd"}
    assert float(of["average"]["value"]) == card.average
    assert float(of["worst_class"]["value"]) == card.worst_class.accuracy
    assert (float(of["worst_class"]["low"]), float(of["worst_class"]["high"])) == card.worst_class95
    assert float(of["floor"]["value"]) == card.floor95
    assert float(of["nsd"]["value"]) == card.nsd
    cells = [
        cell["v"] for row in Page(written(tmp_path, leaderboard(runs))[".html"]).boards[0][2:]
        for cell in row[1:]
    ]  # fmt: skip
    assert {float(v) for v in cells} == {float(line["value"]) for line in lines}


def test_the_terminal_prints_the_same_figures(simulate: Any) -> None:
    base = simulate(seed=3)
    entries = [entry(f"network {s}", network(base, s, 0.1)) for s in range(3)]
    board = leaderboard(entries, sort="given")
    wanted = expected(entries, ["clean", "fgsm", "pgd", "aa"])
    for width in (80, 120):
        console = Console(width=width, color_system=None, record=True, file=io.StringIO())
        console.print(render_terminal(board))
        lines = console.export_text().splitlines()
        assert max(map(len, lines)) <= width
        for name, row in wanted.items():
            printed = [line.removeprefix(name).split() for line in lines if line.startswith(name)]
            for attack, cells in zip(("clean", "fgsm", "pgd", "aa"), printed[:4], strict=True):
                words = []
                for figure in FIGURES:
                    of = row[attack, figure]
                    words += [*(["≈"] if of.tied else []), of.text, *of.sure.split()]
                assert cells == words


def test_comparisons_are_against_the_best_only_and_each_once(
    simulate: Any, monkeypatch: Any
) -> None:
    calls: list[tuple[str, int, int]] = []
    original = pairwise.compare_pair

    def counted(images: Any, first: int, second: int, attack: str) -> Any:
        calls.append((attack, first, second))
        return original(images, first, second, attack)

    monkeypatch.setattr(pairwise, "compare_pair", counted)
    base = simulate(per_class=10)
    leaderboard([entry(f"n{s}", network(base, s, 0.2)) for s in range(20)])
    assert len(calls) == len(set(calls))
    assert len(calls) <= 4 * 3 * 19
    assert all(len({first for a, first, _ in calls if a == attack}) <= 3 for attack in base.attacks)


# What is told apart


def test_other_images_and_other_balls_have_tables_of_their_own(simulate: Any) -> None:
    base = simulate()
    fewer = simulate(per_class=20)
    threat = {"norm": "linf", "eps": 4 / 255, "eps_text": "4/255"}
    narrow = changed(base, manifest={**base.manifest, "threat": threat})
    names = base.manifest["dataset"] | {"name": "svhn"}
    elsewhere = changed(base, manifest={**base.manifest, "dataset": names})
    runs = {"a": base, "b": network(base, 1), "few": fewer, "eps": narrow, "svhn": elsewhere}
    board = leaderboard([entry(name, run) for name, run in runs.items()], sort="given")
    assert [[row.name for row in each.rows] for each in board.boards] == [
        ["a", "b"], ["few"], ["eps"], ["svhn"]
    ]  # fmt: skip
    for each in board.boards[1:]:
        assert not any(
            s.place for row in each.rows for of in row.scores.values() for s in of.values()
        )
    assert "200 images" in board.boards[1].title
    assert "ε = 4/255" in board.boards[2].title


def test_other_constants_have_a_column_of_their_own_and_are_not_ranked(simulate: Any) -> None:
    base = simulate()
    attacks = {**base.manifest["attacks"]}
    attacks["pgd"] = {**attacks["pgd"], "steps": 10}
    weak = changed(network(base, 1), manifest={**base.manifest, "attacks": attacks})
    unknown = {**base.manifest["attacks"], "pgd": {"eps": 8 / 255, "eps_text": "8/255"}}
    other = changed(network(base, 2), manifest={**base.manifest, "attacks": unknown})
    (board,) = leaderboard([entry("a", base), entry("weak", weak), entry("x", other)]).boards
    titles = [column.title for column in board.columns]
    assert titles == ["Clean", "FGSM", "PGD (steps 20)", "PGD (steps 10)", "AA"]
    rows = {row.name: row for row in board.rows}
    assert "pgd (steps 20)" not in rows["weak"].scores
    assert {s.place for s in rows["weak"].scores["pgd (steps 10)"].values()} == {""}
    # What a record does not hold is no contradiction.
    assert "pgd (steps 20)" in rows["x"].scores
    assert any("other constants" in note for note in board.notes)
    constants = next(t for t in board.tables if t.title == "Constants of the attacks")
    assert [row[3] for row in constants.rows if str(row[0]).startswith("pgd")] == ["20", "10"]


def test_one_network_and_a_method_are_ranked_but_not_tested(simulate: Any) -> None:
    base = simulate()
    method = entry("method", *(network(base, s) for s in range(3)), seeds=[0, 1, 2])
    (board,) = leaderboard([method, entry("one", network(base, 7))]).boards
    scores = [s for row in board.rows for of in row.scores.values() for s in of.values()]
    assert {s.tied for s in scores} == {None}
    assert {s.place for s in scores} == {"best", "second", ""}
    assert any("not tested against each other" in note for note in board.notes)


def test_marks_say_what_is_in_doubt_audited_or_imported(simulate: Any) -> None:
    base = simulate()
    weak = changed(base, table=base.table.copy())
    broken = weak.table["attack"] == "fgsm"
    weak.table.loc[broken, "adv_pred"] = (weak.table.loc[broken, "label"] + 1) % 10
    weak.table.loc[broken, "correct"] = False
    imported = changed(base, manifest={**base.manifest, "engine": "imported"})
    entries = [entry("fine", base), entry("weak", weak), entry("theirs", imported)]
    (board,) = leaderboard(entries, sort="given").boards
    flags = entries[1].cards[0].flags
    assert flags
    own = entries[0].cards[0].flags
    assert [row.marks for row in board.rows] == [
        ("!",) if own else (), ("!",), (("!",) if own else ()) + ("imported",)
    ]  # fmt: skip
    doubts = next(t for t in board.tables if t.title == "What is in doubt")
    assert [row[2] for row in doubts.rows if row[0] == "weak"] == list(flags)
    assert any(note.startswith("!") for note in board.notes)
    assert any(note.startswith("Imported") for note in board.notes)


def test_circumstances_that_differ_are_named(simulate: Any) -> None:
    base = simulate(code={"commit": "a" * 40, "dirty": False})
    other = simulate(
        code={"commit": "b" * 40, "dirty": True}, precision={"dtype": "float64", "tf32": False}
    )
    (board,) = leaderboard([entry("a", base), entry("b", other)], sort="given").boards
    text = " ".join(board.notes)
    assert "aaaaaaaaaa" in text
    assert "bbbbbbbbbb with changes" in text
    assert "float32 and float64" in text
    origin = next(t for t in board.tables if t.title == "Where the rows come from")
    assert [row[2] for row in origin.rows] == ["ab" * 6] * 2


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("pgd.worst", lambda c: -c.attacks["pgd"].worst_class.accuracy),
        ("clean.avg", lambda c: -c.attacks["clean"].average),
        ("fgsm.nsd", lambda c: c.attacks["fgsm"].nsd),
        ("floor", lambda c: -c.attacks["aa"].floor95),
        (None, lambda c: -c.attacks["aa"].worst_class.accuracy),
    ],
)
def test_rows_are_sorted(simulate: Any, sort: str | None, key: Any) -> None:
    base = simulate()
    entries = [entry(f"n{s}", network(base, s, 0.1 * s)) for s in range(5)]
    (board,) = leaderboard(entries, sort=sort).boards
    wanted = [each.name for each in sorted(entries, key=lambda each: key(each.cards[0]))]
    assert [row.name for row in board.rows] == wanted


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sort": "pgd.speed"}, "--sort pgd.speed is no column"),
        ({"sort": "pdg.worst"}, "Did you mean pgd?"),
        ({"attacks": ["pdg"]}, "Did you mean pgd?"),
    ],
)
def test_unknown_columns_are_said(simulate: Any, options: Any, words: str) -> None:
    with pytest.raises(UserError, match=re.escape(words)):
        leaderboard([entry("a", simulate())], **options)


def test_attacks_choose_the_columns_and_their_order(simulate: Any) -> None:
    (board,) = leaderboard([entry("a", simulate())], attacks=["aa", "clean"]).boards
    assert [column.attack for column in board.columns] == ["aa", "clean"]


# Published rows

# Typed from Tables 1 and 2 of the paper.
PAPER = {
    ("cifar10", "FERD (resnet18)"): "79.86 68.20 0.103 61.39 46.90 0.155 55.10 38.60 0.198 "
    "46.22 30.50 0.191 39.33 19.60 0.337",
    ("cifar10", "DeepInv (mobilenet_v2)"): "62.77 46.00 0.179 45.64 30.50 0.180 35.70 22.10 0.219 "
    "39.47 28.10 0.157 15.40 5.40 0.498",
    ("cifar100", "DeepInv (resnet18)"): "53.44 27.20 0.298 35.51 14.90 0.422 33.76 13.40 0.436 "
    "27.73 12.10 0.445 17.52 1.60 0.856",
    ("cifar100", "DeepInv (mobilenet_v2)"): "38.10 11.10 0.447 23.42 7.20 0.555 21.80 6.30 0.568 "
    "20.58 7.50 0.524 6.67 0.00 1.420",
}


def test_published_rows_keep_their_digits_and_are_never_ranked(
    simulate: Any, tmp_path: Path
) -> None:
    base = simulate()
    published = read_reported("paper")
    entries = [entry(f"n{s}", network(base, s)) for s in range(2)]
    board = leaderboard(entries, published, sort="given", num_classes={"cifar100": 100})
    files = written(tmp_path, board)
    plain = leaderboard(entries, sort="given")
    assert [b.title.split(",")[0].split(":")[0] for b in board.boards] == ["cifar10", "cifar100"]
    assert board.boards[1].heading("worst") == "Worst 10 %"
    # The measured rows say the same with and without them.
    for row, alone in zip(board.boards[0].rows, plain.boards[0].rows, strict=True):
        assert row.scores == alone.scores
    attacks = ("clean", "fgsm", "pgd", "cw", "aa")
    source = (resources.files("ferd_eval.report.leaderboard") / "ferd.csv").read_text("utf-8")
    lines = [line for line in source.splitlines() if not line.startswith("#")]
    wanted: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for line in csv.DictReader(lines):
        row = wanted.setdefault((line["dataset"], f"{line['method']} ({line['student']})"), {})
        row |= {(line["attack"], key): line[key] for key in ("average", "worst", "nsd")}
    assert len(wanted) == 24
    for key, figures in PAPER.items():
        keys = columns(attacks, ("average", "worst", "nsd"))
        assert wanted[key] == dict(zip(keys, figures.split(), strict=True))
    keys = [columns(attacks), columns(attacks, FIGURES[:3])]
    read = {
        "json": from_json(files[".json"]),
        "csv": from_csv(files[".csv"]),
        "markdown": from_markdown(files[".md"]),
        "html": from_html(files[".html"], keys),
        "latex": from_latex(files[".tex"]),
    }
    for form, boards in read.items():
        for of, dataset in zip(boards, ("cifar10", "cifar100"), strict=True):
            for (where, name), figures in wanted.items():
                if where != dataset:
                    continue
                own = next(
                    row for key, row in of.items()
                    if key.replace("\\", "").startswith(name)
                )  # fmt: skip
                for (attack, figure), text in figures.items():
                    title = TITLES[attack] if form == "markdown" else attack
                    assert own[title, figure] == Read(text, "", False, ""), (form, name)
    for each in csv.DictReader(files[".csv"].splitlines()):
        if each["kind"] == "reported":
            scale = 1 if each["figure"] == "nsd" else 100
            assert math.isclose(float(each["value"]) * scale, float(each["printed"]))
    assert "arXiv 2509.20793" in files[".md"]
    assert all("†" in row.marks for each in board.boards for row in each.reported)


def test_published_rows_stand_below_the_runs_on_the_most_images(simulate: Any) -> None:
    few, all_of_them = simulate(per_class=10), simulate(per_class=40)
    board = leaderboard([entry("few", few), entry("all", all_of_them)], read_reported("paper"))
    assert [bool(each.reported) for each in board.boards[:2]] == [False, True]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dataset,method,attack,average,worst\n", "missing are nsd"),
        ("dataset,method,attack,average,worst,nsd,speed\n", "unknown are 'speed'"),
        ("dataset,method,attack,average,worst,nsd\n", "holds no rows"),
        ("", "missing are dataset"),
        ("dataset,method,attack,average,worst,nsd\na,b,pgd,0.5x,1,2\n", "average is '0.5x'"),
        ("dataset,method,attack,average,worst,nsd\na,b,pgd,101,1,2\n", "from 0 to 100"),
        ("dataset,method,attack,average,worst,nsd\na,b,pgd,nan,1,2\n", "average is 'nan'"),
        ("dataset,method,attack,average,worst,nsd\na,b,pgd,1,1\n", "more or fewer cells"),
        ("dataset,method,attack,average,worst,nsd\n" + "a,b,pgd,1,1,1\n" * 2, "repeats b"),
    ],
)
def test_a_published_table_that_cannot_be_read_is_said(
    tmp_path: Path, text: str, words: str
) -> None:
    file = tmp_path / "t.csv"
    file.write_text(text, "utf-8")
    with pytest.raises(UserError, match=re.escape(words)):
        read_reported(str(file))


def test_a_published_table_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_reported(str(tmp_path / "none.csv"))
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not UTF-8"):
        read_reported(str(tmp_path / "binary.csv"))


def test_a_missing_figure_of_a_published_table_is_a_dash(tmp_path: Path, simulate: Any) -> None:
    file = tmp_path / "t.csv"
    file.write_text("dataset,method,attack,average,worst,nsd\ncifar10,m,pgd,50.00,,\n", "utf-8")
    board = leaderboard([entry("a", simulate())], read_reported(str(file)))
    files = written(tmp_path, board)
    row = from_markdown(files[".md"])[0]["m †"]
    assert [row["PGD", figure].text for figure in FIGURES] == ["50.00", "–", "–", "–"]
    assert board.boards[0].source == "t.csv"


# Names

HOSTILE = (
    "<script>alert(1)</script>",
    '" onmouseover="alert(2)',
    "=HYPERLINK(1)",
    "@SUM(A1)",
    "-2+3",
    "a|b\nc",
    "[link](javascript:x)",
    "**bold** _em_ `code`",
    r"50% & #1 $x$ ~a ^b \input{/etc/passwd} {c_d}",
    "%\n\\end{table*}",
    "[bold red]x[/] {{ 7*7 }}",
)


@pytest.fixture
def hostile(simulate: Any, tmp_path: Path) -> dict[str, str]:
    base = simulate()
    published = tmp_path / "p.csv"
    with published.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("dataset", "method", "attack", "average", "worst", "nsd"))
        for name in HOSTILE:
            if "\n" not in name:
                writer.writerow(("cifar10", name, "pgd", "1.00", "2.00", "0.300"))
    entries = [entry(name, network(base, i)) for i, name in enumerate(HOSTILE)]
    return written(tmp_path, leaderboard(entries, read_reported(str(published)), sort="given"))


def test_html_holds_no_element_or_handler_from_a_name(hostile: dict[str, str]) -> None:
    page = Page(hostile[".html"])
    tags = [tag for tag, _ in page.tags]
    assert tags.count("script") == 1
    assert not {"img", "link", "iframe", "a"} & set(tags)
    assert not any(key.startswith("on") for _, of in page.tags for key in of)
    assert not [of for _, of in page.tags if {"src", "href"} & set(of)]
    names = [row[0]["text"] for row in page.boards[0][2 : 2 + len(HOSTILE)]]
    assert [name.split() for name in names] == [name.split() for name in HOSTILE]
    assert "<script>alert" not in hostile[".html"]


def test_markdown_tables_keep_their_columns_and_take_no_markup(hostile: dict[str, str]) -> None:
    text = hostile[".md"]
    assert "<script>" not in text
    assert "\\[link\\](" in text
    assert "\\*\\*bold\\*\\*" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_no_csv_cell_is_a_formula(hostile: dict[str, str]) -> None:
    rows = list(csv.reader(io.StringIO(hostile[".csv"])))
    for row in rows:
        for cell in row:
            if cell[:1] in ("=", "+", "@", "-"):
                float(cell)
    names = {row[4] for row in rows[1:]}
    assert {"'=HYPERLINK(1)", "'@SUM(A1)", "'-2+3", "a|b\nc"} <= names


def balanced(text: str) -> None:
    """Braces pair, environments pair, and only known commands are used."""
    depth = 0
    for token in re.findall(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(token, 0)
        assert depth >= 0
    assert depth == 0
    open_: list[str] = []
    for word, name in re.findall(r"\\(begin|end)\{([^}]*)\}", text):
        if word == "begin":
            open_.append(name)
        else:
            assert open_.pop() == name
    assert not open_
    commands = set(re.findall(r"\\([a-zA-Z]+)", re.sub(r"^%.*$", "", text, flags=re.MULTILINE)))
    assert commands <= {
        "begin", "end", "centering", "scriptsize", "setlength", "tabcolsep", "caption", "toprule",
        "multicolumn", "cmidrule", "midrule", "bottomrule", "textbf", "underline", "textit", "tiny",
        "approx", "pm", "varepsilon", "infty", "dagger", "times", "smallskip", "parbox",
        "linewidth", "raggedright", "textbackslash", "textasciitilde", "textasciicircum",
        "textless", "textgreater", "textbar", "textquotedbl", "ldots",
    }  # fmt: skip


def test_latex_is_balanced_and_obeys_no_name(hostile: dict[str, str]) -> None:
    text = hostile[".tex"]
    balanced(text)
    assert r"\input{/etc" not in re.sub(r"^%.*$", "", text, flags=re.MULTILINE)
    assert len(read_tables(text)) == 1
    for line in text.splitlines()[1:]:
        comment = re.fullmatch(r"% About \d+ pt wide\.", line)
        assert comment or not re.search(r"(?<!\\)[%#]", line)
    # In pairs, or a name would open mathematics.
    assert all(len(re.findall(r"(?<!\\)\$", line)) % 2 == 0 for line in text.splitlines())


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("a_b%c&d#e", r"a\_b\%c\&d\#e"),
        ("$x$ ~ ^ {y}", r"\$x\$ \textasciitilde{} \textasciicircum{} \{y\}"),
        (r"\end", r"\textbackslash{}end"),
        ("a\nb\tc", "a b c"),
        ("[opt] *star", "{[}opt] *star"),
        ("CW∞ −1 ± ≈", r"CW$_\infty$ $-$1 $\pm$ $\approx$"),
        ("bell\x07", "bell"),
        ("don't--stop", "don't-{}-stop"),
        ("what?`–", "what?{}`--"),
    ],
)
def test_latex_prints_what_it_would_act_on(name: str, wanted: str) -> None:
    assert escape(name) == wanted


def test_the_terminal_takes_no_markup_from_a_name(simulate: Any) -> None:
    console = Console(width=100, color_system=None, record=True, file=io.StringIO())
    console.print(render_terminal(leaderboard([entry("[bold]m[/bold]", simulate())])))
    assert "[bold]m[/bold]" in console.export_text()


@pytest.mark.parametrize(
    ("attacks", "said", "unsaid"),
    [
        (
            [("clean", "aa"), ("clean", "aa-audited"), ("clean", "aa")],
            ("AA on 2 of 3 and AA audited on 1 of 3.", "not ranked against the other"),
            "Clean on",
        ),
        ([("clean", "pgd"), ("clean",), ("pgd",)], ("Clean on 2 of 3 and PGD on 2 of 3.",), "AA"),
        ([("clean", "aa"), ("clean", "aa")], (), "A dash"),
    ],
)
def test_half_empty_columns_are_explained_in_every_format(
    simulate: Any, tmp_path: Any, attacks: Any, said: tuple[str, ...], unsaid: str
) -> None:
    entries = [entry(f"r{i}", simulate(seed=i, attacks=of)) for i, of in enumerate(attacks)]
    board = leaderboard(entries, sort="given")
    notes = " ".join(board.boards[0].notes)
    assert all(part in notes for part in said), notes
    assert unsaid not in notes
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(render_terminal(board))
    files = {file.suffix: file.read_text("utf-8") for file in write_leaderboard(tmp_path, board)}
    for text in (console.export_text(), files[".md"], files[".html"], files[".tex"]):
        assert all(part in " ".join(text.split()) for part in said)
