"""``ferd-eval score`` as people type it: what it prints, writes and refuses."""

from __future__ import annotations

import importlib.util
import json
import pickle
import re
import shutil
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ferd_eval.models import build_architecture
from ferd_eval.models.demo import demo_checkpoints
from tests.conftest import ROOT, TinyNet, tiny_data

NETS = """
import torch
from tests.conftest import TinyNet


class Pair(TinyNet):
    def forward(self, x):
        return super().forward(x), x


class Spatial(TinyNet):
    def forward(self, x):
        return super().forward(x)[:, :, None]


class Still(TinyNet):
    def forward(self, x):
        return super().forward(x).detach()


class Picky(TinyNet):
    def forward(self, x):
        raise ValueError


def broken():
    raise KeyError("weights")


def number():
    return 3
"""

ATTACKS = """
from ferd_eval import Attack


class Dust(Attack):
    name, family, steps = "dust", "dust", 0

    def perturb(self, problem):
        return problem.uniform_start()


class Bare(Attack):
    def perturb(self, problem):
        return problem.x_BCHW


class Bug(Dust):
    def perturb(self, problem):
        raise ValueError("a bug")


class Clean(Dust):
    name = "clean"


class NoPerturb(Attack):
    pass


class OnlyNumbers(Attack):
    family, steps = "numbers", 1


class WrongTypes(Dust):
    family, steps = "", "20"


class Argument(Dust):
    def __init__(self, size):
        pass


def function():
    pass
"""


@pytest.fixture(scope="session")
def corner(tmp_path_factory) -> Path:
    """A folder with a small network, its factory, images, and everything that is wrong."""
    folder = tmp_path_factory.mktemp("corner")
    data = tiny_data(60)
    np.savez(folder / "images.npz", images=data.images_NCHW[:, 0], labels=data.labels_N)
    colour = data.images_NCHW.repeat(3, axis=1)
    np.savez(folder / "colour.npz", images=colour, labels=data.labels_N)
    (folder / "nets.py").write_text(NETS)
    (folder / "attacks.py").write_text(ATTACKS)
    weights = TinyNet().state_dict()
    torch.save(weights, folder / "tiny.pt")
    torch.save(TinyNet(seed=1).state_dict(), folder / "other.pt")
    torch.save({**weights, "linear.bias": torch.full((4,), torch.nan)}, folder / "nan.pt")
    torch.save(TinyNet(num_classes=10).state_dict(), folder / "ten.pt")
    (folder / "page.pt").write_text("<!DOCTYPE html><html><body>404: not found</body></html>")
    whole = (folder / "tiny.pt").read_bytes()
    (folder / "torn.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.pt").write_bytes(b"")
    torch.save([1, 2, 3], folder / "list.pt")
    (folder / "sub").mkdir()
    (folder / "sub" / "tiny.pt").write_bytes(whole)
    (folder / "groups.csv").write_text(
        "class,group\nclass 0,even\nclass 1,odd\n2,even\nclass 3,odd\n".replace("class ", "")
    )
    return folder


GOOD = [
    "tiny.pt", "--model-file", "nets.py:TinyNet", "--dataset", "npz:images.npz", "--attacks",
    "fgsm,pgd", "--eps", "0.06", "--steps", "2", "--out", "run",
]  # fmt: skip


