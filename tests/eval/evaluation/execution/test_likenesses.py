"""Searches in lower precision: truly lower inside, judged by the network itself, chosen once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ferd_eval import score
from ferd_eval.attacks import PGD, Batch, Passes, SearchAttack, SearchNetwork, Threat
from ferd_eval.attacks.autoattack.apgd import APGDCE, APGDT
from ferd_eval.attacks.autoattack.ensemble import cascade
from ferd_eval.attacks.autoattack.fab import FABT
from ferd_eval.attacks.autoattack.square import Square
from ferd_eval.errors import UserError
from ferd_eval.evaluation.config import AUTO, SEARCH_PRECISIONS, SINGLE, EvalConfig
from ferd_eval.evaluation.execution import likenesses
from ferd_eval.evaluation.execution.likenesses import Likenesses
from ferd_eval.evaluation.execution.search_precision import PRECISIONS, TF32, BFloat16
from ferd_eval.metrics.comparison.circumstances import circumstances
from tests.conftest import Killed, StopAfter, TinyNet, tiny_data

EPS = "0.03"


def images(count: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


class ThreeLayers(nn.Module):
    """Two convolutions and a head, all with weights that bfloat16 cannot hold."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.first, self.middle = nn.Conv2d(1, 8, 3), nn.Conv2d(8, 8, 3)
        self.head = nn.Linear(8, 10)
        for parameter in self.parameters():
            parameter.data.normal_(std=0.4, generator=generator)

    def forward(self, x_BCHW):
        features = F.relu(self.middle(F.relu(self.first(x_BCHW))))
        return self.head(features.mean((2, 3)))


def data_of(net: nn.Module, count: int):
    """Images labelled by the network, so that every one is to be attacked."""
    data = tiny_data(n=count, num_classes=10)
    with torch.no_grad():
        logits_NK = net.eval()(torch.from_numpy(data.images_NCHW).float() / 255)
    return replace(data, labels_N=logits_NK.argmax(1).numpy())


def test_only_the_layers_between_the_first_and_the_last_are_rounded():
    net, x_BCHW = ThreeLayers(), images()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    likeness = BFloat16().likeness(net, x_BCHW).model
    with torch.no_grad():
        ours_BK = likeness(x_BCHW)
        # The same by hand: what enters and leaves the middle layer has eight bits.
        middle = F.relu(net.first(x_BCHW)).bfloat16().float()
        kernel = net.middle.weight.bfloat16().float()
        middle = F.conv2d(middle, kernel, net.middle.bias.bfloat16().float()).bfloat16()
        by_hand_BK = net.head(F.relu(middle).float().mean((2, 3)))
        exact_BK = net(x_BCHW)
    assert ours_BK.dtype == torch.float32
    scale = float(exact_BK.abs().max())
    assert float((ours_BK - exact_BK).abs().max()) > 1e-4 * scale, "nothing was rounded"
    assert float((ours_BK - exact_BK).abs().max()) < 2e-2 * scale
    # The mean over pixels is made in bfloat16 there.
    assert float((ours_BK - by_hand_BK).abs().max()) < 5e-3 * scale
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_pixels_reach_the_first_layer_unrounded():
    """A step of 1/4096 is lost in bfloat16 near 1; a network that amplifies it still sees it."""

    class Amplifier(ThreeLayers):
        def forward(self, x_BCHW):
            return self.head(self.middle(1000 * self.first(x_BCHW)).mean((2, 3)))

    net, x_BCHW = Amplifier(), torch.full((1, 1, 8, 8), 0.9)
    net.first.bias.data = -(net.first.weight.data * 0.9).sum((1, 2, 3))
    likeness = BFloat16().likeness(net, x_BCHW).model
    with torch.no_grad():
        moved_BK = likeness(x_BCHW + 1 / 4096) - likeness(x_BCHW)
        exact_BK = net(x_BCHW + 1 / 4096) - net(x_BCHW)
    torch.testing.assert_close(
        moved_BK, exact_BK, rtol=0.05, atol=0.05 * float(exact_BK.abs().max())
    )


