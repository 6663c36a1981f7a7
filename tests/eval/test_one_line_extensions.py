"""A new attack, data set and architecture: one file and one line in a registry each."""

from __future__ import annotations

import importlib
import json
import textwrap

import pytest
import torch

import ferd_eval.cli
from ferd_eval.attacks.registry import PRESETS, Preset
from ferd_eval.datasets.registry import DATASETS
from ferd_eval.models import build_architecture, save_network
from ferd_eval.models.architectures import registry as architectures

ATTACK = """
    import torch
    from ferd_eval.attacks import Attack

    class Brighten(Attack):
        family = "toy-attack"
        steps = 2

        def perturb(self, problem):
            labels_B1 = problem.labels_B[:, None]
            g_BCHW = problem.gradient(problem.x_BCHW, lambda z_BK: -z_BK.gather(1, labels_B1))
            return problem.x_BCHW + problem.threat.radius * g_BCHW.sign()
"""

DATASET = """
    from fractions import Fraction
    import numpy as np
    from ferd_eval.datasets import LabelledImages
    from ferd_eval.datasets.info import PackagedDataset

    def read(split):
        images = np.random.default_rng(0).integers(0, 256, (24, 1, 4, 4), dtype=np.uint8)
        return LabelledImages(
            "toy-set", images, np.arange(24) % 3, ("a", "b", "c"), np.arange(24), "nowhere"
        )

    INFO = PackagedDataset(
        name="toy-set", title="Toy", num_classes=3, image_shape=(1, 4, 4), read=read,
        default_eps=Fraction(1, 10), licence="none", url="", layout="none",
    )
"""

ARCHITECTURE = """
    import re
    from dataclasses import dataclass
    from torch import nn
    from ferd_eval.models.architectures.base import Architecture, ArchitectureRow

    @dataclass(frozen=True, kw_only=True)
    class Toy(Architecture):
        name = "toy-net"
        pattern = re.compile("toy-net")
        stem_key, head_key = "0.weight", "2.weight"
        rows = (ArchitectureRow("toy-net", "Toy", "here", "C×4×4"),)

        def build(self):
            layers = nn.Conv2d(self.in_channels, 2, 3), nn.Flatten(), nn.Linear(8, self.num_classes)
            return nn.Sequential(*layers)

        @classmethod
        def from_name(cls, match):
            return {}

        @classmethod
        def from_shapes(cls, shapes, width):
            return {} if width == 2 else None
"""


@pytest.fixture
def extended(tmp_path, monkeypatch):
    """A folder with a checkpoint of the toy network; the toys are registered."""
    for name, code in (("attack", ATTACK), ("dataset", DATASET), ("network", ARCHITECTURE)):
        (tmp_path / f"toy_{name}.py").write_text(textwrap.dedent(code))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "toy-attack", Preset("toy_attack:Brighten", "one step"))
    info = importlib.import_module("toy_dataset").INFO
    monkeypatch.setitem(DATASETS, "toy-set", info)
    family = importlib.import_module("toy_network").Toy
    monkeypatch.setattr(architectures, "FAMILIES", (*architectures.FAMILIES, family))
    torch.manual_seed(0)
    toy = build_architecture("toy-net", num_classes=3, in_channels=1)
    save_network(tmp_path / "toy.safetensors", toy.build(), toy, None)
    return tmp_path


def run(words: str) -> None:
    assert ferd_eval.cli.run(ferd_eval.cli.app, words.split(), "ferd-eval") == 0


def test_toys_are_scored_reported_and_ranked(extended, capsys):
    run("score toy.safetensors --dataset toy-set --attacks toy-attack --out run")
    manifest = json.loads((extended / "run" / "manifest.json").read_text())
    assert manifest["model"]["architecture"] == "toy-net"
    assert manifest["dataset"]["name"] == "toy-set"
    cost = manifest["cost"]["toy-attack"]
    assert (cost["forward"], cost["backward"]) == (2 * 24, 24)
    card = json.loads((extended / "run" / "scorecard.json").read_text())
    assert {"clean", "toy-attack"} <= {*card["attacks"]}
    assert "toy-attack" in (extended / "run" / "report.html").read_text()
    appendix = "knows the network and its weights (white box)"
    run("report run --audit")
    assert appendix in (extended / "run" / "audit.html").read_text()
    capsys.readouterr()
    run("leaderboard run --out board")
    assert "toy-attack" in (extended / "board" / "leaderboard.md").read_text()


@pytest.mark.parametrize("what", ["attacks", "datasets", "models"])
def test_toys_are_listed(extended, capsys, what):
    run(f"ls {what}")
    assert "toy-" in capsys.readouterr().out
