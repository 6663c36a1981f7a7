"""The audit appendix says what its run's record says, what is missing, and promises nothing."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ferd_eval.io.json import to_json
from ferd_eval.metrics import scorecard
from ferd_eval.report import Run, percent, write_appendix, write_report
from ferd_eval.report.audit.appendix import IDENTITY
from ferd_eval.report.audit.crosswalk import crosswalk
from ferd_eval.results.outcomes import Outcomes, conform
from tests.eval.metrics.simulated_run import CIFAR10, rows, run, simulate

PROMISES = ("certif", "compliant", "complian", "complies", "conforms", "guaranteed", "safe ")

#: What a run of the command line records beside the made-up fields.
MORE: dict[str, Any] = {
    "engine": "native",
    "python": "3.11.7",
    "platform": "Linux-6",
    "code": {"commit": "ef" * 20, "dirty": True},
}


def written(folder: Path, run: Run) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    return {file.name: file.read_text("utf-8") for file in write_appendix(folder, run)}


def section(markdown: str, title: str) -> str:
    return markdown.split(f"\n## {title}\n")[1].split("\n## ")[0]


def cells(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("| ")]
    parts = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in lines]
    return [[unescape(re.sub(r"\\(.)", r"\1", cell)).strip() for cell in line] for line in parts]


def imported(attacks: tuple[str, ...] = ("theirs",)) -> Run:
    """Predictions with nothing known of them but names."""
    labels = np.repeat(np.arange(3), 5)
    wrong = np.where(np.arange(15) % 3 == 0, (labels + 1) % 3, labels)
    table = conform(run([rows(a, labels, wrong, np.full(15, -1)) for a in attacks], "abc").table)
    manifest = {"dataset": {"class_names": list("abc")}, "attacks": {a: {} for a in attacks}}
    outcomes = Outcomes(table, manifest)
    return Run("theirs", scorecard(outcomes), manifest)


def test_every_fact_is_the_one_of_the_record(make_run: Any, tmp_path: Path) -> None:
    run = make_run(**MORE)
    files = written(tmp_path, run)
    manifest = run.manifest
    data = json.loads(files["audit.json"])
    for path in IDENTITY.values():
        value: Any = manifest
        for key in path.split("."):
            value = value[key]
        assert data["identity"][path] == json.loads(to_json({"it": value}))["it"]
    assert data["unknown"] == []
    assert data["attacks"] == json.loads(to_json(manifest["attacks"]))
    assert data["cost"] == manifest["cost"]
    facts = {row[0]: row[1] for row in cells(section(files["audit.md"], "What was measured"))}
    page = unescape(files["audit.html"])
    expected = {
        "Checkpoint SHA-256": "ab" * 32,
        "Data set fingerprint (SHA-256)": "cd" * 32,
        "Code commit": "ef" * 20,
        "Code changed since that commit": "yes",
        "Seed": "0",
        "TF32": "no",
        "Packages": "torch 2.6.0, numpy 2.4.6",
        "Command": "ferd-eval score model.pt",
        "ferd_eval": "0.1.0",
    }
    for label, text in expected.items():
        assert facts[label] == text
        assert f'<th scope="row">{label}</th><td>{text}</td>' in page
    constants = {row[0]: row for row in cells(section(files["audit.md"], "Threat model"))}
    for attack, of in manifest["attacks"].items():
        if attack != "clean":
            assert constants[attack][2:8] == [
                of["eps_text"], str(of["steps"]), of["step_size_text"], of["loss"], "yes",
                of["final"],
            ]  # fmt: skip


def test_figures_are_those_of_the_scorecard(make_run: Any, tmp_path: Path) -> None:
    run = make_run(targeted=True)
    files = written(tmp_path, run)
    table = {row[0]: row for row in cells(section(files["audit.md"], "Figures"))}
    data = json.loads(files["audit.json"])["figures"]
    for attack, scores in run.scorecard.attacks.items():
        row, figures = table[attack], data[attack]
        assert figures["average"] == scores.average
        assert figures["floor95"] == scores.floor95
        assert figures["worst_class_accuracy"] == scores.worst_class.accuracy
        assert figures["worst_class95"] == list(scores.worst_class95)
        suspects = [CIFAR10[k] for k in scores.possibly_worst]
        assert figures["possibly_worst"] == suspects
        low, high = scores.worst_class95
        assert row[1:9] == [
            str(scores.n), percent(scores.average).text,
            f"{percent(scores.average95[0])} to {percent(scores.average95[1])}",
            scores.worst_class.name, percent(scores.worst_class.accuracy).text,
            f"{percent(low)} to {percent(high)}", percent(scores.floor95).text,
            f"{scores.nsd:.3f}",
        ]  # fmt: skip
        assert row[9].startswith(suspects[0])


@pytest.mark.parametrize("options", [{}, {"targeted": True}, {"profile": True, "empty": [2]}])
def test_nothing_is_promised(make_run: Any, tmp_path: Path, options: dict[str, Any]) -> None:
    for number, each in enumerate((make_run(**options), imported())):
        for content in written(tmp_path / str(number), each).values():
            text = unescape(content).lower()
            assert not [word for word in PROMISES if word in text]
            assert "no legal advice and no conformity assessment" in text


def test_an_import_without_a_record_names_what_is_unknown(tmp_path: Path) -> None:
    files = written(tmp_path, imported())
    data = json.loads(files["audit.json"])
    assert data["unknown"] == list(IDENTITY)
    table = cells(section(files["audit.md"], "What was measured"))
    facts = {row[0]: row[1] for row in table if len(row) == 2}
    assert {facts[label] for label in IDENTITY} == {"not recorded"}
    assert "ε that is not recorded" in data["threat_model"]
    assert "norm not recorded" in data["threat_model"]
    assert "under theirs knows what is not recorded here" in data["threat_model"]
    gaps = {gap["what"]: gap["detail"] for gap in data["not_measured"]}
    assert gaps["Facts the record does not hold"] == ", ".join(IDENTITY)
    assert "whether the data set has more was not recorded" in gaps["Images that were not scored"]
    assert gaps["Other sizes of change"] == "the ε that was tried is not known"
    evidence = {row["item"]: row["evidence"] for row in data["crosswalk"]}
    assert f"{len(IDENTITY)} facts not recorded" in evidence["MEASURE 2.1"]
    assert "accuracy without an attack not measured" in evidence["Art. 15(3)"]


def test_imported_predictions_say_whose_attacks_they_are(make_run: Any, tmp_path: Path) -> None:
    source = [{"name": "pgd.csv", "sha256": "12" * 32, "attacks": ["pgd"]}]
    run = make_run(**{**MORE, "engine": "imported", "source": source})
    data = json.loads(written(tmp_path, run)["audit.json"])
    assert "knows what the other tool's attacks used" in data["threat_model"]
    assert "How the attacks were run" in {gap["what"] for gap in data["not_measured"]}
    assert "12" * 32 in (tmp_path / "audit.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("attacks", "targeted", "missing"),
    [
        (("clean",), False, ("FGSM", "PGD-20", "CW∞", "AutoAttack")),
        (("clean", "fgsm", "pgd", "cw"), False, ("AutoAttack",)),
        (("clean", "fgsm", "pgd", "cw", "aa"), True, ()),
    ],
)
def test_attacks_that_were_not_run_are_listed(
    make_run: Any, tmp_path: Path, attacks: tuple[str, ...], targeted: bool, missing: tuple[str]
) -> None:
    run = make_run(attacks=attacks, targeted=targeted)
    data = json.loads(written(tmp_path, run)["audit.json"])
    gaps = {gap["what"]: gap["detail"] for gap in data["not_measured"]}
    said = gaps.get("Attacks that were not run", "")
    found = [name for name in ("FGSM", "PGD-20", "CW∞", "AutoAttack") if name in said]
    assert found == list(missing)
    assert ("Which class an attacker can reach" in gaps) is not targeted
    if attacks == ("clean",):
        assert data["threat_model"].startswith("No attack was run")
        evidence = {row["item"]: row["evidence"] for row in data["crosswalk"]}
        assert "no evidence for it" in evidence["Art. 15(5)"]
    else:
        assert "white box" in data["threat_model"]
        assert "ε = 8/255 (L∞)" in data["threat_model"]
        assert gaps["Other sizes of change"] == "only ε = 8/255 was tried"


def test_a_quick_look_lists_the_images_that_were_not_scored(make_run: Any, tmp_path: Path) -> None:
    whole_run = make_run()
    dataset = {**whole_run.manifest["dataset"], "selection": "first 100"}
    quick = make_run(dataset=dataset, empty=[3])
    for each, said in ((whole_run, False), (quick, True)):
        data = json.loads(written(tmp_path, each)["audit.json"])
        gaps = {gap["what"]: gap["detail"] for gap in data["not_measured"]}
        assert ("Images that were not scored" in gaps) is said
        if said:
            assert "first 100 (360 images in all)" in gaps["Images that were not scored"]
            assert gaps["Classes without images"] == "nothing is known of cat"
            assert data["images_per_class"]["cat"] == 0


def test_checks_that_were_not_measured_are_gaps(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    data = json.loads(written(tmp_path, run)["audit.json"])
    unmeasured = [c.name for c in run.scorecard.trust.checks if c.status == "not measured"]
    assert unmeasured
    named = [gap["what"] for gap in data["not_measured"] if gap["what"].startswith("Check ")]
    assert named == [f"Check “{name}”" for name in unmeasured]
    assert [check["name"] for check in data["checks"]] == [
        check.name for check in run.scorecard.trust.checks
    ]


def test_an_ε_profile_lists_every_ε_that_was_tried(tmp_path: Path) -> None:
    outcomes = simulate(profile=True)
    of = {**outcomes.manifest["attacks"], "clean": {"family": "clean", "eps": 0.0, "eps_text": "0"}}
    outcomes = Outcomes(outcomes.table, {**outcomes.manifest, "attacks": of})
    profiled = Run("model.pt", scorecard(outcomes), outcomes.manifest)
    data = json.loads(written(tmp_path, profiled)["audit.json"])
    assert "ε = 2/255, 4/255, 8/255, 16/255 (L∞)" in data["threat_model"]


def test_attackers_without_the_weights_are_told_from_those_with(
    make_run: Any, tmp_path: Path
) -> None:
    def model(*attacks: str) -> str:
        files = written(tmp_path, make_run(attacks=("clean", *attacks)))
        return str(json.loads(files["audit.json"])["threat_model"])

    assert "knows the network and its weights (white box) changes" in model("pgd", "aa")
    assert "under square sees only its outputs (black box)" in model("pgd", "square")
    assert "weights" not in model("square")
    assert "under mine knows what is not recorded here" in model("pgd", "mine")


HOSTILE = (
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(2)>",
    '" onmouseover="alert(3)',
    "a|b\nc",
    "[link](javascript:alert(4))",
    "{{ 7*7 }}{% raw %}",
)


def test_names_and_records_stay_text(make_run: Any, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(5)>|`x`\n# heading"
    run = make_run(
        "<b>run</b>", HOSTILE, empty=[1], targeted=True, engine=evil, command=[evil],
        packages={evil: evil}, code={"commit": evil, "dirty": evil}, platform={evil: [evil]},
        source=[{"name": evil, "sha256": 3}],
    )  # fmt: skip
    files = written(tmp_path, run)

    class Elements(HTMLParser):
        found: list[tuple[str, list[Any]]]

        def handle_starttag(self, tag: str, attrs: list[Any]) -> None:
            self.found.append((tag, attrs))

    page = Elements()
    page.found = []
    page.feed(files["audit.html"])
    assert not {"script", "img", "link", "iframe", "b"} & {tag for tag, _ in page.found}
    names = {name for _, attributes in page.found for name, _ in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert not names & {"src", "href", "action", "data"}
    markdown = files["audit.md"]
    assert "<img" not in markdown
    assert "<script" not in markdown
    assert "\n# heading" not in markdown
    for table in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1
    assert json.loads(files["audit.json"])["identity"]["engine"] == evil


def test_each_row_of_the_crosswalk_names_evidence_and_what_it_leaves_open(make_run: Any) -> None:
    card = make_run().scorecard
    rows = crosswalk(card, "aa", 7, [])
    assert len({(row["framework"], row["item"]) for row in rows}) == len(rows)
    for row in rows:
        assert [*row] == ["framework", "item", "asks", "evidence", "leaves_open"]
        assert all(row.values())
    aa = card.attacks["aa"]
    by_item = {row["item"]: row["evidence"] for row in rows}
    interval = f"95 % interval {percent(aa.average95[0])} to {percent(aa.average95[1])}"
    assert f"average {percent(aa.average)} % ({interval}) under aa" in by_item["Art. 15(5)"]
    assert f"every class at least {percent(aa.floor95)} %" in by_item["MEASURE 2.11"]
    assert "(7 entries)" in by_item["MEASURE 1.1"]


def test_the_report_is_the_same_beside_an_appendix(make_run: Any, tmp_path: Path) -> None:
    run = make_run()
    before = {file.name: file.read_bytes() for file in write_report(tmp_path, [run])}
    write_appendix(tmp_path, run)
    after = {file.name: file.read_bytes() for file in write_report(tmp_path, [run])}
    assert before == after
    assert {"audit.md", "audit.html", "audit.json"} <= {file.name for file in tmp_path.iterdir()}
