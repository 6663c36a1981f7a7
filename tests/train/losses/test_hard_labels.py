"""DFHL's own loss: strong augmentation, high-entropy examples, and the class the teacher sees."""

from __future__ import annotations

import copy
import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms import functional as vision

from ferd_eval.attacks import Batch, KeyedRng, Threat, frozen
from ferd_eval.errors import UserError
from ferd_eval.models import build_architecture
from ferd_train.config.recipe import flat
from ferd_train.losses.dfhl import (
    DFHLLossRecipe,
    HardLabels,
    HighEntropy,
    entropy,
    middle,
    rotated,
    strong_augmentation,
)
from ferd_train.recipes import find_student_recipe
from tests.train.student_runs import figures, outcome, same_weights, teacher_of, tiny, train

pytestmark = pytest.mark.usefixtures("same_code")

THREAT = Threat(Fraction(8, 255))


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def networks(teacher_file) -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        student = build_architecture("resnet8-w2", num_classes=3, in_channels=1).build()
    return teacher_of(teacher_file).classifier, student


def batch_of(teacher: nn.Module, x_BCHW: Tensor) -> Batch:
    with frozen(teacher), torch.no_grad():
        logits_BK = teacher(x_BCHW)
    return Batch(x_BCHW, torch.zeros(len(x_BCHW)).long(), torch.arange(len(x_BCHW)), logits_BK)


