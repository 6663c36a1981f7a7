"""The attack inside training: KL-PGD's start, gradient and walk; what it leaves untouched."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from ferd_eval.attacks import Batch, Passes, Problem, Threat
from ferd_train.adversarial_training.trainer import Training
from ferd_train.losses.kl_pgd import KLPGD
from tests.conftest import TinyNet

EPS, STEP, STEPS = Fraction(1, 10), Fraction(3, 100), 4


def batch_of(network: nn.Module, x: torch.Tensor) -> Batch:
    with torch.no_grad():
        logits = network(x)
    return Batch(x, torch.zeros(len(x), dtype=torch.int64), torch.arange(len(x)), logits)


def problem_of(network: nn.Module, x: torch.Tensor) -> Problem:
    """The problem that the base hands to the attack."""
    seen: list[Problem] = []

    class Recorder(KLPGD):
        def perturb(self, problem: Problem) -> torch.Tensor:
            seen.append(problem)
            return problem.x_BCHW

    Recorder().examples(network, batch_of(network, x), Threat(EPS), seed=0, passes=Passes())
    return seen[0]


def images(n: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=dtype)


def divergence(clean_logits: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Σ_k p_k log(p_k / q_k) of each image."""
    p, q = clean_logits.softmax(1), logits.softmax(1)
    return (p * (p / q).log()).sum(1)


def test_objective_is_the_divergence_and_its_gradient_that_of_the_formula():
    network, x = TinyNet().double().eval(), images(6)
    problem = problem_of(network, x)
    adv = (x + 0.05).clamp(0, 1).requires_grad_()
    expected = divergence(network(x).detach(), network(adv))
    (gradient,) = torch.autograd.grad(expected.sum(), adv)
    objective = KLPGD().objective(problem)
    torch.testing.assert_close(objective(network(adv)), expected)
    torch.testing.assert_close(problem.gradient(adv.detach(), objective), gradient)


def test_gradient_in_the_logits_is_q_minus_p():
    """∂KL(p ‖ softmax z)/∂z = softmax z − p, the closed form."""
    problem = problem_of(TinyNet().double().eval(), images(5))
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(KLPGD().objective(problem)(logits).sum(), logits)
    expected = logits.softmax(1) - problem.clean_logits_BK.softmax(1)
    torch.testing.assert_close(gradient, expected.detach())


def test_start_is_a_gaussian_of_scale_a_thousandth():
    x = torch.full((200, 1, 8, 8), 0.5, dtype=torch.float64)
    offsets = (KLPGD().start(problem_of(TinyNet().double().eval(), x)) - x).flatten().numpy()
    assert stats.kstest(offsets / 0.001, "norm").pvalue > 0.001
    assert abs(offsets.std() / 0.001 - 1) < 0.02


def test_start_stays_in_the_pixel_range():
    x = torch.zeros(20, 1, 8, 8).index_fill(0, torch.arange(10), 1.0)
    start = KLPGD().start(problem_of(TinyNet().eval(), x))
    assert 0 <= start.min() < start.max() <= 1


def test_walk_is_that_of_algorithm_1():
    """Start, signed steps of the KL gradient, projection to the ball and the range, in a loop."""
    network, x = TinyNet().double().eval(), images(6)
    problem = problem_of(network, x)
    adv = KLPGD().start(problem)
    for _ in range(STEPS):
        leaf = adv.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(
            divergence(problem.clean_logits_BK, network(leaf)).sum(), leaf
        )
        adv = adv + float(STEP) * gradient.sign()
        adv = torch.min(torch.max(adv, x - float(EPS)), x + float(EPS)).clamp(0, 1)
    attack = KLPGD(STEPS, STEP)
    ours = attack.examples(network, batch_of(network, x), Threat(EPS), seed=0, passes=Passes())
    torch.testing.assert_close(ours, adv)


@pytest.mark.parametrize(("loss", "train_passes"), [("pgd-at", 1), ("trades", 2)])
def test_inner_attack_runs_in_eval_mode_and_moves_no_statistics(
    loss, train_passes, tiny, striped, cpu
):
    """Only the training passes move the batch-norm statistics, and they all do."""
    training = Training(tiny.with_changes({"loss": loss}), striped, cpu.device)
    seen: dict[nn.Module, list[tuple[bool, float]]] = {}

    def note(module: nn.Module, _: object) -> None:
        if isinstance(module, nn.BatchNorm2d):
            seen.setdefault(module, []).append((module.training, float(module.running_mean.sum())))

    handle = register_module_forward_pre_hook(note)
    try:
        training.epoch()
    finally:
        handle.remove()
    trained = {module: calls for module, calls in seen.items() if any(mode for mode, _ in calls)}
    assert len(trained) == 3
    # Three classes of 20 less 4, in batches of 16: 3 steps of a clean pass, 2 attack passes, then
    # the training ones. Before the first attack two images, one at a time and at four
    # distances from the bounds, show whether the network clamps.
    step = [False] * (1 + tiny.inner_steps) + [True] * train_passes
    for calls in trained.values():
        assert [mode for mode, _ in calls] == [False] * 8 + step * 3
        for (mode, before), (_, after) in zip(calls, calls[1:], strict=False):
            assert (before != after) == mode
    for module in seen.keys() - trained.keys():  # the average, which only validation runs
        assert len({mean for _, mean in seen[module]}) == 1