@pytest.fixture
def here(corner, tmp_path, monkeypatch) -> Path:
    """A fresh working folder with the corner's files."""
    shutil.copytree(corner, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FERD_DATA", raising=False)
    return tmp_path


@pytest.fixture
def ferd_eval(run_command):
    """Run the command; its status, output and error output."""
    return run_command


def with_flags(*flags: str) -> list[str]:
    """The good command with flags in place of its own."""
    words = list(GOOD)
    for name, value in zip(flags[::2], flags[1::2], strict=True):
        if name == "CKPT":
            words[0] = value
        elif name in words:
            words[words.index(name) + 1] = value
        else:
            words += [name, value]
    return words


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


# Good paths


def test_the_last_line_is_the_reports_path(here, ferd_eval):
    status, out, err = ferd_eval("score", *GOOD)
    assert status == 0
    assert out.splitlines()[-1] == "run/report.html"
    assert {file.name for file in Path("run").iterdir()} == {
        "outcomes.parquet", "manifest.json", "scorecard.json", "report.md", "report.csv",
        "report_wide.csv", "report.html", "SHA256SUMS",
    }  # fmt: skip
    assert len(err.splitlines()) == 3  # one line a unit
    assert all("tiny" in line for line in err.splitlines())
    assert all(" left" in line for line in err.splitlines()[1:])  # the first is a warm-up
    manifest = json.loads(Path("run/manifest.json").read_text())
    assert manifest["model"]["architecture"] == "nets.py:TinyNet"
    assert manifest["checkpoint"]["name"] == "tiny"
    card = json.loads(Path("run/scorecard.json").read_text())
    table = pd.read_parquet("run/outcomes.parquet")
    for attack, rows in table.groupby("attack"):
        assert card["attacks"][attack]["average"] == pytest.approx(rows["correct"].mean())


def test_a_finished_run_repeated_changes_nothing(here, ferd_eval):
    ferd_eval("score", *GOOD)
    before = snapshot(here / "run")
    status, out, err = ferd_eval("score", *GOOD)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "run/report.html"
    assert snapshot(here / "run") == before


@pytest.mark.parametrize("damage", ["report.md", "scorecard.json"])
def test_a_missing_or_torn_report_is_made_again(here, ferd_eval, damage):
    ferd_eval("score", *GOOD)
    before = {name: content for name, (content, _) in snapshot(here / "run").items()}
    Path("run", damage).unlink()
    ferd_eval("score", *GOOD)
    assert {name: content for name, (content, _) in snapshot(here / "run").items()} == before
    Path("run/scorecard.json").write_text("{")
    ferd_eval("score", *GOOD)
    assert {name: content for name, (content, _) in snapshot(here / "run").items()} == before


def test_json_is_all_there_is_on_stdout(here, ferd_eval):
    status, out, err = ferd_eval("score", *GOOD, "--json")
    assert status == 0
    assert json.loads(out) == json.loads(Path("run/scorecard.json").read_text())
    assert err.splitlines()[-1] == "run/report.html"


def test_several_checkpoints_have_folders_and_a_table_over_all(here, ferd_eval):
    status, out, _ = ferd_eval("score", "other.pt", *GOOD, "--json")
    assert status == 0
    runs = json.loads(out)["runs"]
    assert list(runs) == ["other", "tiny"]
    for name in runs:
        assert json.loads(Path("run", name, "scorecard.json").read_text()) == runs[name]
        assert Path("run", name, "outcomes.parquet").is_file()
    assert json.loads(Path("run/scorecards.json").read_text())["runs"] == runs
    assert not Path("run/scorecard.json").exists()
    page = Path("run/report.md").read_text()
    assert "tiny" in page
    assert "other" in page
    assert not Path("run/outcomes.parquet").exists()
    before = snapshot(here / "run")
    assert ferd_eval("score", "other.pt", *GOOD)[0] == 0
    assert snapshot(here / "run") == before


def test_the_table_over_all_is_of_the_checkpoints_given(here, ferd_eval):
    shutil.copy("other.pt", "third.pt")
    ferd_eval("score", "other.pt", *GOOD)
    first = Path("run/scorecards.json").read_bytes()
    ferd_eval("score", "third.pt", *GOOD)
    assert list(json.loads(Path("run/scorecards.json").read_text())["runs"]) == ["third", "tiny"]
    ferd_eval("score", "other.pt", *GOOD)
    assert Path("run/scorecards.json").read_bytes() == first
    Path("run/scorecards.json").unlink()
    ferd_eval("score", "other.pt", *GOOD)
    assert Path("run/scorecards.json").read_bytes() == first


def test_equal_stems_are_told_apart_by_their_folders(here, ferd_eval):
    status, out, _ = ferd_eval("score", "sub/tiny.pt", *GOOD, "--json")
    assert status == 0
    assert set(json.loads(out)["runs"]) == {"sub-tiny", f"{here.name}-tiny"}


def test_without_out_runs_do_not_collide(here, ferd_eval):
    words = [word for word in GOOD if word not in ("--out", "run")]
    folders = set()
    for flags in ([], ["--seed", "1"], ["--limit", "30"], ["--per-class", "2"]):
        status, out, _ = ferd_eval("score", *words, *flags)
        assert status == 0
        report = Path(out.splitlines()[-1])
        assert report.is_file()
        assert report.parent.parent == Path("reports/runs")
        folders.add(report.parent)
    assert len(folders) == 4
    assert ferd_eval("report", "reports/runs")[0] == 0


def test_a_config_file_equals_flags(here, ferd_eval):
    Path("job.toml").write_text(
        'model-file = "nets.py:TinyNet"\ndataset = "npz:images.npz"\nattacks = ["fgsm", "pgd"]\n'
        'eps = 0.06\nsteps = 2\nout = "from-file"\nbatch_size = 16\nper_class = 5\n'
    )
    assert ferd_eval("score", "tiny.pt", "--config", "job.toml")[0] == 0
    assert ferd_eval("score", *GOOD, "--batch-size", "16", "--per-class", "5")[0] == 0
    for name in ("outcomes.parquet", "scorecard.json", "report.csv"):
        assert Path("from-file", name).read_bytes() == Path("run", name).read_bytes()
    # A flag wins over the file.
    status, _, _ = ferd_eval(
        "score", "tiny.pt", "--config", "job.toml", "--eps", "0.03", "--out", "won"
    )
    assert status == 0
    assert json.loads(Path("won/manifest.json").read_text())["attacks"]["pgd"]["eps"] == 0.03


def test_limits_are_the_first_records(here, ferd_eval):
    labels = np.load("images.npz")["labels"]
    for flag, expected in (
        ("--limit", list(range(11))),
        ("--per-class", sorted(i for k in range(4) for i in np.flatnonzero(labels == k)[:11])),
    ):
        assert ferd_eval("score", *with_flags("--out", flag[2:]), flag, "11")[0] == 0
        table = pd.read_parquet(f"{flag[2:]}/outcomes.parquet")
        assert list(table[table["attack"] == "pgd"]["index"]) == expected


def test_precision_is_what_was_asked_for(here, ferd_eval):
    for precision in ("float32", "float64"):
        out = f"run-{precision}"
        words = with_flags("--out", out, "--precision", precision, "--normalize", "0.5/0.25")
        assert ferd_eval("score", *words)[0] == 0
        manifest = json.loads(Path(out, "manifest.json").read_text())
        assert manifest["precision"]["dtype"] == precision
    a, b = (pd.read_parquet(f"run-{p}/outcomes.parquet")["margin"] for p in ("float32", "float64"))
    np.testing.assert_allclose(a, b, atol=1e-4)
    assert (a != b).any()


def test_an_eps_profile(here, ferd_eval):
    status, out, _ = ferd_eval("score", *with_flags("--eps", "2/255,4/255,8/255"), "--json")
    assert status == 0
    attacks = json.loads(out)["attacks"]
    assert list(attacks) == [
        "clean", *(f"{a}@{e}/255" for a in ("fgsm", "pgd") for e in (2, 4, 8)),
    ]  # fmt: skip
    assert "pgd" not in attacks
    averages = [attacks[f"pgd@{e}/255"]["average"] for e in (2, 4, 8)]
    assert averages == sorted(averages, reverse=True)


def test_an_attack_of_the_users(here, ferd_eval):
    status, out, _ = ferd_eval("score", *GOOD, "--attack-file", "attacks.py:Dust", "--json")
    assert status == 0
    assert list(json.loads(out)["attacks"]) == ["clean", "fgsm", "pgd", "dust"]
    # Another file is another configuration.
    Path("attacks.py").write_text(ATTACKS + "\n")
    status, _, err = ferd_eval("score", *GOOD, "--attack-file", "attacks.py:Dust")
    assert status == 2
    assert "attack_file_sha256" in err


def test_the_attack_in_the_documentation_is_a_whole_one(here, ferd_eval):
    page = (ROOT / "docs" / "contributing" / "attack.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (words,) = re.findall(r"```sh\nferd-eval (score .*?)```", page, re.DOTALL)
    spec = words.split()[-1]
    Path(spec.partition(":")[0]).write_text(code)
    status, out, err = ferd_eval("score", *GOOD, *words.split()[-2:], "--save-adv", "--json")
    assert status == 0, err
    scores = json.loads(out)["attacks"]["mi-fgsm"]
    constants = {"steps": 10, "step_size": pytest.approx(0.006), "decay": 1.0}
    assert scores["constants"].items() >= constants.items()
    saved = np.load("run/adversarial/mi-fgsm.npz")
    # The method once more, as the paper writes it, and judged by hand.
    network = TinyNet().eval()
    data = np.load("images.npz")
    x = torch.from_numpy(data["images"][:, None]).float() / 255
    labels = torch.from_numpy(data["labels"])
    adv, momentum = x, torch.zeros_like(x)
    for _ in range(10):
        leaf = adv.clone().requires_grad_()
        torch.nn.functional.cross_entropy(network(leaf), labels, reduction="sum").backward()
        momentum = momentum + leaf.grad / leaf.grad.abs().mean(dim=(1, 2, 3), keepdim=True)
        adv = torch.clamp(adv + 0.006 * momentum.sign(), x - 0.06, x + 0.06).clamp(0, 1)
    np.testing.assert_allclose(saved["images"], adv.numpy(), atol=1e-5)
    right = (network(adv).argmax(1) == labels).float().mean().item()
    assert scores["average"] == pytest.approx(right)
    assert right < json.loads(out)["attacks"]["clean"]["average"]


def test_groups_from_a_file(here, ferd_eval):
    status, out, _ = ferd_eval("score", *GOOD, "--groups", "groups.csv", "--json")
    assert status == 0
    assert json.loads(Path("run/manifest.json").read_text())["groups"] == {
        "groups": ["even", "odd", "even", "odd"]
    }
    table = pd.read_parquet("run/outcomes.parquet")
    table = table[table["attack"] == "pgd"]
    even = table[table["label"] % 2 == 0]["correct"].mean()
    assert "even" in out
    groups = json.loads(out)["groups"]["groups"]["pgd"]
    per_group = {row["name"]: row["accuracy"] for row in groups["per_class"]}
    assert per_group["even"] == pytest.approx(even)


def test_torchattacks_as_a_cross_check(here, ferd_eval):
    if importlib.util.find_spec("torchattacks") is None:
        status, _, err = ferd_eval("score", *GOOD, "--engine", "torchattacks")
        assert (status, err.count("\n")) == (2, 1)
        assert "pip install" in err
        pytest.skip("torchattacks is not installed")
    assert ferd_eval("score", *GOOD)[0] == 0
    assert ferd_eval("score", *with_flags("--out", "ta", "--engine", "torchattacks"))[0] == 0
    ours, theirs = (pd.read_parquet(f"{out}/outcomes.parquet") for out in ("run", "ta"))
    fgsm = (ours["attack"] == "fgsm").to_numpy()
    assert (ours["adv_pred"][fgsm] == theirs["adv_pred"][fgsm]).all()
    status, _, err = ferd_eval("score", *with_flags("--engine", "torchattacks"))
    assert status == 2
    assert "attacks.fgsm.engine is None, asked for is torchattacks" in err


def test_saved_images_lie_beside_the_outcomes(here, ferd_eval):
    assert ferd_eval("score", *GOOD, "--save-adv")[0] == 0
    saved = np.load("run/adversarial/pgd.npz")
    clean = np.load("images.npz")["images"][:, None] / 255
    assert np.abs(saved["images"] - clean).max() <= 0.06 + 1e-6


def test_normalisation_that_was_not_asked_for_is_warned_of(here, ferd_eval, prepared, shared):
    """ResNet-20 without its normalisation: the report says which one helps."""
    file = shared / "checkpoints" / "cifar10_resnet20_standard.th"
    if not file.is_file():
        pytest.skip(f"no {file}")
    status, _, _ = ferd_eval(
        "score", str(file), "--dataset", "cifar10", "--data-dir",
        str(prepared / "cifar10-official1017"), "--attacks", "clean", "--limit", "64", "--out",
        "run",
    )  # fmt: skip
    assert status == 0
    (warning,) = json.loads(Path("run/manifest.json").read_text())["warnings"]
    assert "--normalize imagenet" in warning or "--normalize cifar10" in warning
    assert "none found" in warning


# Bad input: one line, status 2, nothing begun


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("marker"),)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        # the checkpoint
        (("CKPT", "nope.pt"), ("nope.pt", "does not exist", "check the path")),
        (("CKPT", "sub"), ("sub", "folder", "name the file")),
        (("CKPT", "page.pt"), ("page.pt", "HTML")),
        (("CKPT", "torn.pt"), ("torn.pt", "truncated or damaged zip", "fetch it again")),
        (("CKPT", "empty.pt"), ("empty.pt", "empty")),
        (("CKPT", "list.pt"), ("list.pt",)),
        (("CKPT", "images.npz"), ("images.npz",)),
        (("CKPT", "nets.py"), ("nets.py",)),
        (("CKPT", "nan.pt"), ("nan.pt", "NaN", "4 of 4 in linear.bias", "earlier checkpoint")),
        (("CKPT", "ten.pt"), ("ten.pt: the network has 10 logits", "images.npz has 4 classes",
                              "belong together.\n")),
        (("CKPT", "nope.pt", "--dataset", "cifar10", "--data-dir", "/nowhere"),
         ("nope.pt does not exist",)),
        # the network
        (("--model-file", "nets.py:TinyNat"), ("TinyNat", "Did you mean")),
        (("--model-file", "nope.py:TinyNet"), ("nope.py", "no file")),
        (("--model-file", "nets.py"), ("FILE.py:NAME",)),
        (("--model-file", "nets.py:broken"), ("broken", "KeyError")),
        (("--model-file", "nets.py:number"), ("number", "int")),
        (("--model-file", "nets.py:Pair"), ("tiny.pt: ", "returns a tuple", "only the logits")),
        (("--dataset", "npz:colour.npz"), ("tiny.pt: ", "(3×8×8)", "1 channels, but got 3")),
        (("--model-file", "nets.py:Spatial"), ("1×4×1", "1×4")),
        (("--model-file", "nets.py:Still"), ("no gradient", "--attacks clean")),
        (("--model-file", "nets.py:Picky"), ("does not accept images", "1×8×8", "ValueError")),
        (("--arch", "resnet18"), ("--arch", "--model-file", "exclude")),
        (("--normalize", "cifer10"), ("cifer10", "Did you mean cifar10?")),
        (("--normalize", "cifar10"), ("3 channels", "have 1")),
        (("--normalize", "0.5"), ("0.5",)),
        (("--normalize", "0.5/0"), ("0.5/0",)),
        # the data
        (("--dataset", "cifar11"), ("cifar11", "Did you mean cifar10")),
        (("--dataset", "cifar10"), ("cifar10", "--data-dir", "--download")),
        (("--dataset", "npz:nope.npz"), ("nope.npz",)),
        (("--dataset", "npz:tiny.pt"), ("tiny.pt",)),
        (("--dataset", "folder:sub"), ("sub",)),
        (("--dataset", "demo"), ("4 logits", "10 classes")),
        (("--limit", "0"), ("--limit is 0", "1 or more")),
        (("--limit", "-3"), ("--limit is -3",)),
        (("--limit", "ten"), ("--limit",)),
        (("--per-class", "0"), ("--per-class is 0",)),
        (("--limit", "3", "--per-class", "3"), ("--limit and --per-class", "one of them")),
        (("--groups", "superclass"), ("superclass", "neither", "this data set has none",
                                      "CSV file with a line class,group for each of the 4")),
        # the attacks
        (("--attacks", "pdg"), ("'pdg'", "Did you mean pgd?")),
        (("--attacks", "pgd,"), ("''", "There are: clean,")),
        (("--attacks", "cw:fair"), ("cw:fair", "Did you mean cw:fair-ard?")),
        (("--engine", "torchatacks"), ("torchatacks", "Did you mean torchattacks?")),
        (("--eps", "0"), ("--eps is 0", "0 < --eps <= 1")),
        (("--eps", "-1/255"), ("--eps is -1/255", "0 < --eps <= 1")),
        (("--eps", "2"), ("--eps is 2", "write 2/255")),
        (("--eps", "abc"), ("'abc'", "no number", "8/255")),
        (("--eps", "8/0"), ("'8/0'", "no number")),
        (("--eps", "nan"), ("'nan'", "no number")),
        (("--eps", "inf"), ("'inf'", "no number")),
        (("--eps", "8/255,"), ("''", "no number")),
        (("--eps", "8/255,8/255"), ("fgsm@8/255", "once")),
        (("--eps", "1e-999"), ("1e-999",)),
        (("--steps", "0"), ("--steps is 0",)),
        (("--step-size", "0"), ("--step-size is 0",)),
        (("--attack-file", "nope.py:Dust"), ("nope.py",)),
        (("--attack-file", "attacks.py:Dirt"), ("Dirt", "Dust")),
        (("--attack-file", "attacks.py:function"), ("no subclass", "perturb(problem)")),
        (("--attack-file", "attacks.py:Bare"),
         ('example: family = "mine", steps = 20 (docs/contributing/attack.md)',)),
        (("--attack-file", "attacks.py:NoPerturb"),
         ('example: family = "mine", steps = 20, def perturb(self, problem) (docs',)),
        (("--attack-file", "attacks.py:OnlyNumbers"), ("example: def perturb(self, problem) (",)),
        (("--attack-file", "attacks.py:WrongTypes"), ('example: family = "mine", steps = 20 (',)),
        (("--attack-file", "attacks.py:Argument"), ("argument: 'size'", "no arguments")),
        (("--attack-file", "attacks.py:Clean"), ("called 'clean'", "another name")),
        # the run
        (("--batch-size", "0"), ("'0'", "auto or a number from 1")),
        (("--batch-size", "many"), ("'many'",)),
        (("--device", "cdua"), ("--device cdua is no device. Did you mean cuda?",)),
        (("--device", "cdua:1"), ("--device cdua:1 is no device. Did you mean cuda?",)),
        (("--device", "tpu-v4"), ("tpu-v4 is no device. There are: auto, cpu, cuda, mps",)),
        (("--device", "vulkan"), ("--device vulkan cannot be used here", "auto, cpu or cuda")),
        (("--precision", "float23"), ("float23", "Did you mean float32?")),
        (("--seed", "-1"), ("--seed is -1", "from 0")),
        (("--atacks", "pgd"), ("--atacks", "--attacks", "--help")),
        (("--out", "tiny.pt"), ("tiny.pt", "--out")),
        (("--out", "tiny.pt/below"), ("tiny.pt/below", "Not a directory", "--out")),
        (("--out", "."), (". holds files that are not of a run (attacks.py, colour.npz, empty.pt "
                          "and ", "Give a folder of its own, e.g. --out run")),
        (("--out", "sub"), ("sub holds", "(tiny.pt)", "--out sub/run")),
        (("--out", "x" * 300), ("File name too long", "--out")),
        (("--groups", "x" * 300), ("File name too long", "class,group")),
        (("--config", "nope.toml"), ("nope.toml", "No such file")),
    ],
)  # fmt: skip
def test_bad_input_is_one_line(here, ferd_eval, words, parts):
    before = snapshot(here)
    status, out, err = ferd_eval("score", *with_flags(*words))
    assert (status, out) == (2, ""), err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for part in parts:
        assert part in err
    assert {k: v for k, v in snapshot(here).items() if "__pycache__" not in k} == before


