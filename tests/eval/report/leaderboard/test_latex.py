"""``leaderboard.tex`` for a paper: what it prints in each style, its width, and a real LaTeX."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ferd_eval.errors import UserError
from ferd_eval.report.leaderboard import LatexStyle, leaderboard, misfit, write_leaderboard
from ferd_eval.report.leaderboard.latex import COLUMN, PAGE, lay_out
from tests.eval.report.leaderboard.latex_table import Table, read_tables
from tests.eval.report.leaderboard.test_leaderboard import entry, network, simulate

__all__ = ["simulate"]

STYLES = {
    "default": LatexStyle(),
    "bare": LatexStyle(intervals=False),
    "siunitx": LatexStyle(siunitx=True, label="tab:s"),
    "transposed": LatexStyle(transpose=True),
    "transposed, siunitx": LatexStyle(intervals=False, transpose=True, siunitx=True),
}


@pytest.fixture(scope="module")
def boards() -> dict[str, Any]:
    """Of few and many networks, attacks and classes, with names that are long or odd."""
    from tests.eval.metrics.simulated_run import simulate

    base = simulate(seed=3)
    many = [entry(f"n{s}", network(base, s, flip)) for s, flip in enumerate((0.02, 0.02, 0.1))]
    odd = [entry("50 %_net & {co} #1 ^~\\x", base), entry("ours \\input{x}", network(base, 5))]
    seeds = [
        entry(name, *(network(base, first + s) for s in range(3)), seeds=[0, 1, 2])
        for name, first in (("a", 0), ("b", 9))
    ]
    hundred = [f"c{i}" for i in range(100)]
    wide = [entry(f"n{s}", simulate(seed=s, names=hundred, per_class=12)) for s in range(2)]
    three = ("average", "worst", "nsd")
    return {
        "many": leaderboard(many),
        "three figures": leaderboard(many, attacks=["clean", "pgd"], figures=three),
        "odd names": leaderboard(odd, figures=["NSD", "avg"]),
        "seeds": leaderboard(seeds),
        "100 classes": leaderboard(wide, figures=three),
    }


def written(folder: Path, board: Any, style: LatexStyle) -> str:
    files = {file.suffix: file for file in write_leaderboard(folder, board, style)}
    return files[".tex"].read_text("utf-8")


def wanted(board: Any, style: LatexStyle) -> dict[tuple[str, str, str], tuple[str, str, bool, str]]:
    """Straight from the scores."""
    return {
        (row.name, column.title, key): (
            score.figure.text,
            str(score.place),
            bool(score.tied),
            score.interval if style.intervals else "",
        )
        for row in board.rows
        for column in board.columns
        for key in board.figures
        for score in [row.score(column, key)]
    }


def read(table: Table) -> dict[tuple[str, str, str], tuple[str, str, bool, str]]:
    return {
        (name.replace("\\&", "&"), attack, figure): cell
        for name, of in table.cells().items()
        for (attack, figure), cell in of.items()
    }


@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_every_style_prints_every_score(
    boards: dict[str, Any], tmp_path: Path, style: LatexStyle
) -> None:
    for name, board in boards.items():
        (table,) = read_tables(written(tmp_path, board, style))
        found, right = read(table), wanted(board.boards[0], style)
        if name == "odd names":  # their spelling is the next test's
            assert sorted(found.values()) == sorted(right.values())
        else:
            assert found == right
        assert table.label == (style.label or "")


def test_figures_and_attacks_are_those_asked_for_in_that_order(
    simulate: Any, tmp_path: Path
) -> None:
    board = leaderboard(
        [entry("n", simulate(seed=1))], attacks=["pgd", "clean"], figures=["nsd", "AVG", "nsd"]
    )
    (table,) = read_tables(written(tmp_path, board, LatexStyle()))
    assert table.groups == ["PGD", "PGD", "Clean", "Clean"]
    assert table.header == ["NSD", "Avg"] * 2
    files = {each.suffix: each.read_text("utf-8") for each in tmp_path.iterdir()}
    assert "PGD NSD | PGD Avg | Clean NSD" in files[".md"]
    assert "floor" not in files[".csv"]
    assert "Floor" not in files[".tex"]
    assert "Worst class is" not in files[".md"]


def test_notes_on_intervals_go_with_them(simulate: Any, tmp_path: Path) -> None:
    board = leaderboard([entry("n", simulate(seed=1))])
    assert "Intervals (95" in written(tmp_path, board, LatexStyle())
    assert "Intervals (95" not in written(tmp_path, board, LatexStyle(intervals=False))


def test_caption_and_label_of_the_user(simulate: Any, tmp_path: Path) -> None:
    board = leaderboard([entry(f"n{k}", simulate(seed=k, per_class=10 + k)) for k in range(2)])
    style = LatexStyle(caption="Over 90 % of $x_1$ \\evil{}: ε = 0.1", label="tab:a-b_c")
    first, second = read_tables(written(tmp_path, board, style))
    assert first.caption == (
        r"Over 90 \% of \$x\_1\$ \textbackslash{}evil\{\}: $\varepsilon$ = 0.1"
    )
    assert (first.label, second.label) == ("tab:a-b_c", "tab:a-b_c-2")


@pytest.mark.parametrize("label", ["", "a b", "a}b", "50%", "ä", "a\nb"])
def test_a_label_that_latex_would_trip_over_is_refused(label: str) -> None:
    with pytest.raises(UserError, match=r"--label .* would break the table"):
        LatexStyle(label=label)


def test_a_figure_that_is_none_is_refused(simulate: Any) -> None:
    with pytest.raises(UserError, match=r"no figure is called 'wrst'\. Did you mean worst"):
        leaderboard([entry("n", simulate())], figures=["wrst"])


def test_a_table_takes_a_column_where_it_fits_one_and_never_more_than_a_page(
    boards: dict[str, Any], simulate: Any, tmp_path: Path
) -> None:
    fits = lay_out(boards["three figures"].boards[0], LatexStyle(intervals=False))
    assert fits.width <= COLUMN
    assert r"\begin{table}" in written(tmp_path, boards["three figures"], STYLES["bare"])
    for board, style in itertools.product(boards.values(), STYLES.values()):
        if not style.transpose:
            assert lay_out(board.boards[0], style).width <= PAGE
    base = simulate(seed=3)
    nets = [entry(f"network {s}", network(base, s)) for s in range(16)]
    crowd = leaderboard(nets, figures=["avg", "worst", "nsd"])
    assert misfit(crowd, STYLES["bare"]) == ""
    assert r"\begin{table*}" in written(tmp_path, crowd, STYLES["bare"])  # too high for a column
    high, wide = misfit(crowd, LatexStyle()), misfit(crowd, LatexStyle(transpose=True))
    assert re.search(r" about \d{3} pt wide and 128 rows high, .* or --no-intervals\.$", high)
    assert re.search(
        r"about \d{3} pt wide and 20 rows high, .*, and leave out --transpose\.$", wide
    )


DOCUMENT = r"""\documentclass[twocolumn]{article}
\usepackage[paperwidth=8.5in,paperheight=11in,textwidth=6.75in,columnsep=0.25in]{geometry}
\usepackage{booktabs,siunitx}
\begin{document}
%s\end{document}
"""


def compiled(folder: Path, files: dict[str, str], packages: str = "booktabs,siunitx") -> str:
    """LaTeX's log of a document of two columns with these tables; no error is passed over."""
    program = shutil.which("pdflatex")
    if program is None:
        pytest.skip("no LaTeX here: pdflatex is not installed")
    style = subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True, check=False)
    if not style.stdout:
        pytest.skip("LaTeX is here, but not its package siunitx")
    for name, text in files.items():
        (folder / f"{name}.tex").write_text(text, "utf-8")
    pages = "".join(f"\\typeout{{AT {name}}}\\input{{{name}}}\\clearpage\n" for name in files)
    text = (DOCUMENT % pages).replace("booktabs,siunitx", packages)
    (folder / "paper.tex").write_text(text, "utf-8")
    done = subprocess.run(
        [program, "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"],
        cwd=folder, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    log = (folder / "paper.log").read_text("utf-8", errors="replace")
    assert done.returncode == 0, [line for line in log.splitlines() if line.startswith("!")]
    return log


@pytest.mark.slow
def test_a_real_latex_sets_every_style_without_a_box_misfit(
    boards: dict[str, Any], tmp_path: Path
) -> None:
    texts = {}
    for (i, board), (j, style) in itertools.product(
        enumerate(boards.values()), enumerate(STYLES.values())
    ):
        texts[f"t{i}-{j}"] = written(tmp_path / "made", board, replace(style, label=f"t:{i}-{j}"))
    log = compiled(tmp_path, texts)
    assert re.findall(r"^Overfull .*", log, re.MULTILINE) == []
    assert "multiply defined" not in log
    assert "Missing character" not in log


@pytest.mark.slow
def test_a_real_latex_finds_no_table_wider_than_was_estimated(
    boards: dict[str, Any], tmp_path: Path
) -> None:
    texts, estimates = {}, {}
    for (i, board), (j, style) in itertools.product(
        enumerate(boards.values()), enumerate(STYLES.values())
    ):
        text = written(tmp_path / "made", board, style)
        name = f"t{i}-{j}"
        (alone,) = re.findall(r"\\begin\{tabular\}.*\\end\{tabular\}", text, re.DOTALL)
        settings = "".join(re.findall(r"\\sisetup\{.*\}|\\setlength.*", text))
        texts[name] = (
            f"\\setbox0\\hbox{{\\scriptsize {settings}{alone}}}\\typeout{{WIDTH {name} \\the\\wd0}}"
        )
        estimates[name] = lay_out(board.boards[0], style).width
    log = compiled(tmp_path, texts)
    widths = dict(re.findall(r"WIDTH (\S+) ([\d.]+)pt", log))
    assert widths.keys() == estimates.keys()
    ratios = {name: estimates[name] / float(widths[name]) for name in widths}
    assert min(ratios.values()) >= 1, ratios
    assert max(ratios.values()) < 1.35, ratios


@pytest.mark.slow
def test_the_counting_of_boxes_that_are_misfit_finds_one(simulate: Any, tmp_path: Path) -> None:
    base = simulate(seed=3)
    crowd = leaderboard([entry(f"network {s}", network(base, s)) for s in range(20)])
    log = compiled(tmp_path, {"t": written(tmp_path / "made", crowd, STYLES["transposed"])})
    assert re.search(r"^Overfull ", log, re.MULTILINE)
