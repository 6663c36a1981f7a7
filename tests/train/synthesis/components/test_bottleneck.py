"""The bottleneck against equations 4 to 6 written out in loops, both readings of each."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ferd_eval.errors import UserError
from ferd_eval.models import build_architecture
from ferd_train.synthesis.components.bottleneck import PAPER, RELEASE, Bottleneck
from ferd_train.synthesis.components.feature_layer import split

B, C, H, W = 3, 4, 2, 3
READINGS = [pytest.param(PAPER, id="paper"), pytest.param(RELEASE, id="release")]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tail_of(num_classes: int) -> nn.Sequential:
    """A ReLU, pooling and a linear layer, double precision."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        linear = nn.Linear(C, num_classes).double()
    return nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(1), linear)


def features(num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    z = torch.randn(B, C, H, W, generator=generator(1), dtype=torch.float64)
    z = z * torch.tensor([0.1, 0.5, 1.0, 2.0])[None, :, None, None]
    return z, torch.arange(B) % num_classes


def variance_of(z: np.ndarray, b: int, k: int) -> float:
    mean = sum(z[b, k].flat) / (H * W)
    return sum((value - mean) ** 2 for value in z[b, k].flat) / (H * W) + 1e-10


def draw(reading: Bottleneck, source: torch.Generator) -> np.ndarray:
    """ε as B×C×H×W numbers: independent, or one for each channel."""
    if reading is PAPER:
        return torch.randn(B, C, H, W, generator=source, dtype=torch.float64).numpy()
    per_channel = torch.randn(B, C, 1, 1, generator=source, dtype=torch.float64).numpy()
    return np.broadcast_to(per_channel, (B, C, H, W))


def reference_objective(reading, weight, bias, z, label, b, raw, noise) -> float:
    """Equation 5 of one sample, number by number."""
    scale = [math.log(1 + math.exp(r)) for r in raw]
    pooled = [
        sum(max(0.0, v + scale[k] * e) for v, e in zip(z[b, k].flat, noise[b, k].flat, strict=True))
        / (H * W)
        for k in range(C)
    ]
    logits = [sum(w * p for w, p in zip(row, pooled, strict=True)) for row in weight]
    logits = [logit + c for logit, c in zip(logits, bias, strict=True)]
    ce = math.log(sum(math.exp(logit) for logit in logits)) - logits[label]
    terms = []
    for k in range(C):
        v = variance_of(z, b, k)
        terms.append(v / scale[k] ** 2 + math.log(scale[k] ** 2 / v) - 1)
    joined = sum(terms) if reading is PAPER else 0.5 * sum(terms) / C
    return ce + reading.beta * joined


def reference_noise_scale(reading, tail, z, labels, source, steps) -> np.ndarray:
    """Adam (Kingma & Ba 2015, algorithm 1) with central differences, sample by sample."""
    weight, bias = (p.detach().numpy() for p in (tail[-1].weight, tail[-1].bias))
    raw, m, v = np.zeros((B, C)), np.zeros((B, C)), np.zeros((B, C))
    for t in range(1, steps + 1):
        noise = draw(reading, source)
        for b in range(B):
            gradient = np.zeros(C)
            for k in range(C):
                sides = []
                for h in (1e-5, -1e-5):
                    moved = raw[b].copy()
                    moved[k] += h
                    sides.append(
                        reference_objective(
                            reading, weight, bias, z, int(labels[b]), b, moved, noise
                        )
                    )
                gradient[k] = (sides[0] - sides[1]) / 2e-5
            m[b] = 0.9 * m[b] + 0.1 * gradient
            v[b] = 0.999 * v[b] + 0.001 * gradient**2
            raw[b] -= 0.1 * (m[b] / (1 - 0.9**t)) / (np.sqrt(v[b] / (1 - 0.999**t)) + 1e-8)
    return raw


def reference_mask(reading, raw, z) -> np.ndarray:
    variances = np.array([[variance_of(z, b, k) for k in range(C)] for b in range(B)])
    mask = np.zeros((B, C), dtype=bool)
    for b in range(B):
        for k in range(C):
            if reading is PAPER:
                mask[b, k] = raw[b, k] ** 2 < max(variances[b])
            else:
                mask[b, k] = math.log(1 + math.exp(raw[b, k])) ** 2 < variances.max()
    return mask


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_slope_is_that_of_equation_5(reading, num_classes):
    """Central differences of the loops above, channel by channel."""
    tail, (z, labels) = tail_of(num_classes), features(num_classes)
    raw = torch.randn(B, C, generator=generator(3), dtype=torch.float64)
    noise = torch.from_numpy(draw(reading, generator(4)).copy())
    drawn = noise if reading is PAPER else noise[:, :, :1, :1]
    ours = reading.slope(tail, z, labels, raw, drawn, reading.variance(z))
    weight, bias = (p.detach().numpy() for p in (tail[-1].weight, tail[-1].bias))
    for b, k in np.ndindex(B, C):
        sides = []
        for h in (1e-6, -1e-6):
            moved = raw[b].tolist()
            moved[k] += h
            sides.append(
                reference_objective(
                    reading, weight, bias, z.numpy(), int(labels[b]), b, moved, noise.numpy()
                )
            )
        expected = (sides[0] - sides[1]) / 2e-6
        assert ours[b, k].item() == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("reading", READINGS)
def test_noise_scale_is_that_of_adam_on_equation_5(reading):
    steps = 7
    tail, (z, labels) = tail_of(5), features(5)
    ours = replace(reading, steps=steps).noise_scale(tail, z, labels, generator(2))
    theirs = reference_noise_scale(reading, tail, z.numpy(), labels, generator(2), steps)
    np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-6)
    assert np.abs(theirs).min() > 0.01