def test_a_pickle_that_runs_code_does_not_run(here, ferd_eval):
    for name, write in (
        ("zip.pt", lambda file: torch.save({"conv.weight": Malicious()}, file)),
        ("bare.pt", lambda file: file.write_bytes(pickle.dumps(Malicious()))),
        ("old.pt", lambda file: torch.save(
            Malicious(), file, _use_new_zipfile_serialization=False)),
    ):  # fmt: skip
        write(Path(name))
        for command in (["score", *with_flags("CKPT", name)], ["inspect", name]):
            status, _, err = ferd_eval(*command)
            assert (status, err.count("\n")) == (2, 1)
            assert name in err
            assert any(word in err for word in ("touch", "getattr"))  # what it would have called
            assert not Path("marker").exists()


@pytest.mark.parametrize(
    ("toml", "parts"),
    [
        ("limt = 3", ("unknown key 'limt'", "Did you mean limit?")),
        ("[score]\nlimit = 3", ("unknown key 'score'",)),
        ('limit = "3"', ("limit is '3'", "expected int")),
        ("limit = true", ("limit is True", "expected int")),
        ("limit = 3.5", ("limit is 3.5", "expected int")),
        ("save-adv = 1", ("save-adv is 1", "expected bool")),
        ("out = 3", ("out is 3", "expected Path")),
        ("eps = {a = 1}", ("eps is {'a': 1}", "expected str")),
        ("limit = 0", ("--limit is 0",)),
        ("eps = 2", ("--eps is 2", "2/255")),
        ("<html>", ("cannot be read", "line 1")),
        ("\udcff", ("cannot be read",)),
        ("limit = 3\nper_class = 3", ("exclude each other",)),
        ("step-size = 0.1\nstep_size = 0.1", ("step-size and step_size are one key", "Keep one")),
        ('step_size = 0.1\nstep-size = "x"', ("step_size and step-size are one key",)),
    ],
)
def test_bad_config_files(here, ferd_eval, toml, parts):
    Path("job.toml").write_bytes(toml.encode(errors="surrogateescape"))
    words = [word for word in GOOD if word not in ("--eps", "0.06")]
    status, out, err = ferd_eval("score", *words, "--config", "job.toml")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert all(part in err for part in parts), err
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("rows", "parts"),
    [
        ("0,a\n1,b\n2,a\n", ("1 of 4 classes", "3", "class,group")),
        ("0,a\n1,b\n2,a\nfour,b\n", ("'four'", "There are: 0, 1, 2, 3")),
        ("0,a\n1,b\n2,a\n3\n", ("entry 4 is '3'", "class,group")),
        ("0,a\n1,b\n2,a\n3,\n", ("entry 4 is '3,'",)),
        ("", ("4 of 4 classes",)),
        ("\udcff\udcfe", ("cannot be read",)),
    ],
)
def test_bad_group_files(here, ferd_eval, rows, parts):
    Path("mine.csv").write_bytes(rows.encode(errors="surrogateescape"))
    status, out, err = ferd_eval("score", *GOOD, "--groups", "mine.csv")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert all(part in err for part in parts), err


