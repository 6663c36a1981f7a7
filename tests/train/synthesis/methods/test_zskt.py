"""ZSKT: the generator seeks disagreement, the student's images are new at every step."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from ferd_eval.errors import UserError
from ferd_eval.models import build_architecture
from ferd_train.distillation.trainer import StudentTraining
from ferd_train.recipes import find_student_recipe
from ferd_train.recipes.student import StudentRecipe
from ferd_train.synthesis.components.generator import Generator, usual_weights
from ferd_train.synthesis.methods.zskt import ZSKT
from ferd_train.training.seeds import Randomness
from tests.train.student_runs import CPU, figures, setting_of, teacher_of, tiny, train

pytestmark = pytest.mark.usefixtures("same_code")

SHAPE, BATCH = (1, 8, 8), 8
SMALL = {
    "synthesis__method": "zskt",
    "synthesis__latent": 8,
    "synthesis__width": 4,
    "synthesis__student_steps": 2,
    "reweighting__strategy": "uniform",
    "loss__name": "rslad",
}


def small(**changes) -> StudentRecipe:
    return tiny(**{**SMALL, **changes})


@pytest.fixture
def networks(teacher_file) -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        student = build_architecture("resnet8-w2", num_classes=3, in_channels=1).build()
    return teacher_of(teacher_file).classifier, student


def method(networks, **changes) -> ZSKT:
    recipe = small(**changes)
    return recipe.synthesis.build(setting_of(networks, recipe, BATCH))


def make(synthesis: ZSKT, epoch: int = 1):
    return synthesis.make(torch.zeros(BATCH).long(), Randomness(0, epoch))


def feed(synthesis: ZSKT, epoch: int = 1):
    return synthesis.feed(None, Randomness(0, epoch))


def generator_of(synthesis: ZSKT) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in synthesis.state()["generator"].items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a if "running" not in name)


def weights_of(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what batch normalisation keeps count of, which moves whenever images are made."""
    kept = ("running_mean", "running_var", "num_batches_tracked")
    return {name: each for name, each in state.items() if not name.endswith(kept)}


def divergence(teacher: nn.Module, student: nn.Module, x_BCHW: Tensor) -> float:
    """Mean of Σ p_T log(p_T / p_S), by hand."""
    with torch.no_grad():
        rows = zip(
            teacher.eval()(x_BCHW).double().softmax(1).tolist(),
            student.eval()(x_BCHW).double().softmax(1).tolist(),
            strict=True,
        )
        each = [sum(p * math.log(p / q) for p, q in zip(*row, strict=True)) for row in rows]
    return sum(each) / len(each)


def test_what_is_put_away_bears_the_loss_and_the_class_that_the_teacher_sees(networks):
    made = make(method(networks))
    teacher, student = networks
    expected = divergence(teacher, student, made.x_BCHW)
    assert expected > 0.01
    assert made.loss == pytest.approx(-expected, rel=1e-4)
    assert made.terms["adv"] == pytest.approx(-expected, rel=1e-4)
    assert torch.equal(made.labels_B, teacher(made.x_BCHW).argmax(1))
    assert made.step == 1
    assert made.x_BCHW.shape == (BATCH, *SHAPE)
    assert 0 < float(made.x_BCHW.min()) <= float(made.x_BCHW.max()) < 1


def test_the_generators_steps_are_adams_on_minus_the_divergence(networks):
    """Three of them, against a generator that is taught here, the student changing meanwhile."""
    synthesis, (teacher, student) = method(networks, synthesis__lr=0.01), networks
    reference = Generator(
        SHAPE, Randomness(0, 0).stream("generator"), latent=8, width=4, draw=usual_weights
    )
    adam = torch.optim.Adam(reference.parameters(), lr=0.01, betas=(0.5, 0.999))
    own = Randomness(0, 4).stream("latents of the generator")
    draw = feed(synthesis, epoch=4)
    for step in range(6):
        with torch.no_grad():
            student.linear.weight.mul_(1.1)
        draw(step)
        if step % 2 == 0:
            z = torch.randn(BATCH, 8, generator=own)
            x = reference(z)
            p, q = teacher(x).softmax(1), student.eval()(x).softmax(1)
            adam.zero_grad()
            (-(p * (p.log() - q.log())).sum(1).mean()).backward()
            adam.step()
        theirs = weights_of(generator_of(synthesis))
        for name, ours in weights_of(reference.state_dict()).items():
            torch.testing.assert_close(theirs[name], ours, rtol=1e-3, atol=1e-5, msg=name)


def test_the_generator_learns_before_every_kth_step(networks):
    synthesis = method(networks, synthesis__student_steps=3)
    draw, before = feed(synthesis), weights_of(generator_of(synthesis))
    moved = []
    for step in range(7):
        draw(step)
        after = weights_of(generator_of(synthesis))
        moved.append(not same(before, after))
        before = after
    assert moved == [True, False, False, True, False, False, True]


def test_the_generator_finds_more_disagreement_with_a_student_that_stands_still(networks):
    """It would stay at 0 if teacher and teacher were compared, as in public code."""
    synthesis = method(networks, synthesis__student_steps=1, synthesis__lr=0.02)
    before, draw = make(synthesis).loss, feed(synthesis)
    for step in range(30):
        draw(step)
    after = make(synthesis).loss
    assert before < -0.01
    assert after < 1.15 * before


