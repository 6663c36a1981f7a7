"""Other people's networks on real images: the figures their README states, through the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ferd_eval.cli import app
from ferd_eval.runtime.command_line import run

FACTORIES = """
import torch
from torch import nn


def cnn_a(in_channels=3):
    side = {3: 8, 1: 7}[in_channels]
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 4, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(32 * side * side, 100), nn.ReLU(), nn.Linear(100, 10),
    )


class Residual(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        changed = stride != 1 or width_in != width
        self.shortcut = nn.Sequential(*[nn.Conv2d(width_in, width, 1, stride)] * changed)

    def forward(self, x):
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x))


class ResNet2b(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.layer1 = nn.Sequential(Residual(8, 16, 2), Residual(16, 16, 1))
        self.linear1, self.linear2 = nn.Linear(1024, 100), nn.Linear(100, 10)

    def forward(self, x):
        x = self.layer1(torch.relu(self.conv1(x))).flatten(1)
        return self.linear2(torch.relu(self.linear1(x)))


class Basic(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.stride, self.more = stride, width - width_in

    def forward(self, x):
        out = torch.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.more:  # subsample, and zeros for the channels there were not
            zeros = (0, 0, 0, 0, self.more // 2, self.more // 2)
            x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], zeros)
        return torch.relu(out + x)


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        widths = (16, 16, 32, 64)
        for i in (1, 2, 3):
            first = Basic(widths[i - 1], widths[i], 1 if i == 1 else 2)
            rest = [Basic(widths[i], widths[i], 1) for _ in range(2)]
            setattr(self, f"layer{i}", nn.Sequential(first, *rest))
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.linear(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))
"""

CIFAR = ".4914,.4822,.4465/.2471,.2435,.2616"
IMAGENET = ".485,.456,.406/.229,.224,.225"

#: Checkpoint, factory, normalisation, README's clean / PGD-20 at 2/255 / at 8/255, images for PGD.
PUBLIC = [
    ("cifar10_resnet2b_adv2.pth", "ResNet2b", CIFAR, 70.40, 57.0, 19.3, 1017),
    ("cifar10_cnn_a_mix4.pt", "cnn_a", CIFAR, 69.62, 55.3, 17.7, 1017),
    ("cifar10_cnn_a_adv.pt", "cnn_a", CIFAR, 66.67, 52.1, 14.5, 1017),
    ("cifar10_resnet20_standard.th", "ResNet20", IMAGENET, 91.64, 0.3, 0.0, 64),
]


@pytest.fixture
def average(shared, prepared, tmp_path, monkeypatch, capsys):
    """Score a public checkpoint; average accuracies in percent by attack."""
    monkeypatch.chdir(tmp_path)
    Path("nets.py").write_text(FACTORIES)

    def score(name: str, factory: str, dataset: str, *flags: str) -> dict[str, float]:
        file = shared / "checkpoints" / name
        if not file.is_file():
            pytest.skip(f"no public checkpoint {file}")
        folder = {"cifar10": "cifar10-official1017"}.get(dataset, dataset)
        arguments = [
            "score", str(file), "--model-file", f"nets.py:{factory}", "--dataset", dataset,
            "--data-dir", str(prepared / folder), "--json", *flags,
        ]  # fmt: skip
        capsys.readouterr()
        status = run(app, arguments, "ferd-eval")
        out, err = capsys.readouterr()
        assert status == 0, err
        attacks = json.loads(out)["attacks"]
        return {attack: 100 * figures["average"] for attack, figures in attacks.items()}

    return score


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "factory", "normalize", "clean", "pgd_2", "pgd_8", "images"),
    PUBLIC,
    ids=[row[0] for row in PUBLIC],
)
def test_cifar10_figures_are_those_of_the_readme(
    average, name, factory, normalize, clean, pgd_2, pgd_8, images
):
    flags = ("--normalize", normalize, "--eps", "2/255,8/255")
    limit = ("--limit", str(images)) if images < 1017 else ()
    attacked = average(name, factory, "cifar10", "--attacks", "clean,pgd", *flags, *limit)
    whole = average(name, factory, "cifar10", "--attacks", "clean", *flags) if limit else attacked
    assert round(whole["clean"], 2) == clean
    assert attacked["pgd@2/255"] == pytest.approx(pgd_2, abs=1.5)
    assert attacked["pgd@8/255"] == pytest.approx(pgd_8, abs=1.5)


def test_the_registered_resnet20_is_the_same_network(average, shared, capsys):
    """Detected by its keys, the network is the one of the user's own factory."""
    name, factory, normalize = PUBLIC[3][:3]
    flags = ("--attacks", "clean", "--normalize", normalize, "--limit", "200")
    own = average(name, factory, "cifar10", *flags)
    arguments = ["inspect", str(shared / "checkpoints" / name), "--json"]
    assert run(app, arguments, "ferd-eval") == 0
    assert json.loads(capsys.readouterr().out)["architecture"] == "resnet20"
    assert own["clean"] > 90


@pytest.mark.deep
def test_a_certified_network_is_never_attacked_below_its_certificate(average):
    """Wong & Kolter 2018, Table 1: 65.47 % of the test set are certified at ε = 0.1."""
    name = "fashion_mnist_wong_kolter.pth"
    figures = average(
        name, "cnn_a", "fashion-mnist", "--attacks", "fgsm,pgd,cw", "--eps", "0.1", "--steps", "10"
    )  # fmt: skip
    assert round(figures["clean"], 2) == 78.27
    assert figures["fgsm"] == pytest.approx(68.8, abs=1.5)
    assert figures["pgd"] == pytest.approx(68.5, abs=1.5)
    assert min(figures.values()) >= 65.47
