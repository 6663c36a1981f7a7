"""Networks that clamp their input are attacked as if they did not, on every version of torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from ferd_eval import score
from ferd_eval.attacks import CW, FGSM, PGD, Batch, Passes, Threat, frozen, losses
from ferd_eval.attacks.adapters.base import WrappedModel
from ferd_eval.attacks.pixel_bounds import DISTANCES, distance_inside, inside
from ferd_eval.evaluation.diagnostics import diagnose
from ferd_eval.metrics import trust_panel
from ferd_eval.metrics.sanity.network_checks import network_checks
from tests.conftest import TinyNet, tiny_data

SHAPE = (1, 8, 8)


class HardClamp(torch.autograd.Function):
    """Clamps to [low, high] with no gradient at either bound, as torch 2.14 does with scalars."""

    @staticmethod
    def forward(context, x, low, high):
        context.save_for_backward((x > low) & (x < high))
        return x.clamp(low, high)

    @staticmethod
    def backward(context, gradient):
        return gradient * context.saved_tensors[0], None, None


def clamp(x, low=0.0, high=1.0):
    return HardClamp.apply(x, low, high)


class Guarded(nn.Module):
    """A network behind something done to its images."""

    def __init__(self, guard, network=None):
        super().__init__()
        self.network, self.guard = network or TinyNet(), guard

    def forward(self, x_BCHW):
        return self.network(self.guard(x_BCHW))


def black_and_white(n=60, share=0.6):
    """Images of which most pixels are exactly 0 or 1; the network is right on nearly all."""
    data = tiny_data(n)
    generator = np.random.default_rng(1)
    pixels = data.images_NCHW.copy()
    extreme = generator.random(pixels.shape) < share
    pixels[extreme] = np.where(pixels[extreme] < 128, 0, 255)
    with torch.no_grad():
        labels = TinyNet().eval()(torch.from_numpy(pixels).float() / 255).argmax(1).numpy()
    return type(data)(**{**vars(data), "images_NCHW": pixels, "labels_N": labels.astype(np.int64)})


def distance_of(network) -> float:
    with frozen(network.eval()):
        return distance_inside(network, torch.zeros(1, *SHAPE), Passes())


GUARDS = {
    "both ends": clamp,
    "0 only": lambda x: clamp(x, 0.0, float("inf")),
    "1 only": lambda x: clamp(x, -float("inf"), 1.0),
    "hardtanh": lambda x: nn.functional.hardtanh(2 * x - 1) / 2 + 0.5,
    "two rectifiers": lambda x: 1 - torch.relu(1 - torch.relu(x)),
    "pixels of 255": lambda x: clamp(255 * x, 0.0, 255.0) / 255,
    "minimum and maximum": lambda x: torch.minimum(
        torch.maximum(x, torch.zeros_like(x)), torch.ones_like(x)
    ),
}


@pytest.mark.parametrize("guard", GUARDS.values(), ids=GUARDS)
def test_guards_that_cut_the_gradient_are_found(guard):
    assert distance_of(Guarded(guard)) == DISTANCES[0]


def test_networks_of_low_precision_are_looked_at_further_inside():
    assert distance_of(Guarded(lambda x: clamp(x.half()).float())) == DISTANCES[1]
    assert distance_of(Guarded(lambda x: clamp(x.bfloat16()).float())) == DISTANCES[2]


PLAIN = {
    "nothing": lambda x: x,
    "a wider range": lambda x: clamp(x, -0.1, 1.1),
    "a narrower range, flat beyond it": lambda x: clamp(x, 0.05, 0.95),
    "noise": lambda x: x + 0.1 * torch.randn_like(x),
    "dropout": lambda x: nn.functional.dropout(x, 0.5, training=True),
    "rounding": lambda x: x + ((255 * x).round() / 255 - x).detach(),
    "no gradient at all": lambda x: x * 0.0,
}


@pytest.mark.parametrize("guard", PLAIN.values(), ids=PLAIN)
def test_other_networks_are_left_alone(guard):
    state = torch.random.get_rng_state()
    assert distance_of(Guarded(guard)) == 0
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_plain_network_is_given_the_images_themselves():
    x_BCHW = torch.rand(3, *SHAPE).round()
    assert inside(x_BCHW, 0.0) is x_BCHW


def test_inside_moves_the_ends_alone_and_hands_gradients_through():
    x_BCHW = torch.tensor([0.0, 1e-9, 0.5, 1.0]).view(1, 1, 1, 4).requires_grad_()
    moved_BCHW = inside(x_BCHW, 2.0**-10)
    assert moved_BCHW.flatten().tolist() == [2.0**-10, 2.0**-10, 0.5, 1 - 2.0**-10]
    moved_BCHW.sum().backward()
    assert x_BCHW.grad.flatten().tolist() == [1.0] * 4


def verdicts(attack, network, data):
    x_BCHW = torch.from_numpy(data.images_NCHW).float() / 255
    with torch.no_grad():
        logits_BK = network(x_BCHW)
    batch = Batch(
        x_BCHW, torch.from_numpy(data.labels_N), torch.from_numpy(data.indices_N), logits_BK
    )
    return attack(network, batch, Threat("0.06"), seed=0, passes=Passes())


@pytest.mark.parametrize("attack", [FGSM(), PGD(steps=5), CW(steps=5)], ids=lambda a: a.family)
def test_a_clamp_protects_from_no_attack(attack):
    data = black_and_white()
    plain = verdicts(attack, TinyNet().eval(), data)
    guarded = verdicts(attack, Guarded(clamp).eval(), data)
    fell = plain.adv_pred_R != torch.from_numpy(data.labels_N)
    assert 0.2 < fell.float().mean() < 1
    # On images in [0, 1] both networks are the same function.
    assert torch.equal(guarded.adv_pred_R, plain.adv_pred_R)
    torch.testing.assert_close(guarded.margin_R, plain.margin_R, rtol=1e-3, atol=1e-3)


def test_a_whole_run_finds_as_much_and_says_why():
    data = black_and_white(80)
    attacks = "clean,fgsm,apgd-t,fab-t"
    plain, guarded = (
        score(network.eval(), data, attacks=attacks, threat="0.03", device="cpu")
        for network in (TinyNet(), Guarded(clamp))
    )
    for attack in attacks.split(","):
        right = [run.of(attack)["correct"].tolist() for run in (plain, guarded)]
        assert right[0] == right[1], attack
    checks = {check.name: check for check in trust_panel(guarded).checks}
    assert checks["Gradients at 0 and 1"].status == "warning"
    assert "just inside the pixel range" in checks["Gradients at 0 and 1"].statement
    assert guarded.manifest["diagnosis"]["gradients_at_bounds"]["distance"] == DISTANCES[0]
    checks = {check.name: check for check in trust_panel(plain).checks}
    assert checks["Gradients at 0 and 1"].status == "ok"


def test_the_check_counts_pixels_at_the_bounds_by_class():
    data = black_and_white()
    at_0, at_1 = data.images_NCHW == 0, data.images_NCHW == 255
    options = {"seed": 0, "batch_size": 16, "device": torch.device("cpu")}

    def of(network):
        return diagnose(network.eval(), data, Threat("0.06"), **options)

    found = of(Guarded(clamp))["gradients_at_bounds"]
    for name, where in (("at_0", at_0), ("at_1", at_1)):
        by_class = [int(where[data.labels_N == k].sum()) for k in range(4)]
        assert found[name]["n_by_class"] == by_class
        # The others of the network's own: none of TinyNet's pixels is without a gradient.
        assert found[name]["count_by_class"] == by_class
    assert found["elsewhere"]["n"] == int((~at_0 & ~at_1).sum())
    assert found["elsewhere"]["count"] == 0
    plain = of(TinyNet())["gradients_at_bounds"]
    assert [plain[name]["count"] for name in ("at_0", "at_1", "elsewhere")] == [0, 0, 0]


def test_a_clamp_in_one_class_only_is_named():
    tally = {"n": 4000, "count": 500, "n_by_class": [1000] * 4, "count_by_class": [0, 500, 0, 0]}
    none = {**tally, "count": 0, "count_by_class": [0] * 4}
    measured = {"distance": 0.0, "at_0": tally, "at_1": none, "elsewhere": none}
    checks = network_checks({"gradients_at_bounds": measured}, ("a", "b", "c", "d"))
    check = next(check for check in checks if check.name == "Gradients at 0 and 1")
    assert (check.status, check.classes) == ("warning", ("b",))
    assert "overstate robustness" in check.statement


def test_other_peoples_attacks_get_the_gradient_too():
    data = black_and_white(8)
    x_BCHW = torch.from_numpy(data.images_NCHW).float() / 255
    labels_B = torch.from_numpy(data.labels_N)
    gradients = []
    for network in (TinyNet().eval(), Guarded(clamp).eval()):

        class Problem:
            model, passes = network, Passes()

        Problem.x_BCHW = x_BCHW
        leaf_BCHW = x_BCHW.clone().requires_grad_()
        with frozen(network):
            value = losses.margin(WrappedModel(Problem)(leaf_BCHW), labels_B).sum()
            gradients.append(torch.autograd.grad(value, leaf_BCHW)[0])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
