"""Commands on a file that holds several networks: which was taken is said wherever it matters."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import TinyNet, tiny_data

FACTORY = """
from torch import nn
import torch

class TinyNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.linear = nn.Linear(384, 4)

    def forward(self, x):
        return self.linear(torch.relu(self.bn(self.conv(x))).flatten(1))

def make():
    return TinyNet()
"""


@pytest.fixture
def command(run_command, tmp_path, monkeypatch):
    """Run a command in a folder with two.pt and images; its status, output and error output."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    data = tiny_data(40)
    np.savez("images.npz", images=data.images_NCHW[:, 0], labels=data.labels_N)
    Path("net.py").write_text(FACTORY)
    student, teacher = TinyNet(seed=1).state_dict(), TinyNet(seed=2).state_dict()
    torch.save({"epoch": 3, "teacher": teacher, "student": student}, "two.pt")
    return run_command


SCORE = ("score", "two.pt", "--dataset", "npz:images.npz", "--model-file", "net.py:make",
         "--attacks", "clean")  # fmt: skip


def test_score_says_which_network_and_continues_no_other(command):
    status, out, err = command(*SCORE, "--out", "run")
    assert status == 0, err
    for text in (err, out, Path("run/report.md").read_text(), Path("run/report.html").read_text()):
        assert "student was taken" in " ".join(text.split())
        assert "teacher left out" in " ".join(text.split())
    record = json.loads(Path("run/manifest.json").read_text())
    assert record["checkpoint"]["key"] == "student"
    assert "teacher" in record["checkpoint"]["choice"]
    status, _, err = command(*SCORE, "--out", "run", "--key", "teacher")
    assert status == 2
    assert "checkpoint.key is student, asked for is teacher" in " ".join(err.split())
    status, _, err = command(*SCORE, "--out", "other", "--key", "teacher")
    assert status == 0, err
    assert json.loads(Path("other/manifest.json").read_text())["checkpoint"]["key"] == "teacher"
    # Seeds of a method may lie in one file: they are two networks.
    status, out, err = command("compare", "run", "other")
    assert status == 0, err
    status, out, err = command("compare", "run,other", "run")
    assert "runs of one checkpoint" not in err


def test_a_folder_from_before_keys_is_continued(command):
    torch.save({"epoch": 3, "model": TinyNet(seed=1).state_dict()}, "two.pt")
    status, _, err = command(*SCORE, "--out", "run")
    assert status == 0, err
    file = Path("run/manifest.json")
    record = json.loads(file.read_text())
    assert record["checkpoint"]["key"] == ""
    del record["checkpoint"]["key"], record["checkpoint"]["choice"]
    record.pop("seal", None)
    file.write_text(json.dumps(record))
    status, _, err = command(*SCORE, "--out", "run")
    assert status == 0, err


def test_inspect_of_an_unknown_network_shows_what_the_file_is(command):
    torch.save({"epoch": 7, "net": nn.Linear(5, 3).state_dict()}, "own.pt")
    status, out, err = command("inspect", "own.pt")
    assert status == 0, err
    for part in ("not recognised", "3×5", "weight", "epoch: 7", "torch-zip", "net"):
        assert part in out
    status, out, _ = command("inspect", "own.pt", "--json")
    facts = json.loads(out)
    assert status == 0
    assert facts["tensors"]["weight"] == {"shape": [3, 5], "dtype": "float32"}
    assert facts["architecture"] is None
    assert len(facts["sha256"]) == 64
    assert "no known architecture" in facts["not_recognised"]
    # What was asked for and does not fit is an error as before.
    status, out, err = command("inspect", "own.pt", "--arch", "resnet18")
    assert (status, out) == (2, "")
    status, out, err = command("inspect", "two.pt", "--key", "teacher", "--json")
    assert json.loads(out)["key"] == "teacher"


def test_two_networks_without_names_are_hinted_at(command):
    own = TinyNet().state_dict()
    state = {f"{name}.{key}": own[key] for name in ("netA", "netB") for key in own}
    torch.save(state, "pair.pt")
    status, out, _ = command("inspect", "pair.pt")
    assert status == 0
    assert "If netA and netB are networks of their own, choose one with --key netA" in " ".join(
        out.split()
    )
