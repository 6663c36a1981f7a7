"""Names and metadata that mean something to a browser, spreadsheet, LaTeX or terminal."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from ferd_eval.cli import app
from ferd_eval.models import build_architecture, save_network
from ferd_eval.runtime.command_line import run

NAMES = (
    "<script>alert(1)</script>",
    "</title></style></script><img src=x onerror=alert(2)>",
    "' onfocus='alert(3)' autofocus \" onmouseover=\"alert(4)",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://evil.example","x")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "x\r=1+1",
    "\uff1d1+1",
    "a|b\n# c\n- d",
    "[link](javascript:alert(5)) ![x](http://evil.example/x.png) `x` **x**",
    r"\input{/etc/passwd} \write18{id} $x^2_3$ 5% & # ~ {",
    "\x1b]0;owned\x07\x1b[2J\x9b31m",
    "\u202egnp.exe\u2066",
    "{{ 7*7 }}{% include 'x' %}",
)
#: A file system takes these, too.
FILE = "=cmd|' C calc'!A0 <img src=x onerror=alert(6)> $x$ [bold] \x1b[31m"
FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")


@dataclass(frozen=True)
class Made:
    """What the commands wrote: files by their paths, and all that they printed."""

    files: Mapping[str, str]
    printed: str

    def ending(self, suffix: str) -> list[str]:
        found = [text for name, text in self.files.items() if name.endswith(suffix)]
        assert found, suffix
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("hostile")
    random, K = np.random.default_rng(0), len(NAMES)
    np.savez(
        folder / "<b>=1.npz", images=random.integers(0, 256, (3 * K, 28, 28), dtype=np.uint8),
        labels=np.arange(3 * K) % K, class_names=np.array(NAMES),
    )  # fmt: skip
    recipe = {"variant": NAMES[1], "synthesis.method": NAMES[3], "loss.name": NAMES[15], "seed": 0}
    for i in range(2):
        torch.manual_seed(i)
        arch = build_architecture("cnn28-4", num_classes=K, in_channels=1)
        metadata = {"ferd.recipe": json.dumps(recipe), NAMES[0]: NAMES[3], "note": NAMES[15]}
        save_network(
            folder / f"{FILE}{i}.safetensors", arch.build(), arch, None, metadata,
        )  # fmt: skip
    groups = [f"{k},{('=1+1', '<b>x</b>')[k % 2]}" for k in range(K)]
    (folder / "g.csv").write_text("\n".join(["class,group", *groups]))
    checkpoints = [str(folder / f"{FILE}{i}.safetensors") for i in range(2)]
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("sys.stdout", out)
        patch.setattr("sys.stderr", err)
        runs = []
        for i, checkpoint in enumerate(checkpoints):
            runs.append(str(folder / "reports" / "a" / f"seed-{i}"))
            call("inspect", checkpoint)
            call(
                "score", checkpoint, "--dataset", f"npz:{folder / '<b>=1.npz'}", "--attacks",
                "clean,fgsm", "--eps", "8/255", "--device", "cpu", "--out", runs[-1],
                "--groups", str(folder / "g.csv"),
            )  # fmt: skip
            call("report", runs[-1], "--audit")
        call("compare", *runs, "--out", "compared")
        call("leaderboard", *runs, "--out", "board")
        call("gate", runs[0], "--floor", "0.01")
        call("publish", "reports")
    suffixes = (".html", ".md", ".csv", ".tex", ".json", ".txt")
    files = {
        str(file.relative_to(folder)): file.read_bytes().decode("utf-8")
        for file in sorted(folder.rglob("*"))
        if file.suffix in suffixes and file.name != "g.csv"
    }
    return Made(files, out.getvalue() + err.getvalue())


def call(*words: str) -> None:
    assert run(app, list(words), "ferd-eval") in (0, 1), sys.stderr.getvalue()[-500:]


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_every_format_was_written(made: Made) -> None:
    kinds = {name.rsplit("/", 1)[-1] for name in made.files}
    assert {
        "report.html", "report.md", "report.csv", "report_wide.csv", "scorecard.json", "audit.html",
        "audit.md", "leaderboard.html", "leaderboard.md", "leaderboard.csv", "leaderboard.tex",
        "index.html", "index.md", "results.csv",
    } <= kinds  # fmt: skip


def test_no_page_has_an_element_or_handler_of_a_name(made: Made) -> None:
    for name, text in made.files.items():
        if not name.endswith(".html"):
            continue
        page = Elements()
        page.feed(text)
        tags = {tag for tag, _ in page.found}
        assert not {"img", "iframe", "link", "object", "base", "form"} & tags, name
        for tag, attributes in page.found:
            assert not [each for each in attributes if each.startswith("on")], (name, tag)
            assert "autofocus" not in attributes, name
            href = attributes.get("href") or "#"
            assert href.startswith(("#", "../")), (name, href)


def test_no_cell_is_a_formula(made: Made) -> None:
    for text in made.ending(".csv"):
        for row in csv.reader(io.StringIO(text, newline="")):
            for cell in row:
                if cell.startswith(FORMULA):
                    float(cell)  # a negative number, nothing else


def test_markdown_has_no_element_and_no_link_of_a_name(made: Made) -> None:
    for text in made.ending(".md"):
        assert not re.search(r"(?<!\\)<(?!/?(?:u|sup|br)>)", text)
        assert not re.search(r"(?<!\\)\]\((?!\.\./|[\w.-]+\))", text)
        assert not re.search(r"\w://|(?<!\\)`x`", text)
        assert "\n# c" not in text
        for table in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1


def test_latex_has_no_command_of_a_name(made: Made) -> None:
    for text in made.ending(".tex"):
        body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
        assert not re.search(r"\\(input|write)\b", body)
        assert not re.search(r"(?<!\\)\$x", text)


#: Controls but the line break, and marks that turn the order of letters around.
STEERING = re.compile("[^\n]*[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069][^\n]*")


def test_nothing_steers_a_terminal(made: Made) -> None:
    assert "owned" in made.printed
    assert "[bold]" in made.printed
    for text in (made.printed, *made.ending(".md"), *made.ending(".tex")):
        assert STEERING.findall(text) == []
