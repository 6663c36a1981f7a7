"""Class weights against equations 1 and 2 in loops, and every strategy against its formula."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from ferd_eval.attacks import PGD, Threat
from ferd_eval.errors import UserError
from ferd_train.synthesis.class_sampling import (
    ATTACK,
    STRATEGIES,
    InverseAccuracy,
    MinMaxOfCleanLosses,
    MinMaxOfMargins,
    SoftmaxOfCleanLosses,
    SoftmaxOfLosses,
    SoftmaxOfMargins,
    Uniform,
    attacked_logits,
    capped,
    class_vulnerability,
    draw_labels,
    margins,
)
from tests.conftest import TinyNet

B = 40
CLASSES = pytest.mark.parametrize("num_classes", [2, 10, 100])


def logits_and_labels(num_classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(B, num_classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, num_classes, (B,), generator=generator)


def softmax(values: list[float]) -> list[float]:
    exponentials = [math.exp(value) for value in values]
    return [value / sum(exponentials) for value in exponentials]


def reference_margin(row: list[float], label: int) -> float:
    return row[label] - max(value for j, value in enumerate(row) if j != label)


@CLASSES
@pytest.mark.parametrize("unit", ["logits", "probabilities"])
def test_margin_is_equation_1(num_classes, unit):
    logits, labels = logits_and_labels(num_classes)
    rows = logits.tolist() if unit == "logits" else [softmax(row) for row in logits.tolist()]
    expected = [reference_margin(row, y) for row, y in zip(rows, labels.tolist(), strict=True)]
    np.testing.assert_allclose(margins(logits, labels, unit), expected, rtol=1e-9)


@CLASSES
@pytest.mark.parametrize("smoothing", [0.0, 0.25])
def test_vulnerability_is_equation_2_and_absent_classes_keep_theirs(num_classes, smoothing):
    logits, labels = logits_and_labels(num_classes)
    labels = labels.clamp(max=num_classes - 2) if num_classes > 2 else labels
    last = torch.linspace(-1, 1, num_classes, dtype=torch.float64)
    value = SoftmaxOfMargins().vulnerability(logits, labels)
    ours = class_vulnerability(value, labels, last, smoothing)
    for c in range(num_classes):
        own = [i for i in range(B) if labels[i] == c]
        expected = last[c].item()
        if own:
            mean = sum(-reference_margin(logits[i].tolist(), c) for i in own) / len(own)
            expected = smoothing * expected + (1 - smoothing) * mean
        assert ours[c].item() == pytest.approx(expected, rel=1e-12), c
    if num_classes > 2:
        assert ours[-1] == last[-1]


@CLASSES
def test_weights_of_every_strategy_are_its_formula(num_classes):
    d = torch.linspace(-2, 1, num_classes, dtype=torch.float64).flip(0)
    shares = [0.05 + 0.15 * (v + 2) / 3 for v in d.tolist()]
    wrong = torch.linspace(0, 1, num_classes, dtype=torch.float64)
    inverse = [1 / max(0.05, 1 - v) for v in wrong.tolist()]
    uniform = [1 / num_classes] * num_classes
    for strategy, values, expected in (
        (SoftmaxOfMargins(), d, softmax(d.tolist())),
        (SoftmaxOfMargins(2.5), d, softmax([v / 2.5 for v in d.tolist()])),
        (MinMaxOfMargins(), d, [v / sum(shares) for v in shares]),
        (MinMaxOfMargins(), torch.full_like(d, 3.0), uniform),
        (Uniform(), d, uniform),
        (InverseAccuracy(), wrong, [v / sum(inverse) for v in inverse]),
        (SoftmaxOfLosses(0.5), d, softmax([v / 0.5 for v in d.tolist()])),
        (SoftmaxOfCleanLosses(0.5), d, softmax([v / 0.5 for v in d.tolist()])),
        (MinMaxOfCleanLosses(), d, [v / sum(shares) for v in shares]),
    ):
        weights = strategy.weights(values)
        np.testing.assert_allclose(weights, expected, rtol=1e-12)
        assert weights.sum().item() == pytest.approx(1)


@CLASSES
def test_values_of_the_other_strategies(num_classes):
    logits, labels = logits_and_labels(num_classes)
    fooled = [
        float(row.index(max(row)) != y)
        for row, y in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    entropy = [-math.log(softmax(logits[i].tolist())[labels[i]]) for i in range(B)]
    assert InverseAccuracy().vulnerability(logits, labels).tolist() == fooled
    for strategy in (SoftmaxOfLosses(), SoftmaxOfCleanLosses(), MinMaxOfCleanLosses()):
        np.testing.assert_allclose(strategy.vulnerability(logits, labels), entropy)
    assert not Uniform().vulnerability(logits, labels).any()


@pytest.mark.parametrize("ratio", [1.5, 4.0, 1e6])
@CLASSES
def test_a_cap_bounds_the_ratio_and_keeps_order_and_sum(num_classes, ratio):
    weights = torch.softmax(torch.linspace(-4, 1, num_classes, dtype=torch.float64), dim=0)
    ours = capped(weights, ratio)
    assert ours.sum().item() == pytest.approx(1)
    expected = min(ratio, math.exp(5))
    assert (ours.max() / ours.min()).item() == pytest.approx(expected)
    assert torch.equal(ours.argsort(), weights.argsort())
    # The same amount is added to all, so that differences keep their proportions.
    gaps, own = ours.diff(), weights.diff()
    np.testing.assert_allclose(gaps / gaps.sum(), own / own.sum())
    assert capped(weights, 0) is weights
    even = torch.full_like(weights, 1 / num_classes)
    assert capped(even, ratio) is even


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "uniform"])
def test_the_most_vulnerable_class_is_asked_for_most(name):
    """Class 2's images are lost, class 0's are safe."""
    logits = torch.tensor([[9.0, 0, 0], [8.0, 0, 0], [0, 1.0, 0], [0, 0.4, 0.5], [5.0, 0, 0]])
    labels, strategy = torch.tensor([0, 0, 1, 1, 2]), STRATEGIES[name]()
    d = class_vulnerability(strategy.vulnerability(logits, labels), labels, torch.zeros(3))
    weights = strategy.weights(d).tolist()
    assert weights[0] < weights[1] < weights[2]


def test_logits_are_those_after_pgd_20_from_a_uniform_start():
    """The walk written out, from the start that the attack draws."""
    network = TinyNet().double().eval()
    x = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    labels, eps = torch.arange(6) % 4, 8 / 255
    assert (ATTACK.steps, ATTACK.step_size) == (20, Fraction(2, 255))
    starts: list[torch.Tensor] = []

    class Recorder(PGD):
        def start(self, problem):
            starts.append(super().start(problem))
            return starts[-1]

    recorder = Recorder(steps=20, step_size=Fraction(2, 255))
    arguments = {"threat": Threat("8/255"), "seed": 3}
    ours = attacked_logits(network, x, labels, **arguments)
    assert torch.equal(attacked_logits(network, x, labels, attack=recorder, **arguments), ours)
    adv = starts[0]
    assert 0.9 * eps < (adv - x).abs().max() <= eps
    for _ in range(20):
        leaf = adv.clone().requires_grad_()
        value = nn.functional.cross_entropy(network(leaf), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(value, leaf)
        adv = torch.min(torch.max(adv + 2 / 255 * gradient.sign(), x - eps), x + eps).clamp(0, 1)
    torch.testing.assert_close(ours, network(adv).detach())


def test_the_teacher_stays_as_it_is_and_the_seed_decides():
    network = TinyNet().train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    x, labels = torch.rand(6, 1, 8, 8), torch.arange(6) % 4
    one, same, other = (
        attacked_logits(
            network, x, labels, threat=Threat("8/255"), seed=seed, attack=PGD(1, Fraction(1, 999))
        )
        for seed in (0, 0, 1)
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not one.requires_grad
    assert all(module.training for module in network.modules())
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


def test_labels_are_drawn_with_the_weights():
    weights = torch.tensor([0.1, 0.6, 0.3, 0.0], dtype=torch.float64)
    labels = draw_labels(weights, 20_000, torch.Generator().manual_seed(0))
    counts = np.bincount(labels, minlength=4)
    assert counts[3] == 0
    assert stats.chisquare(counts[:3], 20_000 * weights[:3].numpy()).pvalue > 0.001
    again = draw_labels(weights, 20_000, torch.Generator().manual_seed(0))
    assert torch.equal(labels, again)


def test_the_papers_weight_of_0_314_needs_logits():
    """One class of ten at 0.314 with probabilities: a gap of 1.4 in D, of 2 that there can be."""
    gap = math.log(0.314 / (0.686 / 9))
    d = torch.zeros(10).index_fill(0, torch.tensor(3), gap)
    assert SoftmaxOfMargins().weights(d)[3].item() == pytest.approx(0.314)
    extreme = torch.full((10,), -1.0).index_fill(0, torch.tensor(3), 1.0)
    assert SoftmaxOfMargins().weights(extreme)[3].item() == pytest.approx(0.451, abs=0.001)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SoftmaxOfMargins(0.0), "temperature is 0.0; give 0 < temperature"),
        (lambda: SoftmaxOfMargins(unit="logit"), "no unit is called 'logit'. Did you mean"),
        (lambda: MinMaxOfMargins(0.3, 0.2), "low and high are 0.3 and 0.2; give 0 < low <= high."),
        (lambda: MinMaxOfMargins(unit="p"), "no unit is called 'p'. There are: logits"),
        (lambda: InverseAccuracy(0.0), "floor is 0.0; give 0 < floor <= 1."),
        (lambda: SoftmaxOfLosses(-1.0), "temperature is -1.0; give 0 < temperature"),
    ],
)
def test_wrong_constants_are_named(make, message):
    with pytest.raises(UserError) as error:
        make()
    assert str(error.value).startswith(message)