def test_tf32_is_allowed_while_the_attack_searches_and_not_while_the_network_decides():
    seen = {"search": set(), "judge": set()}

    class Watched(TinyNet):
        role = "judge"

        def forward(self, x_BCHW):
            seen[self.role].add(torch.backends.cuda.matmul.allow_tf32)
            return super().forward(x_BCHW)

    judge, searcher = Watched(), Watched()
    searcher.role = "search"
    x_BCHW = images()
    with torch.no_grad():
        logits_BK = judge(x_BCHW)
    batch = Batch(x_BCHW, logits_BK.argmax(1), torch.arange(len(x_BCHW)), logits_BK)
    search = TF32().likeness(searcher, x_BCHW)
    PGD(steps=2)(judge, batch, Threat(EPS), seed=0, passes=Passes(), search=search)
    assert seen == {"search": {True}, "judge": {False}}
    assert not torch.backends.cuda.matmul.allow_tf32


def short():
    return cascade("aa", APGDCE(iterations=6), APGDT(iterations=3))


@pytest.mark.parametrize("attacks", ["fgsm,pgd,cw", "targeted", [short()]])
def test_verdicts_and_margins_are_those_of_the_network_itself(attacks, tmp_path):
    net = ThreeLayers()
    data = data_of(net, 60)
    out = tmp_path / "run"
    run = score(net, data, attacks, EPS, search_precision="bf16", out=out, save_adv=True)
    said = run.manifest["search"]
    assert said["precision"] == "bf16"
    assert said["agreement"]["bf16"]["images"] == 60
    assert run.manifest["precision"]["search"] == "bf16"
    assert circumstances(run.manifest)["precision of searches"] == "bf16"
    checked = 0
    for file in (out / "adversarial").glob("*.npz"):
        rows = run.of(file.stem)
        with np.load(file) as saved:
            x_RCHW = torch.from_numpy(saved[next(k for k in saved.files if saved[k].ndim == 4)])
        with torch.no_grad():
            logits_RK = net(x_RCHW)
        label_R1 = torch.from_numpy(rows["label"].to_numpy().copy()).unsqueeze(1)
        others_RK = logits_RK.scatter(1, label_R1, -torch.inf)
        margin_R = logits_RK.gather(1, label_R1).squeeze(1) - others_RK.amax(1)
        np.testing.assert_allclose(rows["margin"], margin_R, atol=1e-5)
        checked += 1
    assert checked == (3 if attacks == "fgsm,pgd,cw" else 1)


def in_bfloat16_twice_as_fast(monkeypatch, *, slower: bool = False) -> None:
    """A device that has bfloat16, where passes take the time that we say."""
    monkeypatch.setattr(BFloat16, "is_native", lambda self, device: True)
    lower, own = (2.0, 1.0) if slower else (1.0, 2.0)
    monkeypatch.setattr(
        likenesses,
        "_seconds",
        lambda search, x_BCHW: lower if "Autocast" in type(search.model).__name__ else own,
    )


@pytest.mark.parametrize(("slower", "chosen"), [(False, "bf16"), (True, SINGLE)])
def test_auto_takes_the_faster_one_and_says_what_it_measured(slower, chosen, monkeypatch):
    in_bfloat16_twice_as_fast(monkeypatch, slower=slower)
    net = ThreeLayers()
    data = data_of(net, 200)
    run = score(net, data, "pgd", EPS)
    said = run.manifest["search"]
    assert said["precision"] == chosen
    assert said["seconds_per_image"] == (
        {"fp32": 1, "bf16": 2} if slower else {"fp32": 2, "bf16": 1}
    )
    assert "search" not in run.manifest["precision"], "earlier finished runs would be refused"
    named = score(net, data, "pgd", EPS, search_precision=chosen)
    pd.testing.assert_frame_equal(run.of("pgd"), named.of("pgd"))


def test_a_run_too_short_to_measure_searches_in_single_precision(monkeypatch):
    in_bfloat16_twice_as_fast(monkeypatch)
    run = score(ThreeLayers(), data_of(ThreeLayers(), 12), "fgsm", EPS)
    assert run.manifest["search"] == {"precision": SINGLE}