def test_the_teacher_is_not_taken_for_the_student(networks):
    teacher, _ = networks
    with pytest.raises(AssertionError, match="the same network"):
        method((teacher, teacher))
    # A student that equals the teacher leaves nothing to find, and is no mistake.
    assert make(method((teacher, copy.deepcopy(teacher)))).loss == pytest.approx(0, abs=1e-6)


def test_each_step_has_new_images_as_they_were_made(networks):
    synthesis = method(networks, synthesis__student_steps=5, augmentation__crop_padding=3)
    teacher, _ = networks
    draw = feed(synthesis)
    drawn = [draw(step) for step in range(5)]
    for x_BCHW, labels_B in drawn:
        assert not x_BCHW.requires_grad
        assert torch.equal(labels_B, teacher(x_BCHW).argmax(1))
        assert float(x_BCHW.min()) > 0  # a crop would bring zeros in
    # The generator stood still from the first of them on.
    assert len({x_BCHW.numpy().tobytes() for x_BCHW, _ in drawn}) == 5
    again = feed(method(networks, synthesis__student_steps=5))
    assert torch.equal(again(0)[0], drawn[0][0])
    other = feed(method(networks, synthesis__student_steps=5), epoch=2)
    assert not torch.equal(other(0)[0], drawn[0][0])


def test_networks_are_as_before(networks):
    teacher, student = networks
    student.train()
    student.layer1.eval()  # modes may be mixed
    for parameter in student.parameters():
        parameter.grad = torch.full_like(parameter, 2.0)
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    modes = [module.training for network in networks for module in network.modules()]
    synthesis = method(networks)
    make(synthesis)
    draw = feed(synthesis)
    for step in range(3):
        draw(step)
    for network, state in zip(networks, before, strict=True):
        after = network.state_dict()
        assert all(torch.equal(after[name], state[name]) for name in state)
    assert modes == [module.training for network in networks for module in network.modules()]
    assert all(bool((parameter.grad == 2).all()) for parameter in student.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_the_generator_is_no_business_of_the_students_optimiser(teacher_file, tmp_path):
    training = StudentTraining(small(), teacher_of(teacher_file), CPU.device)
    students = {id(p) for group in training._optimizer.param_groups for p in group["params"]}
    own = [p for group in training._synthesis._adam.param_groups for p in group["params"]]
    assert students == {id(p) for p in training.student.parameters()}
    assert {id(p) for p in own} == {id(p) for p in training._synthesis._generator.parameters()}
    assert not students & {id(p) for p in own}
    training.begin(tmp_path / "bank")
    training.epoch()
    before = weights_of(generator_of(training._synthesis))
    training.epoch()
    assert not same(before, weights_of(generator_of(training._synthesis)))


def test_no_finite_loss_is_said(networks):
    _, student = networks
    with torch.no_grad():
        student.linear.bias.fill_(float("nan"))
    with pytest.raises(UserError, match=r"not finite .*\(adv nan\).*distillation\.lr") as caught:
        make(method(networks))
    assert "\n" not in str(caught.value)


def test_state_is_all_that_the_next_epoch_needs(networks):
    first, second = method(networks), method(networks)
    draw = feed(first)
    for step in range(5):
        draw(step)
    second.load_state(copy.deepcopy(first.state()))
    ours, theirs = feed(first, epoch=2), feed(second, epoch=2)
    for step in range(4):
        assert torch.equal(ours(step)[0], theirs(step)[0])
    assert torch.equal(make(first, epoch=3).x_BCHW, make(second, epoch=3).x_BCHW)


def test_a_loss_of_another_method_may_follow(teacher_file, tmp_path):
    for name in ("ferd", "dfhl"):
        train(small(loss__name=name, epochs=2), teacher_file, tmp_path / name)
        assert math.isfinite(figures(tmp_path / name)[-1]["student_loss"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"synthesis.student_steps": 0}, "synthesis: student_steps is 0; give 1 or more"),
        ({"synthesis.lr": 0}, "synthesis: lr is 0.0; give 0 < lr"),
        ({"synthesis.latent": 0}, "latent is 0; give 1 or more"),
        ({"synthesis.lambda_bn": 1}, "no field 'synthesis.lambda_bn'"),
    ],
)
def test_wrong_values_are_said_in_one_line(changes, message):
    with pytest.raises(UserError) as caught:
        find_student_recipe("zskt-lab").with_changes(changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_recipes():
    """Constants of the re-implementation for images, of FERD for the student."""
    full, lab = (find_student_recipe(f"zskt-{name}") for name in ("cifar10", "lab"))
    made = full.synthesis
    assert (made.method, made.student_steps, made.latent, made.width) == ("zskt", 5, 256, 64)
    assert made.lr == 1e-3
    assert (full.epochs, full.batch_size, full.distillation.steps) == (220, 256, 400)
    assert (full.loss.name, full.loss.clean_weight) == ("rslad", 5 / 6)
    assert full.reweighting.strategy == lab.reweighting.strategy == "uniform"
    assert (lab.loss.clean_weight, lab.loss.adversarial_weight) == (0.5, 0.5)
    assert (lab.epochs, lab.warmup, lab.distillation.steps) == (20, 2, 80)
