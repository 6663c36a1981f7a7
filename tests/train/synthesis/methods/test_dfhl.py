"""DFHL's images: both terms by hand, and the loop around them by a plain one."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from ferd_eval.errors import UserError
from ferd_eval.models import build_architecture
from ferd_train.recipes import find_student_recipe
from ferd_train.recipes.student import StudentRecipe
from ferd_train.synthesis.components.generator import Generator, usual_weights
from ferd_train.synthesis.methods.dfhl import DFHL, concentration, label_divergence
from ferd_train.training.seeds import Randomness
from tests.train.student_runs import setting_of, teacher_of, tiny

pytestmark = pytest.mark.usefixtures("same_code")

SHAPE = (1, 8, 8)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
SMALL = {
    "synthesis__method": "dfhl",
    "synthesis__steps": 3,
    "synthesis__latent": 8,
    "synthesis__width": 4,
    "synthesis__lr": 0.02,
    "synthesis__latent_lr": 0.3,
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


def method(networks, **changes) -> DFHL:
    recipe = small(**changes)
    return recipe.synthesis.build(setting_of(networks, recipe, len(LABELS)))


def cls_by_hand(rows: list[list[float]], labels: list[int], s: float) -> float:
    """Σ_k q_k ln(q_k / p_k), the mean over images; 0·ln 0 = 0."""
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        for k, p in enumerate(row):
            q = 1 - s if k == label else s / (len(row) - 1)
            total += q * math.log(q / p) if q else 0.0
    return total / len(rows)


def div_by_hand(rows: list[list[float]]) -> float:
    """Σ_k p̄_k log₁₀ p̄_k."""
    means = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
    return sum(p * math.log10(p) for p in means if p)


@pytest.mark.parametrize(("classes", "smoothing"), [(3, 0.2), (3, 0.0), (2, 0.5), (100, 0.02)])
def test_both_terms_are_the_papers(classes, smoothing):
    generator = torch.Generator().manual_seed(classes)
    logits = (3 * torch.randn(6, classes, generator=generator)).double()
    labels = torch.randint(classes, (6,), generator=generator)
    rows = logits.softmax(1).tolist()
    expected = cls_by_hand(rows, labels.tolist(), smoothing)
    # Smoothed labels are in single precision.
    assert label_divergence(logits, labels, smoothing).item() == pytest.approx(expected, rel=1e-5)
    assert concentration(logits).item() == pytest.approx(div_by_hand(rows), rel=1e-9)


def test_the_terms_are_lowest_where_they_should_be():
    labels = torch.tensor([0, 1, 2, 3])
    target = torch.full((4, 4), 0.2 / 3).scatter(1, labels[:, None], 0.8)
    assert label_divergence(target.log(), labels, 0.2).item() == pytest.approx(0, abs=1e-6)
    assert concentration(torch.zeros(4, 4)).item() == pytest.approx(-math.log10(4))
    for other in (torch.eye(4)[:1] * 3, torch.randn(4, 4)):
        assert concentration(other).item() > -math.log10(4)


def test_a_class_that_no_image_is_given_is_no_nan():
    """In single precision its probability is 0, and 0·log 0 would be NaN, as in the release."""
    logits = torch.tensor([[200.0, 0.0, -200.0], [0.0, 200.0, -200.0]], requires_grad=True)
    assert float(logits.detach().softmax(1).mean(0).min()) == 0
    value = concentration(logits)
    value.backward()
    assert value.item() == pytest.approx(math.log10(0.5), abs=1e-6)
    assert bool(logits.grad.isfinite().all())


def by_hand(recipe: StudentRecipe, student: nn.Module, epochs: int):
    """What `DFHL` keeps in each epoch: the loss, the step, the images, the last ones seen."""
    made = recipe.synthesis
    generator = Generator(
        SHAPE,
        Randomness(0, 0).stream("generator"),
        latent=made.latent,
        width=made.width,
        draw=usual_weights,
    )
    for epoch in range(1, epochs + 1):
        random = Randomness(0, epoch)
        z = torch.randn(len(LABELS), made.latent, generator=random.stream("latents"))
        z.requires_grad_()
        groups = [
            {"params": list(generator.parameters()), "lr": made.lr},
            {"params": [z], "lr": made.latent_lr},
        ]
        adam = torch.optim.Adam(groups, betas=(0.5, 0.999))
        tried = []
        for step in range(1, made.steps + 1):
            plain = generator(z)
            place = torch.arange(len(LABELS))
            seen = recipe.augmentation(plain, random.seed("augment images", step), place)
            logits = student.eval()(seen)
            p = logits.softmax(1)
            q = torch.full_like(p, made.smoothing / 2)
            q[torch.arange(len(LABELS)), LABELS] = 1 - made.smoothing
            cls = (q * (q.log() - p.log())).sum(1).mean()
            mean = p.mean(0)
            div = (mean * mean.log() / math.log(10)).sum()
            loss = cls + made.lambda_div * div
            tried.append((loss.item(), step, plain.detach().clone(), cls.item(), div.item()))
            adam.zero_grad()
            loss.backward()
            adam.step()
        yield min(tried, key=lambda each: each[0]), seen.detach()


def test_the_loop_is_the_papers(networks):
    """Over three epochs: the generator is kept, latents and what Adam remembers are not."""
    recipe = small(synthesis__steps=5, synthesis__lambda_div=2.0)
    _, student = networks
    synthesis = method(networks, synthesis__steps=5, synthesis__lambda_div=2.0)
    steps = []
    for epoch, (best, seen) in enumerate(by_hand(recipe, copy.deepcopy(student), 3), 1):
        made = synthesis.make(LABELS, Randomness(0, epoch))
        loss, step, kept, cls, div = best
        assert made.loss == pytest.approx(loss, rel=1e-3)
        assert made.step == step
        assert made.terms == pytest.approx({"cls": cls, "div": div}, rel=1e-3)
        torch.testing.assert_close(made.x_BCHW, kept, rtol=0, atol=1e-3)
        torch.testing.assert_close(made.last_BCHW, seen, rtol=0, atol=1e-3)
        assert torch.equal(made.labels_B, LABELS)
        assert float(made.x_BCHW.min()) > 0  # not cropped, which brings zeros in
        assert bool((made.last_BCHW == 0).any())
        steps.append(step)
    assert min(steps) > 1  # something was learnt


def test_the_teacher_is_not_asked(networks):
    teacher, _ = networks
    asked = []
    teacher.register_forward_pre_hook(lambda *_: asked.append(1))
    method(networks).make(LABELS, Randomness(0, 1))
    assert not asked


def test_a_term_moves_the_images_when_on_and_is_not_there_when_off(networks):
    off, on, more = (
        method(networks, synthesis__lambda_div=weight).make(LABELS, Randomness(0, 1))
        for weight in (0, 3, 30)
    )
    assert [*off.terms] == ["cls"]
    assert off.loss == pytest.approx(off.terms["cls"])
    assert [*on.terms] == [*more.terms] == ["cls", "div"]
    assert len({each.last_BCHW.numpy().tobytes() for each in (off, on, more)}) == 3
    sharp = method(networks, synthesis__smoothing=0).make(LABELS, Randomness(0, 1))
    assert not torch.equal(sharp.last_BCHW, on.last_BCHW)


def test_epochs_go_on_with_the_same_generator(networks):
    whole, late = method(networks), method(networks)
    whole.make(LABELS, Randomness(0, 1))
    state = copy.deepcopy(whole.state())
    second = whole.make(LABELS, Randomness(0, 2))
    assert not torch.equal(late.make(LABELS, Randomness(0, 2)).x_BCHW, second.x_BCHW)
    late.load_state(state)
    assert torch.equal(late.make(LABELS, Randomness(0, 2)).x_BCHW, second.x_BCHW)


def test_the_loss_falls_over_the_epochs(networks):
    student = copy.deepcopy(networks[0])  # one that has learnt to tell images apart
    synthesis = method((networks[0], student), synthesis__steps=10)
    losses = [synthesis.make(LABELS, Randomness(0, epoch)).loss for epoch in range(1, 7)]
    assert losses[-1] < losses[0] - 0.1


def test_networks_are_as_before(networks):
    _, student = networks
    student.train()
    student.layer1.eval()  # modes may be mixed
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    modes = [module.training for network in networks for module in network.modules()]
    method(networks).make(LABELS, Randomness(0, 1))
    for network, state in zip(networks, before, strict=True):
        after = network.state_dict()
        assert all(torch.equal(after[name], state[name]) for name in state)
    assert modes == [module.training for network in networks for module in network.modules()]
    assert all(parameter.grad is None for parameter in student.parameters())
    assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"synthesis.steps": 0}, "synthesis: steps is 0; give 1 or more"),
        ({"synthesis.latent_lr": 0}, "synthesis: latent_lr is 0.0; give 0 < latent_lr"),
        ({"synthesis.smoothing": 1}, "smoothing is 1.0; give 0 <= smoothing < 1"),
        ({"synthesis.lambda_div": -1}, "lambda_div is -1.0; give 0 <= lambda_div"),
    ],
)
def test_wrong_values_are_said_in_one_line(changes, message):
    with pytest.raises(UserError) as caught:
        find_student_recipe("dfhl-lab").with_changes(changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_recipes():
    """Constants of the authors' release."""
    ten, hundred, soft, hard = (
        find_student_recipe(f"dfhl-{name}") for name in ("cifar10", "cifar100", "lab", "lab-hard")
    )
    assert [
        (r.batch_size, s.steps, s.lr, s.latent_lr, s.smoothing, s.lambda_div, s.latent, s.width)
        for r in (ten, hundred)
        for s in [r.synthesis]
    ] == [(256, 10, 2e-3, 0.01, 0.2, 3, 256, 64), (512, 15, 5e-3, 0.015, 0.02, 3, 256, 64)]
    for recipe in (ten, hundred):
        assert (recipe.epochs, recipe.warmup, recipe.distillation.steps) == (300, 0, 500)
        assert recipe.distillation.weight_decay == 1e-4
    assert [r.loss.name for r in (ten, hundred, soft, hard)] == ["dfhl", "dfhl", "rslad", "dfhl"]
    assert (soft.loss.clean_weight, soft.loss.adversarial_weight) == (0.5, 0.5)
    assert soft.synthesis == hard.synthesis
    assert {r.reweighting.strategy for r in (ten, hundred, soft, hard)} == {"uniform"}