def test_a_folder_of_somebody_elses_is_not_written_into(here, ferd_eval):
    Path("run/tiny").mkdir(parents=True)
    Path("run/tiny/thesis.tex").write_text("")
    before = snapshot(here)
    status, out, err = ferd_eval("score", "other.pt", *GOOD)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "run/tiny holds files that are not of a run (thesis.tex)" in err
    assert snapshot(here) == before
    assert ferd_eval("score", *with_flags("--out", "run"))[0] == 2


@pytest.mark.parametrize(
    "leftovers", [[], ["units/clean/0.parquet"], ["report.md", "report_wide.csv", "report.html"],
                  ["scorecards.json", ".DS_Store"], ["adversarial/pgd.npz"]],
)  # fmt: skip
def test_what_a_run_left_behind_is_no_obstacle(here, ferd_eval, leftovers):
    Path("run").mkdir()
    for name in leftovers:
        Path("run", name).parent.mkdir(exist_ok=True, parents=True)
        Path("run", name).write_text("")
    words = [word for word in with_flags("--attacks", "clean") if word not in ("--steps", "2")]
    status, _, err = ferd_eval("score", *words)
    assert status == 0, err
    # Notes beside a run, or beside the runs of a folder, are the user's affair.
    Path("run/notes.txt").write_text("")
    assert ferd_eval("score", *words)[0] == 0
    Path("runs").mkdir()
    Path("run").rename("runs/tiny")
    Path("runs/notes.txt").write_text("")
    words[words.index("run")] = "runs"
    assert ferd_eval("score", "other.pt", *words)[0] == 0


