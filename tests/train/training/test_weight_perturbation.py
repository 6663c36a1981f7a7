"""The perturbed gradient against plain torch; what is put back, and what is counted once."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from ferd_eval.attacks import Batch, Threat, frozen
from ferd_eval.errors import UserError
from ferd_train.distillation.plan import measure_epoch
from ferd_train.distillation.run import ShownImages
from ferd_train.distillation.trainer import StudentTraining
from ferd_train.losses.class_aware import ClassTally
from ferd_train.losses.two_terms import TwoTerms
from ferd_train.training.weight_perturbation import perturbed_weights
from tests.conftest import TinyNet
from tests.train.student_runs import CPU, TINY, figures, same_weights, teacher_of, tiny, train

pytestmark = pytest.mark.usefixtures("same_code")

B, K = 6, 3
STEPS = {"epochs": 2, "warmup": 0, "loss__name": "rslad", "batch_size": B}
GAMMA = 0.2


def graded() -> nn.Module:
    """A network in train mode with a gradient, but none of its last layer's."""
    network = TinyNet(num_classes=K).train()
    x = torch.rand(B, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network(x).logsumexp(1).sum().backward()
    network.linear.weight.grad = None
    return network


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in network.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> set[str]:
    return {name for name in a if torch.equal(a[name], b[name])}


def test_a_weight_moves_along_its_gradient_by_a_share_of_its_norm():
    network = graded()
    before, slope = snapshot(network), network.conv.weight.grad.clone()
    with perturbed_weights(network, 0.3):
        after = snapshot(network)
    moved = (after["conv.weight"] - before["conv.weight"]).flatten().double()
    slope, weight = (x.flatten().double() for x in (slope, before["conv.weight"]))
    assert float(moved.square().sum().sqrt()) == pytest.approx(
        0.3 * float(weight.square().sum().sqrt()), rel=1e-5
    )
    assert float(torch.cosine_similarity(moved, slope, dim=0)) == pytest.approx(1, abs=1e-6)
    assert {*before} - same(before, after) == {"conv.weight"}  # of no vector, and of no other


def test_a_weight_without_slope_stays():
    network = graded()
    network.conv.weight.grad.zero_()
    before = snapshot(network)
    with perturbed_weights(network, 1e6):
        assert same(before, snapshot(network)) == {*before}


def test_everything_is_put_back_to_the_bit_also_after_an_error():
    network, tally = graded(), ClassTally(K)
    tally.add(torch.ones(B, 1), torch.arange(B) % K)
    before = snapshot(network)

    def work() -> None:
        with perturbed_weights(network, 0.37, [tally]):
            network.zero_grad()
            network(torch.rand(B, 1, 8, 8)).sum().backward()
            tally.add(torch.full((B, 1), 9.0), torch.zeros(B, dtype=torch.int64))
            assert {"conv.weight", "bn.running_mean", "bn.num_batches_tracked"} <= (
                {*before} - same(before, snapshot(network))
            )
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert same(before, snapshot(network)) == {*before}
    assert network.linear.weight.grad.abs().sum() > 0  # what the block left
    mean, _ = tally.take()
    assert mean.flatten().tolist() == [1.0] * K


class Twisted(TwoTerms):
    """The objective of the recipe, whose `backward` leaves a multiple of the gradient."""

    def __init__(self, loss, factor: float) -> None:
        super().__init__(loss)
        self.factor = factor

    def backward(self, student, batch, adv_BCHW, share):
        loss = super().backward(student, batch, adv_BCHW, share)
        for parameter in student.parameters():
            parameter.grad.mul_(self.factor)
        return loss


def training_of(teacher, **changes) -> StudentTraining:
    return StudentTraining(tiny(**STEPS, **changes), teacher_of(teacher), CPU.device)


def batch_for(training: StudentTraining) -> Batch:
    x = torch.rand(B, 1, 8, 8, generator=torch.Generator().manual_seed(3))
    x = x.contiguous(memory_format=torch.channels_last)
    with frozen(training._still_teacher), torch.no_grad():
        return Batch(x, torch.arange(B) % K, torch.arange(B), training._still_teacher(x))


def reference_step(training: StudentTraining, batch: Batch, seed: int, gamma: float, factor: float):
    """Weights after a step of SGD at the rate of the recipe, in plain torch; and the buffers."""
    recipe, student = training.recipe, deepcopy(training.student)
    with frozen(training._still_teacher), frozen(training._still_student):
        adv = training._objective.examples(
            training._still_teacher, training._still_student, batch, Threat(recipe.eps), seed
        )
    student.train()
    target = batch.clean_logits_BK.softmax(1)
    own = {name: each.detach().clone() for name, each in student.named_parameters()}

    def slopes(weights: dict[str, Tensor], buffers: dict[str, Tensor]) -> dict[str, Tensor]:
        leaves = {name: each.clone().requires_grad_() for name, each in weights.items()}
        loss = 0
        for share, x in ((1 / 6, batch.x_BCHW), (5 / 6, adv)):
            logits = functional_call(student, {**leaves, **buffers}, (x,))
            loss -= share * (target * logits.log_softmax(1)).sum(1).mean()
        found = torch.autograd.grad(loss, [*leaves.values()])
        return {name: factor * each for name, each in zip(leaves, found, strict=True)}

    buffers = {name: each.clone() for name, each in student.named_buffers()}
    first = slopes(own, buffers)
    there = {
        name: weight + gamma * first[name] * weight.norm() / first[name].norm()
        if weight.ndim > 1
        else weight
        for name, weight in own.items()
    }
    second = slopes(there, {name: each.clone() for name, each in buffers.items()})
    rate, decay = recipe.distillation.lr, recipe.distillation.weight_decay
    return {n: w - rate * (second[n] + decay * w) for n, w in own.items()}, buffers


@pytest.mark.parametrize("factor", [1.0, -0.5])
@pytest.mark.parametrize("gamma", [0.02, GAMMA])
def test_a_step_is_that_of_plain_torch(gamma, factor, teacher_file):
    training = training_of(teacher_file, distillation__awp=gamma, distillation__awp_from=0)
    training._objective = Twisted(training.recipe.loss, factor)
    batch = batch_for(training)
    training._still_student.refresh()
    weights, buffers = reference_step(training, batch, 7, gamma, factor)
    plain, _ = reference_step(training, batch, 7, 0.0, factor)
    training._step(batch, 7)
    for name, parameter in training.student.named_parameters():
        torch.testing.assert_close(parameter.detach(), weights[name], rtol=1e-4, atol=2e-6)
    for name, buffer in training.student.named_buffers():
        torch.testing.assert_close(buffer, buffers[name], rtol=1e-5, atol=1e-6)
        if name.endswith("tracked"):
            assert int(buffer) == 2  # clean images and attacked ones, once each
    # The case tells: without the perturbation the step goes elsewhere.
    assert max(float((weights[n] - plain[n]).abs().max()) for n in weights) > 1e-4


@pytest.mark.parametrize("loss", ["absld", "dafa", "fair-ard"])
def test_images_are_tallied_once_and_as_the_unmoved_student_sees_them(loss, teacher_file):
    tallies = []
    for gamma in (0.0, GAMMA):
        training = training_of(teacher_file, distillation__awp=gamma, distillation__awp_from=0)
        training._objective = training.recipe.with_changes({"loss.name": loss}).loss.build(K)
        training._objective.begin_epoch(1, 2)
        training._step(batch_for(training), 7)
        tallies += [each.state_dict() for each in training._objective.tallies().values()]
    without, with_it = tallies
    assert without["count"].tolist() == [B / K] * K
    assert same(without, with_it) == {"sum", "count"}


LONG = {"epochs": 5, "warmup": 1, "distillation__steps": 2, "loss__name": "igdm"}


def test_it_acts_from_its_epoch_on_and_is_nothing_when_off(teacher_file, tmp_path):
    changes = {
        "plain": {},
        "off": {"distillation__awp": 0, "distillation__awp_from": 0},
        "late": {"distillation__awp": GAMMA, "distillation__awp_from": 0.99},
        "half": {"distillation__awp": GAMMA},
    }
    for name, each in changes.items():
        train(tiny(**LONG, **each), teacher_file, tmp_path / name)
    logs = {name: figures(tmp_path / name) for name in changes}
    assert same_weights(tmp_path / "plain", tmp_path / "off")
    assert logs["plain"] == logs["off"]
    for name, first in (("half", 3), ("late", 5)):
        acts = [a != b for a, b in zip(logs["plain"], logs[name], strict=True)]
        assert acts == [epoch >= first for epoch in range(1, 6)]
        assert not same_weights(tmp_path / "plain", tmp_path / name)


@pytest.mark.parametrize("gamma", [0.0, GAMMA])
def test_a_plan_counts_its_passes(gamma, teacher_file, monkeypatch):
    """Though it measures the first epoch, which may go without."""
    asked: list[float] = []

    def noted(network, size, tallies):
        asked.append(size)
        return perturbed_weights(network, size, tallies)

    monkeypatch.setattr("ferd_train.distillation.trainer.perturbed_weights", noted)
    recipe = tiny(**LONG, distillation__awp=gamma)
    measure_epoch(recipe, teacher_of(teacher_file), ShownImages(None, None), CPU)
    assert {*asked} == ({gamma} if gamma else set())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"awp": -1}, "distillation: awp is -1.0; give 0 <= awp < 1e30."),
        ({"awp_from": 1}, "distillation: awp_from is 1.0; give 0 <= awp_from < 1."),
    ],
)
def test_wrong_constants_are_named(changes, message):
    with pytest.raises(UserError) as error:
        TINY.with_changes({f"distillation.{name}": each for name, each in changes.items()})
    assert str(error.value) == message
