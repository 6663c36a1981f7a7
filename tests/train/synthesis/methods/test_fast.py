"""FastDFKD's round against a plain one, its terms against their formulas, and that it learns."""

from __future__ import annotations

import copy

import pytest
import torch

from ferd_eval.attacks import frozen
from ferd_eval.errors import UserError
from ferd_train.synthesis.components.bn_statistics import MomentumMatching
from ferd_train.synthesis.components.generator import Generator
from ferd_train.synthesis.components.generator_losses import agreeing_minus_kl
from ferd_train.synthesis.methods.fast import Fast, renew_first_layer
from ferd_train.training.process_group import WHOLE, BatchShard, Workers
from ferd_train.training.seeds import Randomness
from tests.train.student_runs import setting_of, tiny

pytestmark = pytest.mark.usefixtures("same_code")

SHAPE, K = (1, 8, 8), 3
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
TINY = {
    "synthesis__method": "fast",
    "synthesis__latent": 8,
    "synthesis__width": 4,
    "synthesis__competes_from": 2,
    "synthesis__renewed_at": 0,
    "augmentation__crop_padding": 0,
    "augmentation__flip": False,
}


def recipe_of(**changes):
    return tiny(**{**TINY, **changes})


def method_of(networks, share: BatchShard = WHOLE, **changes) -> Fast:
    recipe = recipe_of(**changes)
    return recipe.synthesis.build(setting_of(networks, recipe, len(LABELS), share))


def inputs_of_norms(teacher, x):
    """Inputs of the batch norms, in the order of the layers."""
    seen = {}
    norms = [m for m in teacher.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    handles = [
        m.register_forward_pre_hook(lambda m, args: seen.__setitem__(m, args[0])) for m in norms
    ]
    logits = teacher(x)
    for handle in handles:
        handle.remove()
    return logits, [(m, seen[m]) for m in norms]


def statistics(z):
    return z.mean((0, 2, 3)), z.var((0, 2, 3), correction=0)


class PlainFast:
    """The method from its description, with autograd and nothing clever."""

    def __init__(self, networks, recipe, generator: Generator) -> None:
        self.teacher, self.student = networks
        self.recipe, self.generator = recipe, copy.deepcopy(generator)
        r = recipe.synthesis
        self.outer = torch.optim.Adam(
            self.generator.parameters(), lr=r.lr * r.steps, betas=(0.5, 0.999)
        )
        self.past = None

    def loss(self, x, competes):
        r = self.recipe.synthesis
        logits, inputs = inputs_of_norms(self.teacher, x)
        self.last = [tuple(s.detach() for s in statistics(z)) for _, z in inputs]
        matched = 0
        for place, (norm, z) in enumerate(inputs):
            for known, now, which in zip(
                (norm.running_mean, norm.running_var), statistics(z), (0, 1), strict=True
            ):
                if self.past is None:
                    matched = matched + (known - now).norm()
                else:
                    mixed = 0.1 * now + 0.9 * self.past[place][which]
                    matched = matched + (known - mixed).norm()
        asked = -logits.log_softmax(1)[range(len(LABELS)), LABELS].mean()
        total = r.lambda_bn * matched + r.lambda_oh * asked
        if competes:
            other = self.student(x)
            p, q = logits.softmax(1), other.softmax(1)
            apart = (p * (p / q).log()).sum(1)
            same = logits.argmax(1) == other.argmax(1)
            total = total - r.lambda_adv * torch.where(same, apart, 0).sum() / len(LABELS)
        return total

    def round(self, number: int) -> list[float]:
        r, randomness = self.recipe.synthesis, Randomness(self.recipe.seed, number)
        clone = copy.deepcopy(self.generator)
        z = clone.draw_latents(len(LABELS), randomness.stream("latents")).requires_grad_()
        inner = torch.optim.Adam(
            [{"params": clone.parameters(), "lr": r.lr}, {"params": [z], "lr": r.latent_lr}],
            betas=(0.5, 0.999),
        )
        total = [torch.zeros_like(p) for p in clone.parameters()]
        losses = []
        for _ in range(r.steps):
            inner.zero_grad()
            loss = self.loss(clone(z), number >= r.competes_from)
            losses.append(loss.item())
            loss.backward()
            total = [t + p.grad for t, p in zip(total, clone.parameters(), strict=True)]
            inner.step()
        if r.meta == "reptile":
            total = [
                67 * (a.detach() - b.detach())
                for a, b in zip(self.generator.parameters(), clone.parameters(), strict=True)
            ]
        for parameter, gradient in zip(self.generator.parameters(), total, strict=True):
            parameter.grad = gradient
        self.outer.step()
        if self.past is None:
            self.past = self.last
        else:
            self.past = [
                tuple(0.9 * old + 0.1 * new for old, new in zip(*pair, strict=True))
                for pair in zip(self.past, self.last, strict=True)
            ]
        return losses


@pytest.mark.parametrize("meta", ["maml", "reptile"])
def test_rounds_are_those_of_the_plain_method(networks, meta):
    method = method_of(networks, synthesis__meta=meta, synthesis__steps=3)
    plain = PlainFast(
        networks, recipe_of(synthesis__meta=meta, synthesis__steps=3), method._generator
    )
    with frozen(networks[0]), frozen(networks[1]):
        for number in (1, 2, 3):
            made = method.make(LABELS, Randomness(0, number))
            losses = plain.round(number)
            assert made.loss == pytest.approx(min(losses), rel=1e-3)
            assert made.step == losses.index(min(losses)) + 1
            assert {*made.terms} == ({"bn", "oh"} if number == 1 else {"bn", "oh", "adv"})
            pairs = zip(method._generator.parameters(), plain.generator.parameters(), strict=True)
            for ours, theirs in pairs:
                assert torch.allclose(ours, theirs, rtol=1e-2, atol=2e-4)


def test_agreement_masks_the_divergence():
    teacher = torch.tensor([[2.0, 0, 0], [0, 1.0, 0], [0, 0, 3.0]])
    student = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [0, 0, 1.0]])
    p, q = teacher.softmax(1), student.softmax(1)
    each = (p * (p / q).log()).sum(1)
    assert agreeing_minus_kl(teacher, student).item() == pytest.approx(
        -(each[0] + each[2]).item() / 3
    )
    assert agreeing_minus_kl(teacher, teacher).item() == 0