@pytest.mark.parametrize("reading", READINGS)
def test_mask_is_equation_6(reading):
    z, _ = features(5)
    raw = 4 * torch.randn(B, C, generator=generator(6), dtype=torch.float64)
    mask = reading.mask(raw, z)
    assert np.array_equal(mask.numpy(), reference_mask(reading, raw.numpy(), z.numpy()))
    assert 0 < mask.sum() < B * C


@pytest.mark.parametrize("factor", [0.25, 1.0])
def test_a_channel_can_be_compared_with_its_own_variance(factor):
    z, _ = features(5)
    raw = torch.randn(B, C, generator=generator(6), dtype=torch.float64)
    reading = Bottleneck(mask_maximum="channel", mask_factor=factor)
    mask, scale = reading.mask(raw, z), torch.nn.functional.softplus(raw)
    variance = z.var(dim=(2, 3), correction=0)
    for b in range(B):
        for k in range(C):
            assert mask[b, k] == (scale[b, k] ** 2 < factor * variance[b, k])
    assert 0 < mask.sum() < B * C


@pytest.mark.parametrize("share", [0.25, 0.5, 0.75])
def test_a_share_of_the_channels_can_be_masked(share):
    z, _ = features(5)
    raw = torch.randn(B, C, generator=generator(6), dtype=torch.float64)
    mask = Bottleneck(mask_share=share).mask(raw, z)
    ratio = torch.nn.functional.softplus(raw) ** 2 / z.var(dim=(2, 3), correction=0)
    for own, ratio_C in zip(mask, ratio.tolist(), strict=True):
        lowest = sorted(range(C), key=ratio_C.__getitem__)[: round(share * C)]
        assert own.nonzero().flatten().tolist() == sorted(lowest)


def test_at_its_minimum_equation_5_lets_equation_6_mask_every_channel_where_noise_hurts():
    """Why the mask of the paper tells no channels apart: λ_k² ≤ v_k ≤ max v.

    After a linear tail cross-entropy is convex in the features, so that noise always hurts.
    """
    z, labels = features(5)
    tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, 5)).double()
    reading = Bottleneck(steps=800, lr=0.02)
    raw = reading.noise_scale(tail, z, labels, generator())
    ratio = torch.nn.functional.softplus(raw) ** 2 / reading.variance(z)
    assert (ratio < 1.1).all()  # but for the noise of the last steps
    assert reading.mask(raw, z).double().mean() > 0.8


def test_readings_mask_differently():
    z, _ = features(5)
    raw = torch.full((B, C), -4.0, dtype=torch.float64)
    # λ = softplus(−4) = 0.018 bears no noise at all, yet (−4)² = 16 counts as much of it.
    assert not PAPER.mask(raw, z).any()
    assert RELEASE.mask(raw, z).all()


