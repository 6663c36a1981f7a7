"""``ferd-eval verify``: whoever edits a file of a run is told on, and nobody else is."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from ferd_eval.io.json import with_checksum
from ferd_eval.report import as_run, write_appendix, write_report
from ferd_eval.report.api import is_current, report_folder
from ferd_eval.results.digests import SUMS, Sums
from ferd_eval.results.outcomes import Outcomes
from tests.conftest import ROOT
from tests.docs.documents import code_block
from tests.eval.metrics.simulated_run import CIFAR10, simulate

FILES = (
    "audit.html", "audit.json", "audit.md", "manifest.json", "outcomes.parquet", "report.csv",
    "report.html", "report.md", "report_wide.csv", "scorecard.json", "adversarial/pgd.npz",
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder of two runs with all that a run may have."""
    root = tmp_path_factory.mktemp("runs")
    for seed, name in enumerate(("first", "second")):
        folder = root / name
        outcomes = simulate(CIFAR10[:4], seed=seed, per_class=30)
        checkpoint = root / f"{name}.pt"
        checkpoint.write_bytes(name.encode())
        outcomes.manifest["checkpoint"].update(
            name=name, path=str(checkpoint), sha256=hashlib.sha256(name.encode()).hexdigest()
        )
        outcomes.save(folder)
        (folder / "adversarial").mkdir()
        np.savez(folder / "adversarial/pgd.npz", np.zeros(3))
        write_report(folder, as_run(name, outcomes))
        write_appendix(folder, as_run(name, outcomes))
    report_folder(root)
    return root