def test_a_continued_run_keeps_the_choice_that_it_began_with(tmp_path, monkeypatch):
    net = ThreeLayers()
    data = data_of(net, 300)
    in_bfloat16_twice_as_fast(monkeypatch)
    whole = score(net, data, "pgd,cw", EPS)
    with pytest.raises(Killed):
        score(net, data, "pgd,cw", EPS, out=tmp_path / "run", reporter=StopAfter(2))
    in_bfloat16_twice_as_fast(monkeypatch, slower=True)
    again = score(net, data, "pgd,cw", EPS, out=tmp_path / "run")
    assert again.manifest["search"]["precision"] == "bf16"
    pd.testing.assert_frame_equal(whole.table, again.table)
    single = score(net, data, "pgd,cw", EPS, search_precision=SINGLE)
    assert not single.table.equals(whole.table), "the two precisions must not come to the same here"


def test_a_network_that_is_another_one_in_lower_precision_is_searched_as_it_is(monkeypatch):
    class Delicate(ThreeLayers):
        """A difference that is small beside its terms decides."""

        def forward(self, x_BCHW):
            features = self.first(x_BCHW)
            far = torch.full_like(features, 1000.0)
            difference = self.middle(features + far) - self.middle(far)
            return self.head(difference.float().mean((2, 3)))

    class Unfit(ThreeLayers):
        """Does not take autocast."""

        def forward(self, x_BCHW):
            logits_BK = super().forward(x_BCHW)
            if torch.is_autocast_enabled("cpu") and bool(logits_BK.isfinite().all()):
                raise RuntimeError("no autocast here")
            return logits_BK

    notes = []

    class Reporter(StopAfter):
        def note(self, text):
            notes.append(text)

    for make in (Delicate, Unfit):
        notes.clear()
        net = make()
        data = data_of(net, 60)
        run = score(net, data, "pgd", EPS, search_precision="bf16", reporter=Reporter(1000))
        assert run.manifest["search"]["precision"] == SINGLE
        assert any("cannot be searched in bf16" in note for note in notes)
        single = score(net, data, "pgd", EPS, search_precision=SINGLE)
        pd.testing.assert_frame_equal(run.of("pgd"), single.of("pgd"))


def test_the_network_and_its_likenesses_do_not_share_what_changes():
    net, x_BCHW = TinyNet(num_classes=10).eval(), images(64)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with torch.no_grad():
        made = Likenesses(net, x_BCHW, net(x_BCHW), fold=True)
    assert made.get("bf16") is made.get("bf16")
    assert made.get("bf16").model is not net
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(parameter.dtype == torch.float32 for parameter in net.parameters())


def test_names_of_precisions_are_those_of_the_option():
    assert set(SEARCH_PRECISIONS) == {AUTO, SINGLE, *PRECISIONS}
    with pytest.raises(UserError, match=r"--search-precision is 'bf61'.*bf16"):
        EvalConfig(search_precision="bf61")
    with pytest.raises(UserError, match="exclude each other"):
        EvalConfig(precision="float64", search_precision="bf16")


@pytest.mark.parametrize("search", [APGDCE(iterations=10), FABT(iterations=10), Square(queries=60)])
def test_what_a_likeness_gets_right_by_less_than_its_rounding_is_shown_to_the_network(search):
    net, off = TinyNet(num_classes=4).eval(), 0.5
    x_BCHW = images(300)
    with torch.no_grad():
        logits_BK = net(x_BCHW)
    batch = Batch(x_BCHW, logits_BK.argmax(1), torch.arange(len(x_BCHW)), logits_BK)

    class Optimist(nn.Module):
        """Sees the class of the clean image where the network just does not."""

        def forward(self, x_BCHW):
            logits_BK = net(x_BCHW)
            first, second = logits_BK.topk(2, dim=1).indices.unbind(1)
            swap = logits_BK.gather(1, first[:, None]) - logits_BK.gather(1, second[:, None]) < off
            return logits_BK.scatter_add(1, second[:, None], off * swap)

    def broken(slack):
        verdicts = SearchAttack(search)(
            net, batch, Threat("0.03"), seed=0, passes=Passes(),
            search=SearchNetwork(Optimist(), slack=slack),
        )  # fmt: skip
        return int((verdicts.adv_pred_R != batch.labels_B).sum())

    assert broken(slack=off) > broken(slack=0)