def test_names_of_checkpoints_must_differ(here, ferd_eval):
    status, _, err = ferd_eval("score", "tiny.pt", *GOOD)
    assert (status, err.count("\n")) == (2, 1)
    assert "both be called" in err
    assert "Rename one" in err


def test_one_bad_checkpoint_among_several_stops_before_any_work(here, ferd_eval):
    for bad in ("nan.pt", "ten.pt", "page.pt"):
        status, out, err = ferd_eval("score", "other.pt", bad, *GOOD)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert bad in err
        assert not Path("run").exists()


def test_a_run_and_a_folder_of_runs_do_not_mix(here, ferd_eval):
    ferd_eval("score", *GOOD)
    before = snapshot(here / "run")
    status, _, err = ferd_eval("score", "other.pt", *GOOD)
    assert (status, err.count("\n")) == (2, 1)
    assert "run is the folder of one run, but 2 checkpoints are given" in err
    assert snapshot(here / "run") == before
    ferd_eval("score", "other.pt", *with_flags("--out", "both"))
    before = snapshot(here / "both")
    status, _, err = ferd_eval("score", *with_flags("--out", "both"))
    assert (status, err.count("\n")) == (2, 1)
    assert "folder of runs (other and tiny)" in err
    assert "--out both/tiny" in err
    assert snapshot(here / "both") == before
    assert ferd_eval("score", *with_flags("--out", "both/tiny"))[0] == 0


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("--seed", "1"), ("seed is 0", "asked for is 1")),
        (("--eps", "0.05"), ("attacks.fgsm.eps is 0.06", "0.05")),
        (("--steps", "3"), ("attacks.pgd.steps is 2", "3")),
        (("--limit", "50"), ("dataset.selection is all", "first 50")),
        (("--per-class", "5"), ("dataset.selection is all", "first 5 per class")),
        (("CKPT", "other.pt"), ("checkpoint.sha256 is",)),
        (("--normalize", "0.5/0.5"), ("model.normalization is None",)),
        (("--precision", "float64"), ("precision is", "float32", "float64")),
        (("--batch-size", "7"), ("batch_size_asked is auto", "asked for is 7")),
        (("--groups", "groups.csv"), ("groups is None",)),
        (("--model-file", "more.py:TinyNet"), ("model.architecture is nets.py:TinyNet",)),
    ],
)  # fmt: skip
def test_another_configuration_is_refused(here, ferd_eval, words, parts):
    shutil.copy("nets.py", "more.py")
    ferd_eval("score", *GOOD)
    before = snapshot(here / "run")
    status, out, err = ferd_eval("score", *with_flags(*words))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "another configuration" in err
    assert all(part in err for part in parts), err
    assert snapshot(here / "run") == before


