"""L_gen against equations 7 to 9 from the whole networks; what each switch does; what stays."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from ferd_eval.attacks import frozen
from ferd_eval.errors import UserError
from ferd_eval.models import build_architecture
from ferd_train.synthesis.components.bottleneck import PAPER, RELEASE, Bottleneck
from ferd_train.synthesis.components.feature_layer import split
from ferd_train.synthesis.components.generator_losses import (
    GeneratorObjective,
    minus_decoupled_kl,
    minus_kl,
)
from ferd_train.synthesis.methods.ferd import FERDRecipe
from tests.conftest import TinyNet

B, SIDE = 4, 8
# As far in eight steps as the usual one goes in fifty, so that the mask lets some channels through.
QUICK = Bottleneck(steps=8, lr=0.5)
WEIGHTS = {"adv": 1.0, "bn": 5.0, "oh": 1.0, "uni": 5.0}
NONE = dict.fromkeys(WEIGHTS, 0.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network_of(arch: str, num_classes: int, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = build_architecture(arch, num_classes=num_classes).build().double()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
    return network.eval().requires_grad_(False)


def setting(num_classes: int = 10) -> tuple[nn.Module, nn.Module, torch.Tensor, torch.Tensor]:
    """Teacher, student, images and labels."""
    x = torch.rand(B, 3, SIDE, SIDE, generator=generator(1), dtype=torch.float64)
    labels = torch.arange(B) % num_classes
    return network_of("resnet8", num_classes, 0), network_of("resnet8", num_classes, 1), x, labels


def softmax(row: torch.Tensor) -> list[float]:
    top = max(row.tolist())
    exponentials = [math.exp(value - top) for value in row.tolist()]
    return [value / sum(exponentials) for value in exponentials]


def reference_minus_kl(t: torch.Tensor, s: torch.Tensor) -> float:
    total = 0.0
    for i in range(len(t)):
        total += sum(a * math.log(a / b) for a, b in zip(softmax(t[i]), softmax(s[i]), strict=True))
    return -total / len(t)


def reference_minus_decoupled(t: torch.Tensor, s: torch.Tensor) -> float:
    total = 0.0
    for i in range(len(t)):
        w = softmax(t[i] / 100)
        for j in range(len(w)):
            for k in range(len(w)):
                gap = (t[i, j] - t[i, k]) - (s[i, j] - s[i, k])
                total += 0.25 * w[j] * w[k] * gap.item() ** 2
        total -= sum(a * math.log(b) for a, b in zip(softmax(t[i]), softmax(s[i]), strict=True))
    return -total / len(t)


def reference_bn(networks: list[nn.Module], x: torch.Tensor) -> float:
    """Inputs seen by hooks of the test's own; statistics by NumPy."""
    total: list[float] = []

    def note(bn: nn.Module, arguments: tuple[torch.Tensor]) -> None:
        values = arguments[0].numpy().transpose(1, 0, 2, 3).reshape(arguments[0].shape[1], -1)
        total.append(np.sqrt(((values.mean(1) - bn.running_mean.numpy()) ** 2).sum()))
        total.append(np.sqrt(((values.var(1) - bn.running_var.numpy()) ** 2).sum()))

    for network in networks:
        layers = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
        handles = [layer.register_forward_pre_hook(note) for layer in layers]
        network(x)
        for handle in handles:
            handle.remove()
    return sum(total)


def reference_uni(teacher: nn.Module, bottleneck: Bottleneck, x, labels, num_classes) -> float:
    halves = split(teacher)
    kept, _ = bottleneck.non_robust(halves.tail, halves.trunk(x), labels, generator())
    u = 1 / num_classes
    rows = halves.tail(kept)
    return sum(u * math.log(u / p) for row in rows for p in softmax(row)) / B


