"""``--cite``: every registered attack, data set and figure has literature that BibTeX can read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ferd_eval.attacks.registry import ENGINES, PRESETS
from ferd_eval.datasets import list_datasets
from ferd_eval.metrics.figures import FIGURES
from ferd_eval.report.citations import bibtex, references

DATASETS = {info.name: info.cite for info in list_datasets()}

#: What nobody has to be cited for: no attack, the user's own data, and means and deviations.
WITHOUT = {
    "attack": {"clean"},
    "data set": {"folder", "npz", "npy", "hf"},
    "figure": {"nsd_debiased", "nsd_ddof1", "sd", "sd_debiased", "gap", "gini"},
    "engine": {"native"},
}

REGISTERED = {
    "attack": {name: preset.cite for name, preset in PRESETS.items()},
    "data set": DATASETS,
    "figure": {name: figure.cite for name, figure in FIGURES.items()},
    "engine": dict(ENGINES),
}

REQUIRED = {
    "article": {"journal"},
    "inproceedings": {"booktitle"},
    "techreport": {"institution"},
    "misc": {"eprint", "archiveprefix"},
}


def parse(text: str) -> dict[str, tuple[str, dict[str, str]]]:
    """Key → kind and fields. Strict: between entries only comments, braces in pairs."""
    found: dict[str, tuple[str, dict[str, str]]] = {}
    at = 0
    for start in re.finditer(r"@", text):
        if start.start() < at:
            continue
        between = text[at : start.start()]
        assert all(not line or line.startswith("%") for line in between.splitlines()), between
        head = re.compile(r"@([a-z]+)\{([a-z]+\d{4}[a-z]+),\n").match(text, start.start())
        assert head, text[start.start() :][:60]
        at, fields = head.end(), {}
        while text[at] != "}":
            name = re.compile(r" +([a-z]+) += \{").match(text, at)
            assert name, text[at:][:60]
            depth, end = 1, name.end()
            while depth:
                depth += {"{": 1, "}": -1}.get(text[end], 0)
                end += 1
            assert name[1] not in fields
            fields[name[1]] = text[name.end() : end - 1]
            assert text[end : end + 2] == ",\n"
            at = end + 2
        at += 1
        assert head[2] not in found, f"{head[2]} is there twice"
        found[head[2]] = head[1], fields
    assert all(not line or line.startswith("%") for line in text[at:].splitlines())
    return found


def test_whatever_is_registered_names_its_literature() -> None:
    for kind, names in REGISTERED.items():
        assert {name for name, keys in names.items() if not keys} == WITHOUT[kind], kind
        assert {key for keys in names.values() for key in keys} <= references().keys(), kind


def test_every_entry_is_cited_and_whole() -> None:
    cited = {key for names in REGISTERED.values() for keys in names.values() for key in keys}
    assert references().keys() == cited
    entries = parse("\n".join(references().values()))
    assert entries.keys() == references().keys()
    for key, (kind, fields) in entries.items():
        assert fields.keys() >= {"author", "title", "year"} | REQUIRED[kind], key
        family = re.sub(r"\W", "", fields["author"].split(",")[0]).lower()
        assert key.startswith(f"{family}{fields['year']}"), key
        assert all(name.count(",") == 1 for name in fields["author"].split(" and ")), key
        assert fields["title"].isascii()


def test_a_run_cites_what_it_used_and_nothing_else(make_run: Any) -> None:
    manifest = dict(make_run("m", attacks=("clean", "fgsm", "pgd", "aa")).manifest)
    text = bibtex([manifest, manifest], DATASETS)
    assert [*parse(text)] == [
        "goodfellow2015explaining", "madry2018towards", "croce2020reliable", "croce2020minimally",
        "andriushchenko2020square", "krizhevsky2009learning", "wilson1927probable", "xu2021robust",
        "yue2023revisiting", "clopper1934use", "zhao2024improving", "li2025ferd",
    ]  # fmt: skip
    assert "% attack fgsm\n@inproceedings{goodfellow2015explaining," in text
    assert "% Worst class, NSD\n@inproceedings{yue2023revisiting," in text
    assert "No reference" not in text
    other = {**manifest, "engine": "torchattacks", "attacks": {"pgd:rslad@2/255": {}}}
    assert {*parse(bibtex([other], DATASETS))} >= {"zi2021revisiting", "kim2020torchattacks"}


def test_what_is_not_registered_is_said_and_cannot_add_an_entry(make_run: Any) -> None:
    manifest = dict(make_run("m", attacks=("clean",)).manifest)
    manifest["attacks"] = {"mine": {}}
    manifest["dataset"] = {**manifest["dataset"], "name": "x\n@misc{evil2020evil,\n}"}
    text = bibtex([manifest], DATASETS)
    assert "attack mine, data set x  at misc" in text.splitlines()[-1]
    assert {*parse(text)} <= references().keys()


def test_other_readers_of_bibtex_agree() -> None:
    """Those that are here: pybtex or bibtexparser."""
    text = "\n".join(references().values())
    ours = {key: fields["title"] for key, (_, fields) in parse(text).items()}
    try:
        import pybtex.database as pybtex
    except ImportError:
        parser = pytest.importorskip("bibtexparser", reason="neither pybtex nor bibtexparser here")
        entries = parser.loads(text).entries
        theirs = {each["ID"]: each["title"] for each in entries}
    else:
        read = pybtex.parse_string(text, "bibtex").entries
        theirs = {key: entry.fields["title"] for key, entry in read.items()}
    assert theirs == ours


@pytest.mark.parametrize("command", ["report", "leaderboard"])
def test_the_commands_print_bibtex_alone(
    command: str, make_run: Any, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    from ferd_eval.cli import app
    from ferd_eval.runtime.command_line import run
    from tests.eval.metrics.simulated_run import simulate

    simulate(per_class=10, attacks=("clean", "pgd")).save(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert run(app, [command, "run", "--cite"], "ferd-eval") == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    assert "madry2018towards" in parse(printed.out)
