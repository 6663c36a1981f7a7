"""CMI's terms and contrast against their formulas, the ring where it wraps, and that it resumes."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from ferd_eval.attacks import KeyedRng, frozen
from ferd_eval.errors import UserError
from ferd_train.synthesis.components.contrastive import (
    AREAS,
    RATIOS,
    Head,
    Ring,
    contrast,
    enlarge,
    random_parts,
)
from ferd_train.synthesis.components.generator import Generator
from ferd_train.synthesis.methods.cmi import CMI
from ferd_train.training.process_group import WHOLE, BatchShard, Workers
from ferd_train.training.seeds import Randomness
from tests.train.student_runs import setting_of, tiny

pytestmark = pytest.mark.usefixtures("same_code")

SHAPE, K = (1, 8, 8), 3
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])
TINY = {
    "synthesis__method": "cmi",
    "synthesis__steps": 4,
    "synthesis__latent": 8,
    "synthesis__width": 4,
    "synthesis__projected": 5,
    "synthesis__remembered": 12,
    "synthesis__negatives": 4,
    "augmentation__crop_padding": 0,
    "augmentation__flip": False,
}
ALL = ("adv", "bn", "oh", "cr")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def method_of(networks, share: BatchShard = WHOLE, **changes) -> CMI:
    recipe = tiny(**{**TINY, **changes})
    return recipe.synthesis.build(setting_of(networks, recipe, len(LABELS), share))


def only(*names: str) -> dict[str, float]:
    return {f"synthesis__lambda_{name}": float(name in names) for name in ALL}


# Views


@pytest.mark.parametrize("box", [(2, 1, 4, 4), (0, 0, 8, 8), (3, 0, 5, 2), (4, 4, 4, 4)])
def test_a_part_is_what_torchvision_crops_and_resizes(box):
    left, top, width, height = box
    x = torch.rand(2, 3, 8, 8, generator=generator())
    shares = torch.tensor([[left / 8, top / 8, width / 8, height / 8]]).repeat(2, 1)
    ours = enlarge(x, shares)
    theirs = tv.resized_crop(x, top, left, height, width, [8, 8], antialias=False)
    # At the edges of a part, ours looks over them where the image goes on.
    inner = slice(math.ceil(8 / height / 2), 8 - math.ceil(8 / height / 2))
    across = slice(math.ceil(8 / width / 2), 8 - math.ceil(8 / width / 2))
    assert torch.allclose(ours[..., inner, across], theirs[..., inner, across], atol=1e-5)
    assert ours[..., inner, across].numel() > 0


def test_the_whole_image_is_itself():
    x = torch.rand(3, 1, 8, 8, generator=generator())
    assert torch.allclose(enlarge(x, torch.tensor([[0.0, 0, 1, 1]] * 3)), x, atol=1e-6)


def test_parts_have_areas_and_ratios_within_the_bounds(monkeypatch):
    boxes = []
    monkeypatch.setattr(
        "ferd_train.synthesis.components.contrastive.enlarge", lambda x, box: boxes.append(box) or x
    )
    x = torch.rand(2000, 1, 2, 2, generator=generator())
    mirrored = random_parts(x, KeyedRng(3, "parts", torch.arange(2000)))
    left, top, width, height = boxes[0].T
    area, ratio = width * height, width / height
    free = (width < 1) & (height < 1)
    assert free.double().mean() > 0.8
    assert AREAS[0] * 0.85 < area.min() < area.max() <= AREAS[1]
    assert area[free].min() >= AREAS[0] - 1e-9
    assert RATIOS[0] - 1e-9 <= ratio[free].min() <= ratio[free].max() <= RATIOS[1] + 1e-9
    assert min(left.min(), top.min()) >= 0
    assert max((left + width).max(), (top + height).max()) <= 1 + 1e-9
    turned = (mirrored != x).flatten(1).any(1).double().mean()
    assert 0.45 < turned < 0.55


def test_parts_have_gradients_and_are_keyed_by_place():
    x = torch.rand(4, 1, 8, 8, generator=generator()).requires_grad_()
    parts = random_parts(x, KeyedRng(1, "parts", torch.arange(4)))
    (gradient,) = torch.autograd.grad(parts.sum(), x)
    assert gradient.sum().item() == pytest.approx(parts.numel(), rel=1e-4)
    later = random_parts(x[2:], KeyedRng(1, "parts", torch.arange(2, 4)))
    assert torch.equal(later, parts[2:])


# Contrast


def plain_contrast(head, local, whole, cached, temperature) -> float:
    old_local, old_whole = cached.chunk(2, dim=1)
    a = torch.cat([head(local), head(old_local)]).tolist()
    b = torch.cat([head(whole), head(old_whole)]).tolist()
    losses = []
    for i, row in enumerate(a):
        scores = [
            math.exp(sum(x * y for x, y in zip(row, other, strict=True)) / temperature)
            for other in b
        ]
        losses.append(-math.log(scores[i] / sum(scores)))
    new, old = losses[: len(local)], losses[len(local) :]
    return sum(new) / len(new) + (sum(old) / len(old) if old else 0)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_contrast_is_its_formula_with_and_without_a_past(count):
    """Without negatives the public code takes the mean over nothing, which is not a number."""
    head = Head(7, 4, seed=0)
    local, whole = (torch.randn(3, 7, generator=generator(seed)) for seed in (1, 2))
    cached = torch.randn(count, 14, generator=generator(3))
    with torch.no_grad():
        ours = contrast(head, local, whole, cached, 0.2).item()
    assert ours == pytest.approx(plain_contrast(head, local, whole, cached, 0.2), rel=1e-4)


def test_gradients_of_the_contrast_go_through_the_parts_alone():
    head = Head(7, 4, seed=0)
    local, whole = (
        torch.randn(3, 7, generator=generator(seed)).requires_grad_() for seed in (1, 2)
    )
    loss = contrast(head, local, whole, torch.zeros(0, 14), 0.2)
    loss.backward()
    assert local.grad.abs().max() > 0
    assert whole.grad is None
    assert head.first.weight.grad.abs().max() > 0


def test_projections_have_length_one():
    projected = Head(7, 4, seed=0)(torch.randn(5, 7, generator=generator()))
    assert torch.allclose(projected.norm(dim=1), torch.ones(5))


# Ring


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 12, 17])
def test_the_ring_holds_the_latest(batch):
    """Also where a batch does not divide its size, or fills it exactly."""
    ring, came = Ring(12, 1), []
    assert len(ring) == 0
    for start in range(0, 60, batch):
        rows = torch.arange(start, start + batch).float()[:, None].repeat(1, 2)
        ring.add(rows)
        came += range(start, start + batch)
        drawn = ring.draw(100, generator(), torch.device("cpu"))
        assert sorted(drawn[:, 0].tolist()) == came[-12:]
        assert len(ring) == min(len(came), 12)


def test_an_exactly_full_ring_gives_negatives():
    """The public code sees an empty one there, and its loss is not a number."""
    ring = Ring(12, 1)
    for _ in range(3):
        ring.add(torch.ones(4, 2))
    assert ring.draw(5, generator(), torch.device("cpu")).shape == (5, 2)


def test_draws_are_different_images():
    ring = Ring(50, 1)
    ring.add(torch.arange(40.0)[:, None].repeat(1, 2))
    drawn = ring.draw(10, generator(1), torch.device("cpu"))[:, 0]
    assert len({*drawn.tolist()}) == 10
    assert not torch.equal(drawn, ring.draw(10, generator(2), torch.device("cpu"))[:, 0])


# The method


def test_every_term_is_its_formula(networks):
    teacher, student = networks
    x = torch.rand(len(LABELS), *SHAPE, generator=generator())
    method = method_of(networks, synthesis__features="all")
    cached = torch.randn(5, 2 * method._contrast._ring._kept_R2D.shape[1] // 2)
    method._contrast._ring.add(cached)
    seen: dict[torch.nn.Module, torch.Tensor] = {}
    norms = [m for m in teacher.modules() if isinstance(m, torch.nn.BatchNorm2d)]

    def features(images):
        handles = [
            m.register_forward_pre_hook(lambda m, args: seen.__setitem__(m, args[0])) for m in norms
        ]
        logits = teacher(images)
        for handle in handles:
            handle.remove()
        return logits, [seen[m] for m in norms]

    randomness = Randomness(0, 1)
    with frozen(teacher), frozen(student), torch.no_grad():
        terms = method.terms(x, x, LABELS, randomness, 7)
        logits, inputs = features(x)
        places = torch.arange(len(x))
        parts = random_parts(x, KeyedRng(randomness.seed("parts", 7), "parts", places))
        _, of_parts = features(parts)
        matched = sum(
            (z.mean((0, 2, 3)) - m.running_mean).norm()
            + (z.var((0, 2, 3), correction=0) - m.running_var).norm()
            for m, z in zip(norms, inputs, strict=True)
        )
        stream = torch.Generator().manual_seed(randomness.seed("negatives", 7))
        drawn = method._contrast._ring.draw(4, stream, torch.device("cpu"))
        crossed = plain_contrast(
            method._contrast._head,
            torch.cat([z.mean((2, 3)) for z in of_parts], 1),
            torch.cat([z.mean((2, 3)) for z in inputs], 1),
            drawn,
            0.2,
        )
        p, q = logits.softmax(1), student(x).softmax(1)
        apart = (p * (p / q).log()).sum(1)[p.argmax(1) == q.argmax(1)].sum() / len(x)
        picked = -logits.log_softmax(1)[range(len(x)), LABELS].mean()
    assert terms["bn"].item() == pytest.approx(float(matched), rel=1e-4)
    assert terms["oh"].item() == pytest.approx(float(picked), rel=1e-5)
    assert terms["adv"].item() == pytest.approx(-float(apart), rel=1e-4, abs=1e-7)
    assert terms["cr"].item() == pytest.approx(crossed, rel=1e-4)


def round_by_hand(method: CMI, networks, epoch: int, past: dict) -> dict:
    """One round written out: lowest loss, its step and images, what head and ring become.

    `past` holds the head's layers, its optimiser and what is remembered, of the rounds before.
    """
    teacher, student = networks
    recipe, setting, random = method._recipe, method.setting, Randomness(0, epoch)
    made = Generator(SHAPE, random.stream("generator"), latent=recipe.latent, width=recipe.width)
    z = made.draw_latents(len(LABELS), random.stream("latents")).requires_grad_()
    adam = torch.optim.Adam([{"params": made.parameters()}, {"params": [z]}], 1e-2, (0.5, 0.999))
    norms = [m for m in teacher.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    first, second, head_adam, ring = (past[key] for key in ("first", "second", "adam", "ring"))

    def project(features):
        return torch.nn.functional.normalize(second(first(features).clamp(min=0)), dim=1)

    def look(images):
        inputs = []
        handles = [m.register_forward_pre_hook(lambda m, a: inputs.append(a[0])) for m in norms]
        logits = teacher(images)
        for handle in handles:
            handle.remove()
        return logits, inputs

    best = {"loss": math.inf}
    for step in range(1, recipe.steps + 1):
        x = made(z)
        view = setting.augment(x, random.seed("augment images", step))
        logits, inputs = look(view)
        places = KeyedRng(random.seed("parts", step), "parts", torch.arange(len(x)))
        _, of_parts = look(random_parts(x, places))
        bn = sum(
            (i.mean((0, 2, 3)) - m.running_mean).norm()
            + (i.var((0, 2, 3), correction=0) - m.running_var).norm()
            for m, i in zip(norms, inputs, strict=True)
        )
        oh = torch.nn.functional.cross_entropy(logits, LABELS)
        p, q = logits.softmax(1), student(view).softmax(1)
        same = (p.argmax(1) == q.argmax(1)).float()
        adv = -((p * (p.log() - q.log())).sum(1) * same).mean()
        local = torch.cat([i.mean((2, 3)) for i in of_parts], 1)
        whole = torch.cat([i.mean((2, 3)) for i in inputs], 1).detach()
        stream = torch.Generator().manual_seed(random.seed("negatives", step))
        drawn = [ring[place] for place in torch.randperm(len(ring), generator=stream)[:4]]
        drawn = torch.stack(drawn) if drawn else torch.zeros(0, 2 * local.shape[1])
        half = local.shape[1]
        sides = project(torch.cat([local, drawn[:, :half]]))
        against = project(torch.cat([whole, drawn[:, half:]])).detach()
        losses = -(sides @ against.T / 0.2).log_softmax(1).diagonal()
        cr = losses[: len(x)].mean() + (losses[len(x) :].mean() if len(drawn) else 0)
        loss = 0.5 * adv + 1.0 * bn + 1.0 * oh + 0.8 * cr
        if loss.item() < best["loss"]:
            best = {"loss": loss.item(), "step": step, "x": x.detach().clone(), "seen": view}
            best["both"] = torch.cat([local, whole], 1).detach()
        adam.zero_grad()
        head_adam.zero_grad()
        loss.backward()
        adam.step()
        head_adam.step()
    past["ring"] = [*ring, *best["both"]][-12:]
    return best


def test_rounds_are_what_they_are_written_out(networks):
    """With crops and flips, so that views, plain images and parts are told apart."""
    changes = {
        "synthesis__features": "all",
        "synthesis__steps": 5,
        "synthesis__lr": 1e-2,
        "augmentation__crop_padding": 1,
        "augmentation__flip": True,
    }
    method = method_of(networks, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(Randomness(0, 0).seed("head"))
        width = sum(
            m.num_features for m in networks[0].modules() if isinstance(m, torch.nn.BatchNorm2d)
        )
        first, second = torch.nn.Linear(width, width), torch.nn.Linear(width, 5)
    adam = torch.optim.Adam([*first.parameters(), *second.parameters()], 1e-2)
    past = {"first": first, "second": second, "adam": adam, "ring": []}
    for epoch in (1, 2):
        torch.manual_seed(epoch)  # has no say
        ours = method.make(LABELS, Randomness(0, epoch))
        with frozen(networks[0]), frozen(networks[1]):
            theirs = round_by_hand(method, networks, epoch, past)
        assert ours.step == theirs["step"]
        assert ours.loss == pytest.approx(theirs["loss"], rel=1e-4)
        assert torch.allclose(ours.x_BCHW, theirs["x"], atol=1e-4)
        kept = method._contrast._ring._kept_R2D
        assert torch.allclose(kept, torch.stack(past["ring"]), atol=1e-4)
        head = method._contrast._head
        assert torch.allclose(head.first.weight, first.weight, atol=1e-4)
        assert torch.allclose(head.second.weight, second.weight, atol=1e-4)


@pytest.mark.parametrize("name", ALL)
def test_a_term_has_a_gradient_when_on_and_does_not_exist_when_off(networks, name):
    teacher, student = networks
    x = torch.rand(len(LABELS), *SHAPE, generator=generator()).requires_grad_()
    with frozen(teacher), frozen(student):
        terms = method_of(networks, **only(name)).terms(x, x, LABELS, Randomness(0, 1), 1)
        assert [*terms] == [name]
        (gradient,) = torch.autograd.grad(terms[name], x)
        agree = teacher(x).argmax(1) == student(x).argmax(1)
        assert gradient.abs().max() > 0 or (name == "adv" and not agree.any())
        others = method_of(networks, **only(*({*ALL} - {name})))
        assert name not in others.terms(x, x, LABELS, Randomness(0, 1), 1)


def test_features_of_stages_are_fewer(networks):
    all_, stages = (
        method_of(networks, synthesis__features=which)._contrast._layers
        for which in ("all", "stages")
    )
    assert {layer.num_features for layer in stages} == {layer.num_features for layer in all_}
    assert len({layer.num_features for layer in stages}) == len(stages) < len(all_)


def test_what_is_remembered_is_of_the_images_that_are_kept(networks, monkeypatch):
    method = method_of(networks, synthesis__steps=6)
    made = method.make(LABELS, Randomness(0, 1))
    with frozen(networks[0]), method._contrast.watch() as features:
        networks[0](made.x_BCHW)
    remembered = method._contrast._ring._kept_R2D
    assert len(remembered) == len(LABELS)
    assert torch.allclose(remembered.chunk(2, dim=1)[1], torch.cat(features, 1), atol=1e-5)


def test_rounds_go_past_a_full_ring(networks):
    method = method_of(networks)  # two batches fill its twelve places exactly
    for number in range(1, 6):
        made = method.make(LABELS, Randomness(0, number))
        assert math.isfinite(made.loss)
        assert made.terms["cr"] > 0
    assert len(method._contrast._ring) == 12


def test_without_contrast_nothing_is_remembered(networks):
    method = method_of(networks, synthesis__lambda_cr=0)
    assert {*method.make(LABELS, Randomness(0, 1)).terms} == {"adv", "bn", "oh"}
    assert method.state() == {}


def test_steps_lower_the_loss_and_leave_the_networks_alone(networks):
    before = [copy.deepcopy(net.state_dict()) for net in networks]
    modes = [net.training for net in networks]
    long, short = (
        method_of(networks, synthesis__steps=steps, synthesis__lr=0.01).make(
            LABELS, Randomness(0, 1)
        )
        for steps in (60, 1)
    )
    assert long.loss < 0.9 * short.loss
    assert long.step > 10
    assert 0 <= long.x_BCHW.min() <= long.x_BCHW.max() <= 1
    for net, state in zip(networks, before, strict=True):
        assert all(torch.equal(net.state_dict()[key], state[key]) for key in state)
    assert modes == [net.training for net in networks]


def test_the_head_learns_over_rounds(networks):
    method = method_of(networks)
    first = copy.deepcopy(method._contrast._head.state_dict())
    method.make(LABELS, Randomness(0, 1))
    assert not torch.equal(
        method._contrast._head.state_dict()["first.weight"], first["first.weight"]
    )
    steps = float(method._contrast._adam.state_dict()["state"][0]["step"])
    method.make(LABELS, Randomness(0, 2))
    assert method._contrast._adam.state_dict()["state"][0]["step"] == 2 * steps == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"synthesis__features": "some"}, "no features is called 'some'"),
        ({"synthesis__temperature": 0}, "temperature is 0.0"),
        ({"synthesis__negatives": 0}, "negatives is 0; give 1 or more"),
        (only(), "lambda_adv, lambda_bn, lambda_oh, lambda_cr are all 0"),
    ],
)
def test_wrong_constants_are_said_in_one_line(changes, message):
    with pytest.raises(UserError) as caught:
        tiny(**{**TINY, **changes})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_processes_are_refused(networks):
    with pytest.raises(UserError, match=r"synthesis\.method cmi is for one process"):
        method_of(networks, BatchShard(Workers(0, 2), len(LABELS)))
