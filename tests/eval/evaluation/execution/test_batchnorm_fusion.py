"""Folded batch norms: the same function, only proposals, and left alone where they are not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from ferd_eval import score
from ferd_eval.attacks.autoattack.apgd import APGDCE, APGDT
from ferd_eval.attacks.autoattack.ensemble import cascade
from ferd_eval.attacks.autoattack.square import Square
from ferd_eval.evaluation.execution.batchnorm_fusion import fuse_batchnorm
from ferd_eval.models.architectures.registry import build_architecture
from tests.conftest import TinyNet, tiny_data

EPS = "0.012"


def short(**options):
    searches = (APGDCE(iterations=6), APGDT(iterations=3), Square(queries=60))
    return cascade("aa", *searches, **options)


def used(net: nn.Module, seed: int = 0) -> nn.Module:
    """A network whose batch norms have seen something."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
            ):
                tensor.uniform_(low, high, generator=generator)
    return net.eval()


@pytest.mark.parametrize(
    ("name", "left"), [("resnet18", 0), ("resnet20", 0), ("mobilenetv2", 0), ("preactresnet18", 9)]
)
def test_the_folded_network_is_the_network_but_for_rounding(name, left):
    net = used(build_architecture(name, num_classes=10).build())
    before = {key: value.clone() for key, value in net.state_dict().items()}
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = net(x)
    folded, agreement = fuse_batchnorm(net, x, logits)
    assert folded is not net
    assert agreement.is_rounding
    assert sum(isinstance(module, nn.BatchNorm2d) for module in folded.modules()) == left
    with torch.no_grad():
        torch.testing.assert_close(folded(x), net(x), rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    assert all(parameter.requires_grad for parameter in net.parameters())


class TwoFaced(nn.Module):
    """One convolution before two batch norms: folding the one spoils the other."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.first, self.second = nn.BatchNorm2d(4), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 10)

    def forward(self, x_BCHW):
        both = self.first(self.conv(x_BCHW)) - self.second(self.conv(x_BCHW))
        return self.head(both.mean((2, 3)))


class Branching(TinyNet):
    """Cannot be traced."""

    def forward(self, x_BCHW):
        return super().forward(x_BCHW) * (2 if x_BCHW.sum() > 0 else 3)


@pytest.mark.parametrize("make", [TwoFaced, Branching, lambda: nn.Sequential(nn.Flatten())])
def test_what_cannot_be_folded_is_used_as_it_is(make):
    net = used(make())
    x = torch.rand(4, 1, 8, 8)
    with torch.no_grad():
        logits = net(x)
    folded, agreement = fuse_batchnorm(net, x, logits)
    assert folded is net
    assert agreement is None or not agreement.is_rounding


@pytest.fixture(scope="module")
def net():
    return used(TinyNet(num_classes=10))


def test_a_run_says_what_it_searched_with_and_ends_alike(net):
    data = tiny_data(n=120, num_classes=10)
    runs = {fold: score(net, data, [short()], EPS, fold_batchnorm=fold) for fold in (True, False)}
    said = runs[True].manifest["folding"]
    assert (said["folded"], said["images"], said["same_class"]) == (1, 64, 64)
    assert said["largest_difference"] < 1e-5
    assert runs[True].manifest["precision"]["searches_fold_batchnorm"]
    assert "folding" not in runs[False].manifest
    ours, theirs = (runs[fold].of("aa").reset_index(drop=True) for fold in (True, False))
    flips = np.flatnonzero(ours["correct"] != theirs["correct"])
    print(f"{len(flips)} flips of {len(ours)}")
    assert len(flips) <= 1
    assert (ours.loc[flips, "margin"].abs() < 1e-3).all()


def test_the_network_itself_decides(net, monkeypatch):
    """A proposer that sees every image as fallen breaks nothing by itself."""
    data = tiny_data(n=40, num_classes=10)

    class Liar(nn.Module):
        def forward(self, x_BCHW):
            return -net(x_BCHW)

    monkeypatch.setattr(
        "ferd_eval.evaluation.execution.likenesses.fuse_batchnorm",
        lambda model, x, logits: (Liar(), None),
    )
    liar = score(net, data, [short()], EPS)
    monkeypatch.undo()
    honest = score(net, data, "clean", EPS)
    standing = honest.of("clean").set_index("index")["correct"]
    rows = liar.of("aa").set_index("index")
    with torch.no_grad():
        assert rows["correct"].sum() > 0
    assert set(rows.index[~rows["correct"]]) >= set(standing.index[~standing])
    pd.testing.assert_series_equal(rows["correct"], rows["adv_pred"] == rows["label"],
                                   check_names=False)  # fmt: skip
    # In the reference's own stream nothing is folded, for parity.
    monkeypatch.setattr(
        "ferd_eval.evaluation.execution.likenesses.fuse_batchnorm",
        lambda model, x, logits: (Liar(), None),
    )
    parity = score(net, data, [short(reference_stream=True)], EPS, batch_size=40)
    monkeypatch.undo()
    pd.testing.assert_frame_equal(
        parity.of("aa"),
        score(net, data, [short(reference_stream=True)], EPS, batch_size=40).of("aa"),
    )