SIZES = [(8, 8), (28, 28), (32, 32), (64, 64), (32, 48)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shares", [(0.95, 0.97), (0.999, 0.95), (1.0, 1.0)])
def test_the_middle_is_torchvisions(size, shares):
    x_BCHW = images(2, 3, *size)
    crop = [int(side * share) for side, share in zip(size, shares, strict=True)]
    expected = vision.resize(vision.center_crop(x_BCHW, crop), list(size))
    torch.testing.assert_close(middle(x_BCHW, *shares), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("degrees", [-15, 0, 15])
def test_the_rotation_is_torchvisions(size, degrees):
    x_BCHW = images(2, 3, *size)
    expected = vision.rotate(x_BCHW, degrees)
    # Where a pixel's centre falls between two, either may be nearest.
    assert float((rotated(x_BCHW, degrees) != expected).double().mean()) < 0.01
    if degrees:
        assert float(expected[0, 0, 0, 0]) == 0  # black comes in


@pytest.mark.parametrize("size", SIZES)
def test_strong_augmentation_keeps_shape_and_range_at_any_size(size):
    x_BCHW = images(4, 1, *size).round()  # black and white, so that noise would leave the range
    for seed in range(4):
        strong = strong_augmentation(x_BCHW, seed, torch.arange(4))
        assert strong.shape == x_BCHW.shape
        assert float(strong.min()) == 0
        assert 0.9 < float(strong.max()) <= 1


def test_one_draw_for_the_batch_and_noise_for_each_image():
    x_BCHW = images(1, 1, 32, 32).mul(0.8).add(0.1).expand(5, -1, -1, -1)
    strong = strong_augmentation(x_BCHW, 7, torch.arange(5))
    apart = (strong[1:] - strong[:1]).flatten()
    assert 0 < float(apart.abs().max()) < 0.01
    inside = apart[apart != 0]
    # The difference of two N(0, 0.001²).
    assert float(inside.std()) == pytest.approx(0.001 * math.sqrt(2), rel=0.1)
    # A process with some of the rows makes the same of them.
    part = strong_augmentation(x_BCHW[2:], 7, torch.arange(2, 5))
    assert torch.equal(part, strong[2:])


def test_draws_are_spread_as_they_should_be():
    """Each way of mirroring and turning comes about in its share of 600 draws."""
    down, across = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    x_1HW = ((4 * down + across) / 155)[None]
    ways = {
        (axes, degrees): vision.rotate(x_1HW.flip(axes), degrees)
        for axes in ((), (1,), (2,), (1, 2))
        for degrees in (-15, 0, 15)
    }
    seen = dict.fromkeys(ways, 0)
    for seed in range(600):
        strong_1HW = strong_augmentation(x_1HW[None], seed, torch.zeros(1).long())[0]
        apart = {way: float((strong_1HW - each).abs().mean()) for way, each in ways.items()}
        nearest = min(apart, key=lambda way: apart[way])
        assert apart[nearest] < 0.03
        seen[nearest] += 1
    # Binomial(600, 1/12): mean 50, spread 6.8.
    assert all(25 < count < 75 for count in seen.values()), seen


def test_crops_leave_95_percent_or_more_of_either_side():
    """Seen by the corner that the middle begins with, in an image that is as bright as far in."""
    down, across = torch.meshgrid(torch.arange(100.0), torch.arange(100.0), indexing="ij")
    x_BCHW = torch.stack([down, across])[:, None] / 99
    begins = set()
    for seed in range(400):
        strong = strong_augmentation(x_BCHW, seed, torch.arange(2))
        centre = strong[:, 0, 50, 50]
        low = (strong[0, 0].amin(1).min(), strong[1, 0].amin(0).min())
        if float(low[0]) > 0.006 and float(centre[0]) > 0:  # not turned, so no black came in
            begins.add((round(float(low[0]) * 99), round(float(low[1]) * 99)))
    assert {each for pair in begins for each in pair} <= {0, 1, 2, 3}
    assert any(top != left for top, left in begins)  # height and width are drawn apart


def test_entropy_is_the_formulas():
    logits = 3 * torch.randn(5, 4, generator=torch.Generator().manual_seed(0)).double()
    expected = [-sum(p * math.log(p) for p in row) for row in logits.softmax(1).tolist()]
    assert entropy(logits).tolist() == pytest.approx(expected)
    assert bool(entropy(torch.tensor([[500.0, 0.0, -500.0]])).isfinite().all())


def test_the_examples_are_a_walk_up_the_students_entropy_in_the_pixel_range(networks):
    teacher, student = networks
    x_BCHW = images(6, 1, 8, 8)
    objective = HardLabels(HighEntropy(4, Fraction(3, 100)))
    adv_BCHW = objective.examples(teacher, student.train(), batch_of(teacher, x_BCHW), THREAT, 5)
    strong = strong_augmentation(x_BCHW, 5, torch.arange(6))
    noise = KeyedRng(5, "hee", torch.arange(6)).normal((1, 8, 8), torch.float32)
    moved = (strong + 0.001 * noise).clamp(0, 1)
    student.eval()
    for _ in range(4):
        leaf = moved.detach().requires_grad_()
        p = student(leaf).softmax(1)
        (gradient,) = torch.autograd.grad(-(p * p.log()).sum(), leaf)
        moved = (moved + 0.03 * gradient.sign()).clamp(0, 1)
    assert float((adv_BCHW - moved).abs().gt(1e-5).double().mean()) < 0.01  # signs of rounding
    assert 0 <= float(adv_BCHW.min()) <= float(adv_BCHW.max()) <= 1
    far = float((adv_BCHW - strong).abs().max())
    assert far > 2.5 * float(THREAT.eps)  # no ball
    assert far <= 4 * 0.03 + 0.01
    with torch.no_grad():
        assert bool(
            (entropy(student(adv_BCHW)) > entropy(student(strong)))[:].double().mean() > 0.9
        )


class Answers(nn.Module):
    """Class 1 where an image is bright in the middle, else class 0: no two inputs are mixed up."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Tensor] = []

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.asked.append(x_BCHW)
        bright_B = x_BCHW[:, 0, 3:5, 3:5].mean((1, 2))
        return torch.stack([torch.zeros_like(bright_B), bright_B - 0.5, bright_B - 9], dim=1)


def test_the_loss_is_cross_entropy_to_what_the_teacher_sees_in_the_examples(networks):
    _, student = networks
    teacher = Answers()
    x_BCHW = images(16, 1, 8, 8)
    objective = HardLabels(HighEntropy(10, Fraction(3, 100)))
    batch = batch_of(teacher, x_BCHW)
    adv_BCHW = objective.examples(teacher, student, batch, THREAT, 1)
    assert len(teacher.asked) == 2
    assert torch.equal(teacher.asked[1], adv_BCHW)
    on_clean, on_examples = teacher(x_BCHW).argmax(1), teacher(adv_BCHW).argmax(1)
    assert not torch.equal(on_clean, on_examples)  # the case tells one from the other
    student.train()
    loss = objective(copy.deepcopy(student), batch, adv_BCHW)
    p = copy.deepcopy(student)(adv_BCHW).double().softmax(1).tolist()
    expected = -sum(math.log(row[k]) for row, k in zip(p, on_examples.tolist(), strict=True)) / 16
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    # One forward pass: the student is not taught on the images themselves.
    passes: list[Tensor] = []
    student.register_forward_pre_hook(lambda module, inputs: passes.append(inputs[0]))
    objective.backward(student, batch, adv_BCHW)
    assert len(passes) == 1
    assert passes[0] is adv_BCHW
    assert all(float(p.grad.abs().max()) > 0 for p in student.linear.parameters())


def test_networks_are_as_before(networks):
    teacher, student = networks
    student.train()
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    objective = DFHLLossRecipe(steps=2).build(3)
    batch = batch_of(teacher, images(4, 1, 8, 8))
    with frozen(teacher):  # as in the loop
        adv_BCHW = objective.examples(teacher, student, batch, THREAT, 1)
    assert not adv_BCHW.requires_grad
    for network, state in zip(networks, before, strict=True):
        assert all(torch.equal(each, state[name]) for name, each in network.state_dict().items())
    assert all(module.training for module in student.modules())
    assert not any(module.training for module in teacher.modules())


def test_the_teachers_answer_belongs_to_the_examples(networks):
    teacher, student = networks
    objective = DFHLLossRecipe(steps=1).build(3)
    batch = batch_of(teacher, images(4, 1, 8, 8))
    with pytest.raises(AssertionError, match="examples come first"):
        objective(student, batch, batch.x_BCHW)
    objective.examples(teacher, student, batch, THREAT, 1)
    with pytest.raises(AssertionError, match="other examples"):
        objective(student, batch, batch.x_BCHW)


def test_a_run_with_hard_labels_continues_to_the_bit(teacher_file, tmp_path):
    recipe = tiny(loss__name="dfhl", loss__steps=2, epochs=4)

    class Stop(Exception):  # noqa: N818
        pass

    def watch(log, epochs):
        if log.epoch == 2:
            raise Stop

    with pytest.raises(Stop):
        train(recipe, teacher_file, tmp_path / "run", watch=watch)
    train(recipe, teacher_file, tmp_path / "run")
    train(recipe, teacher_file, tmp_path / "whole")
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")
    assert figures(tmp_path / "run")[-1]["student_loss"] > 0
    train(tiny(loss__name="rslad", epochs=4), teacher_file, tmp_path / "soft")
    assert not same_weights(tmp_path / "run", tmp_path / "soft")


def test_the_loss_brings_its_own_walk():
    """Hard labels are no attack within a ball, so no other loss's steps are taken over."""
    lab = find_student_recipe("ferd-lab")
    made = lab.with_changes({"loss.name": "dfhl"})
    assert made.loss == DFHLLossRecipe()
    assert {name: value for name, value in flat(made).items() if name.startswith("loss.")} == {
        "loss.name": "dfhl",
        "loss.steps": 10,
        "loss.step_size": "0.03",
    }
    with pytest.raises(UserError, match="loss: steps is 0; give 1 or more"):
        made.with_changes({"loss.steps": 0})