@pytest.mark.parametrize("reading", READINGS)
def test_regulariser_alone_leads_to_the_channels_own_variance(reading):
    """v/λ² + log(λ²/v) − 1 ≥ 0 is smallest at λ² = v."""
    z, labels = features(5)
    z = z / z.std(dim=(2, 3), keepdim=True, correction=0) * torch.rand(B, C, 1, 1).add(0.5)
    tail = tail_of(5)
    nn.init.zeros_(tail[-1].weight)
    raw = replace(reading, steps=600, lr=0.02).noise_scale(tail, z, labels, generator())
    scale = torch.nn.functional.softplus(raw)
    torch.testing.assert_close(scale.square(), reading.variance(z), rtol=1e-3, atol=0)


@pytest.mark.parametrize("reading", READINGS)
def test_a_sample_does_not_depend_on_its_neighbours(reading):
    """Its objective is its own: another class beside it changes nothing."""
    tail, (z, labels) = tail_of(5), features(5)
    others = labels.clone()
    others[1:] = (others[1:] + 1) % 5
    one, other = (reading.noise_scale(tail, z, y, generator()) for y in (labels, others))
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1:], other[1:])


@pytest.mark.parametrize("reading", READINGS)
def test_gradient_flows_through_the_features_and_the_mask_is_constant(reading):
    tail, (z, labels) = tail_of(5), features(5)
    z.requires_grad_()
    kept, told = reading.non_robust(tail, z, labels, generator())
    mask = reading.mask(reading.noise_scale(tail, z, labels, generator()), z)
    assert torch.equal(mask, told)
    assert torch.equal(kept.detach(), z.detach() * mask[:, :, None, None])
    (gradient,) = torch.autograd.grad(kept.sum(), z)
    assert torch.equal(gradient, mask[:, :, None, None].expand_as(z).double())


def test_one_noise_is_drawn_for_each_step():
    tail, (z, labels) = tail_of(5), features(5)
    source, expected = generator(), generator()
    Bottleneck(steps=9).noise_scale(tail, z, labels, source)
    for _ in range(9):
        torch.randn(B, C, H, W, generator=expected, dtype=torch.float64)
    assert torch.equal(source.get_state(), expected.get_state())


@pytest.mark.parametrize("reading", READINGS)
def test_same_seed_same_scale_and_another_seed_another(reading):
    tail, (z, labels) = tail_of(5), features(5)
    one, same, other = (reading.noise_scale(tail, z, labels, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_only_the_tail_runs_and_the_teacher_stays_as_it_is():
    network = build_architecture("preactresnet18", num_classes=10).build().train()
    halves, x = split(network), torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        z = halves.trunk(x)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    runs: list[str] = []
    for name, module in network.named_children():
        module.register_forward_hook(lambda *_, name=name: runs.append(name))
    Bottleneck(steps=3).noise_scale(halves.tail, z, torch.tensor([1, 2]), generator())
    assert runs == ["bn", "linear"] * 3
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_global_random_state_is_untouched():
    tail, (z, labels) = tail_of(5), features(5)
    before = torch.get_rng_state()
    Bottleneck().non_robust(tail, z, labels, generator())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": "elementwize"}, "no noise is called 'elementwize'. Did you mean elementwise?"),
        (
            {"mask_maximum": "all"},
            "no mask_maximum is called 'all'. There are: sample, batch, channel.",
        ),
        ({"steps": 0}, "steps is 0; give 1 or more."),
        ({"beta": -1.0}, "beta is -1.0; give 0 <= beta < 1e30."),
        ({"lr": float("nan")}, "lr is nan; give 0 < lr < 1e30."),
    ],
)
def test_wrong_constants_are_named(changes, message):
    with pytest.raises(UserError) as error:
        Bottleneck(**changes)
    assert str(error.value) == message


def test_features_without_positions_are_refused():
    with pytest.raises(UserError, match=r"1×1.*earlier feature layer"):
        Bottleneck().mask(torch.zeros(B, C), torch.rand(B, C, 1, 1))