@pytest.mark.parametrize("num_classes", [2, 10, 100])
@pytest.mark.parametrize("variant", ["paper", "release"])
def test_terms_and_their_sum_are_the_equations(num_classes, variant):
    teacher, student, x, labels = setting(num_classes)
    bottleneck = replace(PAPER if variant == "paper" else RELEASE, steps=8, lr=0.5)
    weights = {"adv": 1.5, "bn": 0.5, "oh": 2.0, "uni": 3.0}
    objective = GeneratorObjective(
        teacher,
        student,
        weights,
        bottleneck=bottleneck,
        adversarial="kl" if variant == "paper" else "decoupled",
        match_student=variant == "paper",
    )
    loss, terms = objective(x, labels, generator())
    t, s = teacher(x), student(x)
    adversarial = reference_minus_kl if variant == "paper" else reference_minus_decoupled
    expected = {
        "adv": adversarial(t, s),
        "bn": reference_bn([teacher, student] if variant == "paper" else [teacher], x),
        "oh": -sum(math.log(softmax(t[i])[int(labels[i])]) for i in range(B)) / B,
        "uni": reference_uni(teacher, bottleneck, x, labels, num_classes),
    }
    halves = split(teacher)
    _, mask = bottleneck.non_robust(halves.tail, halves.trunk(x), labels, generator())
    masked = sum(map(sum, mask.tolist())) / mask.numel()
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(
        {**expected, "masked": masked}, rel=1e-9
    )
    total = sum(weights[name] * value for name, value in expected.items())
    assert loss.item() == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("adversarial", ["kl", "decoupled"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_a_term_has_a_gradient_when_on(name, adversarial):
    teacher, student, x, labels = setting()
    weights = {**NONE, name: 2.0}
    objective = GeneratorObjective(
        teacher, student, weights, bottleneck=QUICK, adversarial=adversarial
    )
    loss, terms = objective(x.requires_grad_(), labels, generator())
    assert list(terms) == [name, *["masked"] * (name == "uni")]
    (gradient,) = torch.autograd.grad(loss, x)
    assert gradient.isfinite().all()
    assert (gradient != 0).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_term_has_none_when_off(name):
    """Its share of the gradient is gone, and it is not computed."""
    teacher, student, x, labels = setting()
    x.requires_grad_()

    def gradient(weights: dict[str, float]) -> torch.Tensor:
        objective = GeneratorObjective(teacher, student, weights, bottleneck=QUICK)
        loss, terms = objective(x, labels, generator())
        assert (name in terms) == bool(weights[name])
        return torch.autograd.grad(loss, x)[0]

    alone, without = {**NONE, name: WEIGHTS[name]}, {**WEIGHTS, name: 0.0}
    torch.testing.assert_close(gradient(without) + gradient(alone), gradient(WEIGHTS))


def test_pairwise_term_of_the_release_is_alive_in_both_networks():
    t, s = (torch.randn(B, 5, generator=generator(i), dtype=torch.float64) for i in (1, 2))
    t.requires_grad_()
    s.requires_grad_()
    by_t, by_s = torch.autograd.grad(minus_decoupled_kl(t, s), (t, s))
    (kl_s,) = torch.autograd.grad(minus_kl(t, s), s)
    assert by_t.abs().max() > 1e-3
    # The cross-entropy has KL's gradient in the student's logits; what is left is the pairs'.
    assert (by_s - kl_s).abs().max() > 1e-3
    torch.testing.assert_close(by_t, -(by_s - kl_s))


def test_the_student_is_not_run_for_nothing():
    teacher, student, x, labels = setting()
    student.forward = None
    objective = GeneratorObjective(
        teacher,
        student,
        {**WEIGHTS, "adv": 0},
        bottleneck=QUICK,
        match_student=False,
    )
    assert set(objective(x, labels, generator())[1]) == {"bn", "oh", "uni", "masked"}


def test_the_trunk_runs_once():
    teacher, student, x, labels = setting()
    runs: list[str] = []
    for name, module in teacher.named_children():
        module.register_forward_hook(lambda *_, name=name: runs.append(name))
    GeneratorObjective(teacher, student, WEIGHTS, bottleneck=QUICK)(x, labels, generator())
    assert runs.count("conv1") == runs.count("layer3") == 1
    # The pass itself, the eight steps of the bottleneck, and its answer.
    assert runs.count("linear") == 1 + 8 + 1


def test_batch_norms_of_the_tail_are_counted_once():
    """A PreActResNet's last batch norm runs in every step of the bottleneck."""
    teacher, student = (network_of("preactresnet18", 10, seed) for seed in (0, 1))
    x = torch.rand(B, 3, 16, 16, generator=generator(), dtype=torch.float64)
    objective = GeneratorObjective(teacher, student, WEIGHTS, bottleneck=QUICK)
    terms = objective(x, torch.arange(B), generator())[1]
    assert terms["bn"].item() == pytest.approx(reference_bn([teacher, student], x))


def test_same_seed_same_gradient_and_networks_as_they_were():
    teacher, student, x, labels = setting()
    networks = [teacher.train().requires_grad_(True), student.train().requires_grad_(True)]
    before = [{k: v.clone() for k, v in n.state_dict().items()} for n in networks]
    objective = GeneratorObjective(teacher, student, WEIGHTS, bottleneck=QUICK)
    gradients = []
    for seed in (0, 0, 1):
        with frozen(teacher), frozen(student):
            leaf = x.clone().requires_grad_()
            total = objective(leaf, labels, generator(seed))[0]
            gradients.append(torch.autograd.grad(total, leaf)[0])
    assert torch.equal(gradients[0], gradients[1])
    assert not torch.equal(gradients[0], gradients[2])
    for network, state in zip(networks, before, strict=True):
        assert all(module.training for module in network.modules())
        assert all(p.grad is None for p in network.parameters())
        assert all(torch.equal(v, state[k]) for k, v in network.state_dict().items())


def test_an_unknown_family_serves_when_uniformity_is_off():
    teacher, student = TinyNet(seed=0).eval(), TinyNet(seed=1).eval()
    x, labels = torch.rand(3, 1, 8, 8), torch.tensor([0, 1, 2])
    weights = {**WEIGHTS, "uni": 0}
    objective = GeneratorObjective(teacher, student, weights, bottleneck=QUICK)
    assert set(objective(x, labels, generator())[1]) == {"adv", "bn", "oh"}
    with pytest.raises(UserError, match="lambda_uni=0"):
        GeneratorObjective(teacher, student, WEIGHTS, bottleneck=QUICK)


def test_a_network_without_batch_norm_serves_when_matching_is_off():
    teacher = nn.Sequential(nn.Flatten(1), nn.Linear(192, 4))
    weights = {**WEIGHTS, "uni": 0, "bn": 0}
    objective = GeneratorObjective(teacher, teacher, weights, bottleneck=QUICK)
    assert set(objective(torch.rand(2, 3, 8, 8), torch.tensor([0, 1]), generator())[1]) == {
        "adv",
        "oh",
    }
    with pytest.raises(UserError, match="lambda_bn=0"):
        GeneratorObjective(teacher, teacher, {**weights, "bn": 1}, bottleneck=QUICK)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (NONE, "lambda_adv, lambda_bn, lambda_oh, lambda_uni are all 0"),
        ({"oh": -1.0}, r"lambda_oh is -1\.0; give 0 <= lambda_oh"),
        ({"uni": float("nan")}, "lambda_uni is nan"),
    ],
)
def test_wrong_weights_are_named(weights, message):
    with pytest.raises(UserError, match=message):
        FERDRecipe(**{f"lambda_{name}": value for name, value in weights.items()})


def test_an_unknown_adversarial_term_is_named():
    teacher, student, _, _ = setting()
    with pytest.raises(UserError, match=r"called 'dkl'.*kl"):
        GeneratorObjective(teacher, student, WEIGHTS, bottleneck=QUICK, adversarial="dkl")