@pytest.fixture
def root(made, tmp_path, monkeypatch) -> Path:
    shutil.copytree(made, tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.fixture
def verify(run_command):
    return partial(run_command, "verify")


def edit(file: Path) -> None:
    """Change one byte in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def reseal(folder: Path) -> None:
    """Write the digests again, as who edits carefully would."""
    lines = (folder / SUMS).read_text().splitlines()
    names = [line.split("  ", 1)[1] for line in lines[1:]]
    digests = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
    pairs = zip(digests, names, strict=True)
    (folder / SUMS).write_text("\n".join([lines[0], *map("  ".join, pairs)]) + "\n")


def test_what_nobody_touched_is_as_written(verify, root):
    status, out, err = verify("runs")
    assert (status, err) == (0, "")
    assert [line.split(":")[:2] for line in out.splitlines()] == [
        ["first", " as written"], ["second", " as written"], [".", " as written"],
    ]  # fmt: skip
    # All files of the run, and the checkpoint.
    assert f"first: as written: {len(FILES) + 1} files have their digests" in out
    assert verify("runs/first")[1].startswith(f"as written: {len(FILES) + 1} files")


def test_the_digests_are_those_of_other_people_s_tools(root):
    listed = Sums.read(root / "first").by_name
    assert {*listed} == {*FILES}
    for name, digest in listed.items():
        assert digest == hashlib.sha256((root / "first" / name).read_bytes()).hexdigest()
    if shutil.which("sha256sum"):
        done = subprocess.run(
            ["sha256sum", "--strict", "-c", SUMS], cwd=root / "first", capture_output=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count(b": OK") == len(FILES)


def test_the_appendix_has_the_digests_of_the_other_files(root):
    folder = root / "first"
    said = json.loads((folder / "audit.json").read_text("utf-8"))["files"]
    assert {*said} == {name for name in FILES if not name.startswith("audit")}
    for name, digest in said.items():
        assert digest == hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for page in ("audit.md", "audit.html"):
            assert digest in (folder / page).read_text("utf-8")


@pytest.mark.parametrize("name", FILES)
def test_each_file_that_was_edited_is_named_and_no_other(verify, root, name):
    edit(root / "first" / name)
    status, out, err = verify("runs/first")
    assert (status, err) == (1, "")
    found = {line.split(": ")[1] for line in out.splitlines() if line.startswith("altered: ")}
    about_all = {"outcomes"} if name in ("manifest.json", "outcomes.parquet") else set()
    assert found == {name} | about_all


def test_a_file_that_is_gone_or_new_is_named(verify, root):
    (root / "first/report.csv").unlink()
    (root / "second/report.pdf").write_bytes(b"%PDF")
    status, out, _ = verify("runs")
    assert status == 1
    assert "first: altered: report.csv: is missing." in out
    assert "second: altered: report.pdf: was added after SHA256SUMS was written." in out


@pytest.mark.parametrize(
    "name", ["report.html", "report.md", "report.csv", "report_wide.csv", "audit.md", "audit.html"]
)
def test_an_edited_page_is_found_even_with_new_digests(verify, root, name):
    file = root / "first" / name
    text = file.read_text("utf-8")
    figure = re.search(r"(?<![\w.])\d\d\.\d(?![\w.])", text)[0]
    assert text.replace(figure, "99.9") != text
    file.write_text(text.replace(figure, "99.9"), "utf-8")
    reseal(root / "first")
    status, out, _ = verify("runs/first")
    assert status == 1
    found = [line for line in out.splitlines() if line.startswith(f"altered: {name}: line")]
    assert len(found) == 1
    assert "99.9" in found[0]


def test_an_edited_figure_is_named_with_both_values(verify, root):
    file = root / "first/scorecard.json"
    card = json.loads(file.read_text("utf-8"))
    scores = card["attacks"]["pgd"]
    true = scores["average"], scores["per_class"][3]["accuracy"]
    scores["average"], scores["per_class"][3]["accuracy"] = 0.987, 0.789
    file.write_text(json.dumps(card), "utf-8")
    reseal(root / "first")
    status, out, _ = verify("runs/first", "--json")
    found = json.loads(out)["folders"]["."]
    assert (status, found["pass"]) == (1, False)
    assert found["altered"]["scorecard.json"] == [
        f"attacks.pgd.average is 0.987, the outcomes give {true[0]:.6g}",
        f"attacks.pgd.per_class.cat.accuracy is 0.789, the outcomes give {true[1]:.6g}",
    ]


def test_other_outcomes_under_old_figures_are_found(verify, root):
    """Outcomes with all digests right again, but a scorecard of what they were."""
    folder = root / "first"
    sums = (folder / SUMS).read_bytes()
    outcomes = Outcomes.load(folder)
    attacked = outcomes.table["attack"] == "pgd"
    outcomes.table.loc[attacked, "correct"] = True
    outcomes.save(folder)
    (folder / SUMS).write_bytes(sums)
    reseal(folder)
    status, out, _ = verify("runs/first")
    assert status == 1
    assert "altered: outcomes.parquet: no figures can be made of it" in out
    outcomes.table.loc[attacked, "adv_pred"] = outcomes.table.loc[attacked, "label"]
    outcomes.save(folder)
    (folder / SUMS).write_bytes(sums)
    reseal(folder)
    status, out, _ = verify("runs/first")
    assert status == 1
    assert "altered: scorecard.json: attacks.pgd.average is" in out
    assert "the outcomes give 1." in out
    assert "more; --json lists all" in out


def test_another_checkpoint_at_the_place_of_the_one_scored_is_named(verify, root):
    record = json.loads((root / "first/manifest.json").read_text("utf-8"))
    Path(path := record["checkpoint"]["path"]).write_bytes(b"other")
    try:
        status, out, _ = verify("runs/first")
        assert status == 1
        assert f"altered: {path}: SHA-256 is" in out
        Path(path).unlink()
        status, out, _ = verify("runs/first")
        assert status == 0
        assert f"note: checkpoint {path} is not here" in out
    finally:
        Path(path).write_bytes(b"first")


def test_a_run_of_an_earlier_version_has_no_digests_and_passes(verify, run_command, root):
    for file in root.rglob(SUMS):
        file.unlink()
    status, out, _ = verify("runs/first")
    assert status == 0
    assert "note: no SHA256SUMS is here" in out
    assert run_command("gate", "runs", "--floor", "0.0001")[0] == 0
    edit(root / "first/report.html")  # which nothing can tell
    assert verify("runs/first")[0] == 0
    card = (root / "first/scorecard.json").read_text()
    value = json.loads(card)["attacks"]["pgd"]["average"]
    (root / "first/scorecard.json").write_text(card.replace(str(value), "0.99", 1))
    assert verify("runs/first")[0] == 1


def test_pages_of_another_version_are_checked_by_their_digests(verify, root):
    file = root / "first" / SUMS
    file.write_text("# ferd-eval 0.0.1\n" + file.read_text().split("\n", 1)[1])
    status, out, _ = verify("runs/first")
    assert status == 0
    assert "note: written by ferd-eval 0.0.1" in out
    edit(root / "first/report.html")
    assert verify("runs/first")[0] == 1


@pytest.mark.parametrize(
    "content",
    ["nonsense\n", f"{'0' * 64}  ../../etc/passwd\n", f"{'0' * 64}  adversarial/../x.npz\n"],
)
def test_a_list_of_digests_that_is_none_is_named(verify, run_command, root, content):
    (root / "first" / SUMS).write_text(content)
    status, out, _ = verify("runs/first")
    assert status == 1
    assert "altered: SHA256SUMS: " in out
    assert run_command("gate", "runs/first", "--floor", "0.1")[0] == 2


@pytest.mark.parametrize("name", ["report.html", "scorecard.json"])
def test_gate_leaderboard_and_compare_refuse_an_edited_run(run_command, root, name):
    commands = (
        ("gate", "runs", "--floor", "0.0001"),
        ("leaderboard", "runs", "--out", "board"),
        ("compare", "runs/first", "runs/second", "--out", "c"),
    )
    for words in commands:
        assert run_command(*words)[0] == 0
    edit(root / "first" / name)
    for words in commands:
        status, _, err = run_command(*words)
        assert status == 2
        assert err.startswith("error: ")
        assert f"{name} changed after SHA256SUMS was written" in err
    assert run_command("report", "runs/first")[0] == 0  # as the message says
    for words in commands:
        assert run_command(*words)[0] == 0


def test_a_report_that_was_killed_half_way_has_no_digests_and_is_made_again(
    verify, root, monkeypatch
):
    folder = root / "first"
    run = as_run("first", Outcomes.load(folder))
    assert is_current(folder, [run])

    def killed(folder: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("ferd_eval.report.run.write.write_sums", killed)
        with pytest.raises(KeyboardInterrupt):
            write_report(folder, run)
    assert not (folder / SUMS).exists()
    assert verify(folder)[0] == 0
    assert not is_current(folder, [run])
    write_report(folder, run)
    assert is_current(folder, [run])
    assert "note" not in verify(folder)[1]


def test_other_outcomes_in_a_folder_take_the_old_digests_away(root):
    simulate(seed=5, per_class=20).save(root / "first")
    assert not (root / "first" / SUMS).exists()


def test_figures_of_groups_need_the_file_they_are_from(verify, run_command, root):
    names = Outcomes.load(root / "first").class_names
    Path("mine.csv").write_text("".join(f"{name},{len(name) % 2}\n" for name in names))
    assert run_command("report", "runs/first", "--groups", "mine.csv", "--audit")[0] == 0
    status, out, _ = verify("runs/first")
    assert status == 0
    assert "note: made with groups of classes (mine); give --groups" in out
    status, out, _ = verify("runs/first", "--groups", "mine.csv")
    assert (status, "note" in out) == (0, False)
    assert verify("runs/first", "--groups", "nothing.csv")[0] == 2


def test_a_folder_of_one_run_has_a_report_of_its_own(verify, root):
    shutil.rmtree(root / "second")
    report_folder(root)
    status, out, _ = verify("runs")
    assert (status, "note" in out) == (0, False)
    text = (root / "scorecard.json").read_text("utf-8")
    value = json.loads(text)["attacks"]["aa"]["average"]
    (root / "scorecard.json").write_text(text.replace(f'"average": {value}', '"average": 0.99'))
    reseal(root)
    status, out, _ = verify("runs")
    assert status == 1
    assert ".: altered: scorecard.json: attacks.aa.average is 0.99" in out


def test_bad_input_is_two(verify, root):
    for words in (("nothing",), ("runs", "--nonsense"), ()):
        assert verify(*words)[0] == 2
    record = json.loads((root / "first/manifest.json").read_text("utf-8"))
    del record["seal"]
    record["status"] = "running"
    (root / "first/manifest.json").write_bytes(with_checksum(record))
    status, _, err = verify("runs/first")
    assert status == 2
    assert "is not finished" in err


# --expect


def with_wrong(outcomes: Outcomes, attack: str, label: int, count: int) -> Outcomes:
    """So many right images of a class become wrong under an attack."""
    table = outcomes.table.copy()
    right = (table["attack"] == attack) & (table["label"] == label) & table["correct"]
    fallen = table.index[right][:count]
    assert len(fallen) == count
    table.loc[fallen, "correct"] = False
    table.loc[fallen, "adv_pred"] = (label + 1) % 4
    return Outcomes(table, outcomes.manifest)


@pytest.fixture
def quarters(tmp_path, monkeypatch) -> Outcomes:
    """The run of the last quarter, saved as ``last``."""
    outcomes = simulate(CIFAR10[:4], per_class=100, attacks=("clean", "pgd"))
    outcomes.save(tmp_path / "last")
    monkeypatch.chdir(tmp_path)
    return outcomes


@pytest.mark.parametrize("fallen", [7, 8])
def test_drift_begins_where_the_exact_test_says(verify, quarters, fallen):
    # All discordant images fall one way: p = 2 · 0.5^b, and Holm takes it times 4.
    p = 4 * stats.binomtest(0, fallen).pvalue
    with_wrong(quarters, "pgd", 2, fallen).save("now")
    status, out, err = verify("now", "--expect", "last")
    drifted = [line for line in out.splitlines() if line.startswith("drift: ") and "bird" in line]
    assert (status, err) == (1, "")  # the average moved, as below
    assert len(drifted) == (p <= 0.05)
    if drifted:
        rows = quarters.of("pgd")
        was = rows[rows["label"] == 2]["correct"].mean() * 100
        assert drifted == [
            f"drift: under pgd bird from {was:.1f} to {was - fallen:.1f} % of 100 images "
            f"(p = {p:.2g} after Holm)."
        ]
    assert "drift: under pgd the average went from" in out


def test_what_did_not_move_is_no_drift(verify, quarters):
    now = with_wrong(quarters, "pgd", 2, 2)
    now.table.loc[now.table["attack"] == "clean"] = quarters.of("clean")
    now.manifest["packages"] = {"torch": "9.9"}
    now.save("now")
    status, out, _ = verify("now", "--expect", "last")
    assert status == 0
    assert "drift" not in out
    assert "scored otherwise than the earlier run: torch 2.6.0 → 9.9" in out


def test_other_images_and_other_attacks_are_not_what_was_expected(verify, quarters):
    simulate(CIFAR10[:4], per_class=90, attacks=("clean", "pgd")).save("fewer")
    status, out, _ = verify("fewer", "--expect", "last")
    assert (status, out.count("drift: ")) == (1, 1)
    assert "not scored on the same images" in out
    only_clean = simulate(CIFAR10[:4], per_class=100, attacks=("clean",))
    only_clean.save("clean")
    status, out, _ = verify("clean", "--expect", "last")
    assert (status, "drift: pgd was not run." in out) == (1, True)
    assert verify("last", "--expect", "clean")[0] == 0, "more attacks are welcome"
    quarters.manifest["attacks"]["pgd"]["steps"] = 10
    quarters.save("weaker")
    status, out, _ = verify("weaker", "--expect", "last")
    assert status == 1
    assert "drift: pgd is not the same attack as in the earlier run: steps is 10, was 20." in out


def test_runs_of_a_folder_are_expected_to_be_those_of_the_same_name(verify, quarters):
    for name in ("a", "b"):
        quarters.save(f"one/{name}")
        with_wrong(quarters, "pgd", 1, 20 if name == "b" else 0).save(f"two/{name}")
    status, out, _ = verify("two", "--expect", "one", "--json")
    found = json.loads(out)["folders"]
    assert (status, found["a"]["pass"], found["b"]["pass"]) == (1, True, False)
    assert verify("two/a", "--expect", "nothing")[0] == 2
    status, _, err = verify("two/a", "--expect", "one")
    assert status == 2
    assert "--expect one holds no run" in err
    report_folder(Path("last"))
    edit(Path("last/report.md"))
    assert verify("two/a", "--expect", "last")[0] == 2, "what is altered is no yardstick"


@pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="OpenSSH is not installed")
def test_a_signature_of_the_digests_is_made_and_checked_as_documented(verify, root, monkeypatch):
    text = code_block(ROOT / "docs/cli.md", "sh", "ssh-keygen -Y sign")
    monkeypatch.setenv("HOME", str(root.parent / "home"))
    key = Path("home/.ssh/id_ed25519")
    key.parent.mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    Path("allowed_signers").write_text(f"auditor@example.org {key.with_suffix('.pub').read_text()}")
    shutil.copytree(root / "first", "reports/runs/demo/cnn")
    done = subprocess.run(["bash", "-e", "-c", text], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'Good "file" signature for auditor@example.org' in done.stdout
    assert verify("reports/runs/demo/cnn")[0] == 0
    edit(Path("reports/runs/demo/cnn/report.html"))
    reseal(Path("reports/runs/demo/cnn"))
    check = text[text.index("ssh-keygen -Y verify") :]
    assert subprocess.run(["bash", "-c", check], capture_output=True).returncode != 0
