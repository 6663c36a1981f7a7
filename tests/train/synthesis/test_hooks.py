"""Methods of one's own: a temperature by epoch, several teachers, generator terms weighed anew."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from ferd_eval.attacks import Batch, frozen
from ferd_eval.models import build_architecture
from ferd_train.losses.base import PGDLossRecipe
from ferd_train.losses.divergence import kl
from ferd_train.losses.kl_pgd import KLPGD
from ferd_train.losses.registry import LOSSES
from ferd_train.losses.rslad import RSLADRecipe
from ferd_train.losses.two_terms import TwoTerms, TwoTermsRecipe
from ferd_train.synthesis import METHODS
from ferd_train.synthesis.base import Setting, Synthesis, SynthesisRecipe, Synthetic
from ferd_train.synthesis.components.bottleneck import Bottleneck
from ferd_train.synthesis.components.generator_losses import GeneratorObjective
from ferd_train.training.process_group import WHOLE, BatchShard
from ferd_train.training.seeds import Randomness
from tests.train.student_runs import (
    bank,
    figures,
    teacher_of,
    tiny,
    train,
    weights,
    write_teacher,
)

pytestmark = pytest.mark.usefixtures("same_code")


class Cooling(TwoTerms):
    """KL at a temperature that falls from epoch to epoch."""

    def __init__(self) -> None:
        super().__init__(RSLADRecipe(), KLPGD(2, None))
        self.temperatures: list[float] = []

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        self.temperatures.append(1 + epochs - epoch)

    def __call__(
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: BatchShard = WHOLE
    ) -> Tensor:
        tau = self.temperatures[-1]
        return tau**2 * kl(batch.clean_logits_BK / tau, student(adv_BCHW) / tau).mean()


class Agreeing(TwoTerms):
    """Two teachers; only what their gradients agree on in sign is followed."""

    def __init__(self, second: nn.Module) -> None:
        super().__init__(RSLADRecipe(), KLPGD(2, None))
        self._second = second

    def backward(
        self, student: nn.Module, batch: Batch, adv_BCHW: Tensor, share: BatchShard = WHOLE
    ) -> Tensor:
        student_BK = student(adv_BCHW)
        targets = [batch.clean_logits_BK, self._second(batch.x_BCHW)]
        losses = [kl(target_BK, student_BK).mean() for target_BK in targets]
        parameters = list(student.parameters())
        both = [torch.autograd.grad(loss, parameters, retain_graph=True) for loss in losses]
        for parameter, first, second in zip(parameters, *both, strict=True):
            parameter.grad = torch.where(first * second > 0, first + second, 0)
        return (losses[0] + losses[1]).detach()


def run_with(objective: TwoTerms, monkeypatch, teacher: Path, out: Path) -> Path:
    @dataclass(frozen=True)
    class OwnRecipe(PGDLossRecipe):
        name: str = field(default="own", init=False)

        def build(self, num_classes: int) -> TwoTerms:
            return objective

    monkeypatch.setitem(LOSSES, "own", OwnRecipe)  # type: ignore[arg-type]
    train(tiny(loss__name="own"), teacher, out)
    return out


def test_a_method_and_a_loss_are_a_line_each_in_their_registry(monkeypatch, teacher_file, tmp_path):
    @dataclass(frozen=True)
    class GreyRecipe(SynthesisRecipe):
        method: str = field(default="grey", init=False)
        level: float = 0.5

        def build(self, setting: Setting) -> Synthesis:
            return Grey(self, setting)

    class Grey(Synthesis):
        def __init__(self, recipe: GreyRecipe, setting: Setting) -> None:
            super().__init__(setting)
            self.level = recipe.level

        def make(self, labels_B: Tensor, randomness: Randomness) -> Synthetic:
            x_BCHW = torch.full((len(labels_B), *self.setting.image_shape), self.level)
            return Synthetic(x_BCHW, labels_B, x_BCHW, 0.0, {}, 1)

    @dataclass(frozen=True)
    class HardRecipe(TwoTermsRecipe):
        name: str = field(default="hard", init=False)

    monkeypatch.setitem(METHODS, "grey", GreyRecipe)  # type: ignore[arg-type]
    monkeypatch.setitem(LOSSES, "hard", HardRecipe)  # type: ignore[arg-type]
    short = {"epochs": 1, "warmup": 0, "distillation__steps": 1}
    recipe = tiny(synthesis__method="grey", synthesis__level=0.25, loss__name="hard", **short)
    train(recipe, teacher_file, tmp_path / "run")
    assert {*bank(tmp_path / "run")["images.u8"]} == {64}
    assert figures(tmp_path / "run")[0]["student_loss"] > 0
    assert recipe.reweighting.strategy == "uniform"  # implied


def test_a_loss_is_told_the_epoch(monkeypatch, teacher_file, tmp_path):
    objective = Cooling()
    run_with(objective, monkeypatch, teacher_file, tmp_path / "run")
    assert objective.temperatures == [2, 1]  # three epochs, of which the first is warm-up


def test_gradients_of_several_teachers_may_be_combined(monkeypatch, teacher_file, tmp_path):
    second = write_teacher(tmp_path / "second.safetensors", seed=5)
    other = teacher_of(second).classifier
    out = run_with(Agreeing(other), monkeypatch, teacher_file, tmp_path / "two")
    same = run_with(
        Agreeing(teacher_of(teacher_file).classifier), monkeypatch, teacher_file, tmp_path / "one"
    )
    ours, theirs = weights(out), weights(same)
    assert all(bool(tensor.isfinite().all()) for tensor in ours.values())
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


def test_what_is_left_with_the_parameters_is_what_is_followed(teacher_file):
    teacher = teacher_of(teacher_file).classifier
    student = build_architecture("resnet8-w2", num_classes=3, in_channels=1).build().eval()
    x_BCHW = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with frozen(teacher):
        batch = Batch(x_BCHW, torch.zeros(4).long(), torch.arange(4), teacher(x_BCHW))
    objective = TwoTerms(RSLADRecipe(clean_weight=5 / 6, adversarial_weight=1 / 6), KLPGD(2, None))
    loss = objective.backward(student, batch, x_BCHW)
    assert not loss.requires_grad
    expected = kl(batch.clean_logits_BK, student(x_BCHW)).mean()
    gradients = torch.autograd.grad(expected, list(student.parameters()))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for parameter, gradient in zip(student.parameters(), gradients, strict=True):
        assert torch.allclose(parameter.grad, gradient, atol=1e-6)


def test_generator_terms_may_be_weighed_by_what_they_are(teacher_file):
    """Each term made to count the same; the weights are constants."""
    teacher = teacher_of(teacher_file).classifier
    student = build_architecture("resnet8-w2", num_classes=3, in_channels=1).build()
    constant = {"adv": 1.0, "bn": 5.0, "oh": 1.0, "uni": 0.0}
    x_BCHW = torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels_B = torch.tensor([0, 1, 2, 0])

    def scored(weigher):
        objective = GeneratorObjective(
            teacher, student, constant, bottleneck=Bottleneck(), weigher=weigher
        )
        with frozen(teacher), frozen(student):
            loss, terms = objective(x_BCHW, labels_B, torch.Generator())
        return loss, terms, torch.autograd.grad(loss, x_BCHW)[0]

    asked: list[set[str]] = []

    def evenly(terms):
        asked.append({*terms})
        assert not any(term.requires_grad for term in terms.values())
        return {name: 1 / term.abs() for name, term in terms.items()}

    loss, terms, gradient = scored(evenly)
    signs = [float(torch.sign(term)) for term in terms.values()]
    assert asked == [{"adv", "bn", "oh"}]
    assert loss.item() == pytest.approx(sum(signs), rel=1e-5)
    by_hand = sum(
        scored(lambda seen, name=name: {n: float(n == name) for n in seen})[2] / value.abs()
        for name, value in terms.items()
    )
    assert torch.allclose(gradient, by_hand, rtol=1e-3, atol=1e-7)