@pytest.mark.parametrize("name", ["adv", "bn", "oh"])
def test_a_term_has_a_gradient_when_on_and_does_not_exist_when_off(networks, name):
    x = torch.rand(len(LABELS), *SHAPE, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()
    others = {f"synthesis__lambda_{each}": 0 for each in ("adv", "bn", "oh") if each != name}
    terms = method_of(networks, **others).terms(x, LABELS, competes=True)
    assert [*terms] == [name]
    (gradient,) = torch.autograd.grad(terms[name], x, allow_unused=True)
    agree = networks[0](x).argmax(1) == networks[1](x).argmax(1)
    assert gradient.abs().max() > 0 or (name == "adv" and not agree.any())
    off = method_of(networks, **{f"synthesis__lambda_{name}": 0})
    assert name not in off.terms(x, LABELS, competes=True)
    assert "adv" not in method_of(networks).terms(x, LABELS, competes=False)


def test_the_first_layer_is_renewed_once_and_the_rest_stays():
    generator = Generator(SHAPE, torch.Generator().manual_seed(0), latent=8, width=4)
    before = copy.deepcopy(generator.state_dict())
    renew_first_layer(generator, torch.Generator().manual_seed(5))
    changed = {key for key, value in generator.state_dict().items() if key.endswith(
        ("weight", "bias")) and not torch.equal(value, before[key])}  # fmt: skip
    assert changed == {"layers.0.weight", "layers.2.weight"}
    assert abs(generator.layers[2].weight.mean().item()) < 0.1  # at the start about 1
    assert generator.layers[0].weight.std().item() == pytest.approx(0.02, rel=0.1)


def test_the_renewal_comes_at_its_round(networks):
    plain, renewed = (method_of(networks, synthesis__renewed_at=n) for n in (0, 2))
    for number in (1, 2):
        same = [m.make(LABELS, Randomness(0, number)).x_BCHW for m in (plain, renewed)]
        assert torch.equal(*same) == (number == 1)


@pytest.mark.parametrize("meta", ["maml", "reptile", "none"])
def test_the_generator_learns_over_rounds(networks, meta):
    """Not so where teacher and student are mixed up, or where the outer step is lost."""
    # Momentum over rounds holds the distance up for a while.
    method = method_of(
        networks, synthesis__meta=meta, synthesis__lambda_adv=0, synthesis__momentum=0
    )
    first = copy.deepcopy(method._generator.state_dict())
    losses = [method.make(LABELS, Randomness(0, number)).loss for number in range(1, 31)]
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])
    assert not torch.equal(
        method._generator.state_dict()["layers.0.weight"], first["layers.0.weight"]
    )


def test_only_what_learns_is_changed(networks):
    before = [copy.deepcopy(net.state_dict()) for net in networks]
    modes = [net.training for net in networks]
    made = method_of(networks).make(LABELS, Randomness(0, 2))
    assert 0 <= made.x_BCHW.min() <= made.x_BCHW.max() <= 1
    for net, state in zip(networks, before, strict=True):
        assert all(torch.equal(net.state_dict()[key], state[key]) for key in state)
    assert modes == [net.training for net in networks]


def test_without_momentum_it_is_the_plain_distance(networks):
    teacher, _ = networks
    matching = MomentumMatching(teacher, 0.0)
    x = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(3))
    for _ in range(3):
        with frozen(teacher), matching.watch() as distances:
            teacher(x)
        matching.end_round()
        _, inputs = inputs_of_norms(teacher, x)
        for found, (norm, z) in zip(distances, inputs, strict=True):
            mean, variance = statistics(z)
            expected = (mean - norm.running_mean).norm() + (variance - norm.running_var).norm()
            assert found.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"synthesis__meta": "mamal"}, "no meta is called 'mamal'. Did you mean maml?"),
        ({"synthesis__momentum": 1}, "momentum is 1.0; give 0 <= momentum < 1"),
        (
            {f"synthesis__lambda_{name}": 0 for name in ("adv", "bn", "oh")},
            "lambda_adv, lambda_bn, lambda_oh are all 0",
        ),
        ({"synthesis__renewed_at": -1}, "renewed_at is -1"),
    ],
)
def test_wrong_constants_are_said_in_one_line(changes, message):
    with pytest.raises(UserError) as caught:
        recipe_of(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_processes_are_refused(networks):
    with pytest.raises(UserError, match=r"synthesis\.method fast is for one process"):
        method_of(networks, BatchShard(Workers(0, 2), len(LABELS)))