def test_a_bug_in_the_users_attack_keeps_finished_units(here, ferd_eval):
    words = [*GOOD, "--attack-file", "attacks.py:Bug"]
    status, _, err = ferd_eval("score", *words)
    assert status == 2
    last = err.splitlines()[-1]
    assert last.startswith("error: the attack dust failed with ValueError: a bug.")
    assert "--debug" in last
    assert {file.parent.name for file in Path("run/units").rglob("*.parquet")} == {
        "clean", "fgsm", "pgd",
    }  # fmt: skip
    with pytest.raises(Exception, match="a bug"):
        ferd_eval("--debug", "score", *words)


def test_a_grey_network_and_colour_images_are_both_named(here, ferd_eval):
    grey = build_architecture("resnet8", num_classes=4, in_channels=1).build()
    torch.save(grey.state_dict(), "grey.pt")
    words = ["grey.pt", "--dataset", "npz:colour.npz", "--attacks", "clean", "--out", "run"]
    status, out, err = ferd_eval("score", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "grey.pt: the network takes images of 1 channel, but these have 3" in err
    assert not Path("run").exists()


# Real layouts


def test_truncated_and_wrong_data_files(here, ferd_eval, prepared):
    torch.save(build_architecture("resnet8", num_classes=10).build().state_dict(), "r8.pt")
    good = prepared / "cifar10-official1017" / "cifar-10-batches-bin"
    shutil.copytree(good, "data/cifar-10-batches-bin")
    batch = Path("data/cifar-10-batches-bin/test_batch.bin")
    batch.write_bytes(batch.read_bytes()[:-5])
    words = ["score", "r8.pt", "--dataset", "cifar10", "--attacks", "clean", "--out", "run"]
    status, _, err = ferd_eval(*words, "--data-dir", "data")
    assert (status, err.count("\n")) == (2, 1)
    assert "test_batch.bin" in err
    assert "3073" in err
    status, _, err = ferd_eval(*words, "--data-dir", str(prepared / "cifar100-official916"))
    assert (status, err.count("\n")) == (2, 1)
    assert "is --dataset cifar100 meant?" in err
    words[3] = "cifar100"
    status, _, err = ferd_eval(*words, "--data-dir", str(prepared / "cifar100-official916"))
    assert (status, err.count("\n")) == (2, 1)
    assert "10 logits" in err
    assert "Did you mean --dataset cifar10?" in err
    assert not Path("run").exists()


def test_keys_that_fit_no_architecture_name_the_nearest(here, ferd_eval):
    weights = build_architecture("resnet18", num_classes=10).build().state_dict()
    weights["layer4.1.extra.weight"] = torch.zeros(3)
    torch.save(weights, "odd.pt")
    words = ["score", "odd.pt", "--dataset", "demo", "--out", "run"]
    status, _, err = ferd_eval(*words)
    assert (status, err.count("\n")) == (2, 1)
    assert "resnet18" in err
    assert "layer4.1.extra.weight" in err
    assert "--model-file" in err


def test_superclasses_of_cifar100(here, ferd_eval, prepared):
    torch.manual_seed(0)
    torch.save(build_architecture("resnet8", num_classes=100).build().state_dict(), "r8.pt")
    words = [
        "score", "r8.pt", "--dataset", "cifar100", "--data-dir",
        str(prepared / "cifar100-official916"), "--attacks", "clean", "--limit", "200", "--out",
        "run", "--json",
    ]  # fmt: skip
    status, out, err = ferd_eval(*words, "--groups", "superclass")
    assert status == 0, err
    groups = json.loads(out)["groups"]["superclass"]["clean"]
    names = [row["name"] for row in groups["per_class"]]
    assert len(names) == 20
    assert "aquatic mammals" in {name.replace("_", " ") for name in names}
    status, _, err = ferd_eval(*words, "--groups", "superclas")
    assert (status, err.count("\n")) == (2, 1)
    assert "this data set has superclass. Give a CSV" in err
    Path("g.csv").write_text("wormm,a\n")
    status, _, err = ferd_eval(*words, "--groups", "g.csv")
    assert "Did you mean worm?" in err


def test_the_zip_bomb_of_headers_is_not_opened(here, ferd_eval):
    """A safetensors header that promises more than the file holds."""
    header = b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'
    Path("big.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    status, _, err = ferd_eval("score", *with_flags("CKPT", "big.safetensors"))
    assert (status, err.count("\n")) == (2, 1)
    assert "big.safetensors" in err


@pytest.mark.parametrize("more", [["--json"], [], ["--attacks", "aa", "--eps", "2/255,4/255"]])
def test_a_dry_run_says_plan_and_cost_and_touches_nothing(ferd_eval, tmp_path, monkeypatch, more):
    monkeypatch.chdir(tmp_path)
    with demo_checkpoints() as files:
        words = ["score", *map(str, files), "--dataset", "demo", "--out", "run", "--dry-run"]
        status, out, err = ferd_eval(*words, *more)
    assert (status, err) == (0, "")
    assert "run/" in out
    assert "aa" in out
    if "--json" in more:
        said = json.loads(out)
        assert said["seconds_at_most"].keys() == said["attacks"].keys()
        assert said["seconds_at_most"]["aa"] > said["seconds_at_most"]["pgd"] > 0
    else:
        assert "This will take about" in out
        assert "nothing is written" in out
    assert not Path("run").exists()
    assert not [*tmp_path.iterdir()]


def test_a_dry_run_fetches_nothing(ferd_eval, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with demo_checkpoints() as files:
        words = ["score", str(files[0]), "--dataset", "fashion-mnist", "--data-dir", "none"]
        status, out, err = ferd_eval(*words, "--download", "--dry-run")
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert not [*tmp_path.iterdir()]
