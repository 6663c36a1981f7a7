"""The epoch against a plain implementation of the specification's loop, and what each switch does.

The reference takes from the project the parts that have tests of their own (generator, losses of
the generator, divergences, crops, keyed noise) and writes the loop around them anew. The run it is
compared with folds no batch norms: its rounding would turn signs of gradients near 0, and
`test_folding.py` has what folding may change.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ferd_eval.attacks import KeyedRng
from ferd_eval.models import build_architecture
from ferd_train.distillation.trainer import StudentTraining
from ferd_train.losses.divergence import kl, kl_from_uniform
from ferd_train.recipes.student import StudentRecipe
from ferd_train.synthesis.components.generator import Generator
from ferd_train.synthesis.components.generator_losses import GeneratorObjective
from ferd_train.synthesis.image_bank import Bank
from ferd_train.training.augmentation import crop_and_flip
from ferd_train.training.seeds import Randomness
from tests.train.student_runs import (
    CPU,
    bank,
    figures,
    same_weights,
    teacher_of,
    tiny,
    train,
    weights,
    write_teacher,
)

pytestmark = pytest.mark.usefixtures("same_code")

K = 10
PAPER = {"variant": "paper", "epochs": 4, "distillation__steps": 3}
RELEASE = {"variant": "release", "epochs": 4, "synthesis__steps": 4}
ALL_TAUGHT = {"held_out__share": 0.0}  # which the other variants have by themselves
CASES = {
    "paper": PAPER,
    "release": RELEASE,
    "ferd": {"epochs": 4, **ALL_TAUGHT},
    "own images": {
        "synthesis__renew": False,
        "synthesis__attacked": 0.4,
        "epochs": 4,
        **ALL_TAUGHT,
    },
    "smoothed": {**PAPER, "reweighting__smoothing": 0.4, "seed": 3},
    "inverse-accuracy": {**PAPER, "reweighting__strategy": "inverse-accuracy", "warmup": 2},
    "no-reweight": {
        "ablation": "no-reweight",
        "warmup": 0,
        "epochs": 2,
        **ALL_TAUGHT,
    },
}


@pytest.fixture(scope="module")
def ten_classes(tmp_path_factory) -> Path:
    """More classes than images in a batch, so that some are absent from each."""
    return write_teacher(tmp_path_factory.mktemp("ten") / "teacher.safetensors", num_classes=K)


def predict(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network.eval()(x)


def climb(
    network: nn.Module, x: Tensor, start: Tensor, objective, steps: int, step: float, r: float
):
    """Signed gradient steps inside the box around x."""
    network.eval()
    adv = start
    for _ in range(steps):
        leaf = adv.clone().requires_grad_()
        (slope,) = torch.autograd.grad(objective(network(leaf)).sum(), leaf)
        adv = adv + step * slope.sign()
        adv = torch.maximum(torch.minimum(adv, (x + r).clamp(max=1)), (x - r).clamp(min=0))
    return adv


def crop(recipe: StudentRecipe, x: Tensor, seed: int) -> Tensor:
    return crop_and_flip(
        x,
        KeyedRng(seed, "augment", torch.arange(len(x))),
        recipe.augmentation.crop_padding,
        recipe.augmentation.flip,
    )


class Reference:
    """Algorithm 1, from shared/spec/ferd.md."""

    def __init__(self, recipe: StudentRecipe, teacher: nn.Module) -> None:
        self.recipe, self.teacher = recipe, teacher.to(memory_format=torch.channels_last)
        with torch.random.fork_rng():
            torch.manual_seed(Randomness(recipe.seed, 0).seed("student"))
            made = build_architecture(recipe.arch, num_classes=K, in_channels=1)
            self.student = made.build().to(memory_format=torch.channels_last)
        self.sgd = torch.optim.SGD(
            self.student.parameters(), lr=1.0, momentum=0.9, weight_decay=5e-4
        )
        self.images, self.labels = torch.zeros(0, 1, 8, 8), torch.zeros(0, dtype=torch.int64)
        self.d = [0.0] * K
        self.p = [1 / K] * K
        self.measured: list[dict] = []
        self.generator: Generator | None = None

    def epoch(self, number: int) -> None:
        r, random = self.recipe, Randomness(self.recipe.seed, number)
        p = torch.tensor(self.p, dtype=torch.float64)
        y = torch.multinomial(p, r.batch_size, replacement=True, generator=random.stream("labels"))
        kept, last, step = self.synthesise(y, random)
        self.images = torch.cat([self.images, (kept * 255).round() / 255])
        self.labels = torch.cat([self.labels, y])
        used = list(self.p)
        self.reweight(kept if r.reweighting.measured_on == "kept" else last, y, random, number)
        lr = r.distillation.lr * (1 + math.cos(math.pi * (number - 1) / r.epochs)) / 2
        loss = self.distil(random, lr) if number > r.warmup else None
        self.measured.append({"p": used, "y": y, "d": list(self.d), "lr": lr, "loss": loss})
        self.measured[-1]["kept_step"] = step

    def synthesise(self, y: Tensor, random: Randomness) -> tuple[Tensor, Tensor, int]:
        made = self.recipe.synthesis
        if made.renew or self.generator is None:
            stream = (random if made.renew else Randomness(random.run, 0)).stream("generator")
            self.generator = Generator((1, 8, 8), stream, latent=made.latent, width=made.width)
        generator = self.generator
        z = torch.randn(len(y), made.latent, generator=random.stream("latents")).requires_grad_()
        groups = [
            {"params": list(generator.parameters()), "lr": made.lr},
            {"params": [z], "lr": made.latent_lr},
        ]
        adam = torch.optim.Adam(groups, betas=(0.5, 0.999))
        objective = GeneratorObjective(
            self.teacher.eval(),
            self.student.eval(),
            made.term_weights,
            bottleneck=made.bottleneck,
            adversarial=made.adversarial,
            match_student=made.match_student,
        )
        noise = random.stream("bottleneck")
        seen = []
        for step in range(1, made.steps + 1):
            plain = generator(z)
            augmented = crop(self.recipe, plain, random.seed("augment images", step))
            viewed = augmented
            if made.attacked:
                viewed = augmented + (self.attacked(augmented, y) - augmented).detach()
            loss, _ = objective(viewed, y, noise)
            seen.append((loss.item(), step, plain.detach().clone()))
            adam.zero_grad()
            loss.backward()
            adam.step()
        self.student.zero_grad()
        _, best, kept = min(seen, key=lambda each: each[:2])
        return kept, augmented.detach(), best

    def attacked(self, x: Tensor, y: Tensor) -> Tensor:
        """Two of five rows after a step of ε up the teacher's loss."""
        assert self.recipe.synthesis.attacked == 0.4
        rows = [row for row in range(len(x)) if (row + 1) * 2 // 5 > row * 2 // 5]
        leaf = x.detach().clone().requires_grad_()
        (slope,) = torch.autograd.grad(cross_entropy(self.teacher(leaf), y, reduction="sum"), leaf)
        moved = x.detach().clone()
        moved[rows] = (moved + float(self.recipe.eps) * slope.sign()).clamp(0, 1)[rows]
        return moved

    def reweight(self, x: Tensor, y: Tensor, random: Randomness, number: int) -> None:
        asked, r = self.recipe.reweighting, float(self.recipe.eps)
        if asked.strategy == "uniform":
            return
        noise = KeyedRng(random.seed("margins"), "pgd", torch.arange(len(x)))
        start = (x + noise.uniform((1, 8, 8), x.dtype) * (2 * r) - r).clamp(0, 1)
        adv = climb(
            self.teacher,
            x,
            start,
            lambda logits: cross_entropy(logits, y, reduction="none"),
            asked.attack_steps,
            float(asked.step_size),
            r,
        )
        logits = predict(self.teacher, adv).double()
        of_class: dict[int, list[float]] = {}
        for row, label in zip(logits.tolist(), y.tolist(), strict=True):
            margin = row[label] - max(v for j, v in enumerate(row) if j != label)
            value = -margin if asked.strategy.startswith("margin") else float(margin <= 0)
            of_class.setdefault(label, []).append(value)
        share = asked.smoothing if number > 1 else 0.0
        for label, values in of_class.items():
            self.d[label] = share * self.d[label] + (1 - share) * sum(values) / len(values)
        raw = {
            "margin-softmax": lambda d: math.exp(d / asked.temperature),
            "margin-minmax": lambda d: (
                0.05 + 0.15 * (d - min(self.d)) / (max(self.d) - min(self.d))
            ),
            "inverse-accuracy": lambda d: 1 / max(0.05, 1 - d),
        }[asked.strategy]
        self.p = [raw(d) / sum(map(raw, self.d)) for d in self.d]

    def distil(self, random: Randomness, lr: float) -> float:
        r, losses = self.recipe, []
        draws = random.stream("draws")
        for group in self.sgd.param_groups:
            group["lr"] = lr
        for step in range(r.distillation.steps):
            place = torch.randint(len(self.images), (r.batch_size,), generator=draws)
            x = crop(r, self.images[place], random.seed("augment draws", step))
            target = predict(self.teacher, x)
            noise = KeyedRng(random.seed("utae", step), "utae", torch.arange(len(x)))
            adv = climb(
                self.teacher if r.loss.network == "teacher" else self.student,
                x,
                (x + 0.001 * noise.normal((1, 8, 8), x.dtype)).clamp(0, 1),
                lambda logits, target=target: (
                    kl(target, logits) - r.loss.gamma * kl_from_uniform(logits)
                ),
                r.loss.attack_steps,
                float(r.loss.step_size),
                float(r.eps),
            )
            self.student.train()
            clean, moved = self.student(x), self.student(adv)

            def part(logits: Tensor, target: Tensor = target) -> Tensor:
                soft = -(target.softmax(1) * logits.log_softmax(1)).sum(1).mean()
                own = -(target.softmax(1) * target.log_softmax(1)).sum(1).mean()
                return soft - own if r.loss.divergence == "kl" else soft

            weights_ = (r.loss.clean_weight, r.loss.adversarial_weight)
            loss = weights_[0] * part(clean) + weights_[1] * part(moved)
            self.sgd.zero_grad()
            loss.backward()
            self.sgd.step()
            losses.append(loss.item())
        return sum(losses) / len(losses)


@pytest.mark.parametrize("case", CASES)
def test_the_loop_is_the_specifications(case, ten_classes, tmp_path, monkeypatch):
    monkeypatch.setattr("ferd_train.training.folding._folded", lambda network: (network, []))
    recipe = tiny(**CASES[case])
    train(recipe, ten_classes, tmp_path / "run")
    reference = Reference(recipe, teacher_of(ten_classes).classifier)
    for number in range(1, recipe.epochs + 1):
        reference.epoch(number)
    logs = figures(tmp_path / "run")
    assert len(logs) == recipe.epochs
    for number, (log, expected) in enumerate(zip(logs, reference.measured, strict=True), 1):
        counts = torch.bincount(expected["y"], minlength=K).tolist()
        assert log["class_counts"] == counts
        assert log["class_weights"] == pytest.approx(expected["p"], rel=1e-4)
        assert log["vulnerability"] == pytest.approx(expected["d"], rel=1e-4, abs=1e-5)
        assert log["lr"] == pytest.approx(expected["lr"])
        assert log["kept_step"] == expected["kept_step"]
        assert log["bank"] == number * recipe.batch_size
        if number <= recipe.warmup:
            assert log["student_loss"] is None
        else:
            assert log["student_loss"] == pytest.approx(expected["loss"], rel=1e-4, abs=1e-6)
    stored = torch.frombuffer(bytearray(bank(tmp_path / "run")["images.u8"]), dtype=torch.uint8)
    apart = (reference.images.flatten() * 255).round() - stored
    assert float(apart.abs().max()) <= 1  # a rounding at most
    learnt, expected_weights = weights(tmp_path / "run"), reference.student.state_dict()
    assert learnt.keys() == expected_weights.keys()
    for key, tensor in learnt.items():
        torch.testing.assert_close(tensor, expected_weights[key], rtol=1e-3, atol=1e-5, msg=key)
    # The case is one that tells: classes were absent, and weights moved where they may.
    assert any(0 in log["class_counts"] for log in logs)
    assert (logs[-1]["class_weights"] != logs[0]["class_weights"]) == (case != "no-reweight")


def test_the_kept_batch_is_often_not_the_last(ten_classes, tmp_path):
    """Else the reference could not tell the best from the last."""
    train(tiny(**CASES["ferd"], synthesis__steps=6), ten_classes, tmp_path / "run")
    assert len({log["kept_step"] for log in figures(tmp_path / "run")}) > 1


def outcome_of(recipe: StudentRecipe, teacher: Path, out: Path) -> Path:
    train(recipe, teacher, out)
    return out


SHORT = {"epochs": 2, "warmup": 1}
IMAGES_ALONE = {"epochs": 1, "warmup": 0, "distillation__steps": 1}


@pytest.fixture(scope="module")
def all_terms(teacher_file, tmp_path_factory) -> Path:
    return outcome_of(tiny(**IMAGES_ALONE), teacher_file, tmp_path_factory.mktemp("on") / "run")


@pytest.mark.parametrize("term", ["adv", "bn", "oh", "uni"])
def test_a_generator_term_moves_the_images_when_on_and_is_not_there_when_off(
    term, all_terms, teacher_file, tmp_path
):
    on = tiny(**IMAGES_ALONE)
    off, more = (on.with_changes({f"synthesis.lambda_{term}": weight}) for weight in (0, 50))
    runs = [
        outcome_of(off, teacher_file, tmp_path / "without"),
        all_terms,
        outcome_of(more, teacher_file, tmp_path / "more"),
    ]
    assert [term in figures(run)[0]["generator_terms"] for run in runs] == [False, True, True]
    assert len({bank(run)["images.u8"] for run in runs}) == 3
    # What belongs to the term alone changes nothing when it is off, and something when it is on.
    inner = {
        "adv": {"synthesis__adversarial": "decoupled"},
        "bn": {"synthesis__match_student": True},
        "uni": {"synthesis__bottleneck__mask_scale": "raw"},
    }
    if term in inner:
        for name, recipe, run in (("off", off, runs[0]), ("on", on, runs[1])):
            dotted = {key.replace("__", "."): value for key, value in inner[term].items()}
            changed = outcome_of(recipe.with_changes(dotted), teacher_file, tmp_path / name)
            same = bank(changed)["images.u8"] == bank(run)["images.u8"]
            assert same == (name == "off")


def test_student_terms_and_gamma(teacher_file, tmp_path):
    """λ1, λ2 and γ each move the student when on; UTAEs are nothing to it where λ2 = 0."""
    whole = tiny(**SHORT, synthesis__steps=1)
    changes = {
        "whole": {},
        "no gamma": {"loss.gamma": 0},
        "more gamma": {"loss.gamma": 5},
        "clean alone": {"loss.adversarial_weight": 0},
        "moved alone": {"loss.clean_weight": 0},
        "nearer": {"loss.attack_steps": 1},
        "clean alone, nearer": {"loss.adversarial_weight": 0, "loss.attack_steps": 1},
    }
    runs = {
        name: outcome_of(whole.with_changes(each), teacher_file, tmp_path / name)
        for name, each in changes.items()
    }
    names = list(runs)
    same = {
        (a, b)
        for i, a in enumerate(names)
        for b in names[i + 1 :]
        if same_weights(runs[a], runs[b])
    }
    assert same == {("clean alone", "clean alone, nearer")}
    # The bank is made before the student's first step, and both epochs' images are in it.
    first = {bank(run)["images.u8"] for run in runs.values()}
    assert len(first) == 1


def test_the_student_sees_two_batches_a_step_the_clean_one_first(teacher_file, tmp_path):
    recipe = tiny(epochs=3, warmup=1)
    training = StudentTraining(recipe, teacher_of(teacher_file), CPU.device)
    training.begin(tmp_path / "bank")
    seen: list[Tensor] = []

    def look(module: nn.Module, arguments: tuple[Tensor]) -> None:
        if module.training:
            assert all(each.training for each in module.modules())
            assert all(parameter.requires_grad for parameter in module.parameters())
            seen.append(arguments[0].clone())

    training.student.register_forward_pre_hook(look)
    for number in range(1, 4):
        training.epoch()
        assert len(seen) == max(0, number - 1) * 2 * recipe.distillation.steps
    for clean, moved in zip(seen[::2], seen[1::2], strict=True):
        levels = clean * 255  # from the bank, where they are bytes; or zeros of the crop
        torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
        apart = (moved - clean).abs().amax()
        assert 0 < float(apart) <= float(recipe.eps) + 1e-6
    counts = [b for n, b in training.student.named_buffers() if n.endswith("tracked")]
    assert {int(count) for count in counts} == {len(seen)}


def test_the_bank_is_drawn_from_evenly_over_all_epochs(teacher_file, tmp_path, monkeypatch):
    places: list[Tensor] = []
    draw = Bank.draw

    def noted(self, *arguments):
        answer = draw(self, *arguments)
        places.append(answer[2])
        return answer

    monkeypatch.setattr(Bank, "draw", noted)
    train(
        tiny(epochs=4, warmup=3, distillation__steps=60, loss__attack_steps=1),
        teacher_file,
        tmp_path / "run",
    )
    drawn = torch.bincount(torch.cat(places), minlength=32)
    assert len(drawn) == 32
    # Binomial(480, 1/32): mean 15, spread 3.8.
    assert 2 <= int(drawn.min()) <= int(drawn.max()) <= 34
    by_epoch = drawn.reshape(4, 8).sum(1)
    assert int((by_epoch - 120).abs().max()) < 48


def test_the_last_augmented_batch_is_measured_by_the_release(ten_classes, tmp_path):
    """The strategy otherwise the same, so that what is measured on is all that differs."""
    for where in ("kept", "last"):
        recipe = tiny(**SHORT, reweighting__measured_on=where)
        train(recipe, ten_classes, tmp_path / where)
    kept, last = (figures(tmp_path / where) for where in ("kept", "last"))
    assert kept[0]["vulnerability"] != last[0]["vulnerability"]
    assert kept[0]["class_counts"] == last[0]["class_counts"]
    assert kept[0]["generator_loss"] == last[0]["generator_loss"]


def test_clean_losses_weigh_what_the_teacher_says_of_the_images(ten_classes, tmp_path):
    """The log's own record of the teacher's loss is the oracle; τ is 1, and the cap binds."""
    changes = {"reweighting__strategy": "clean-loss", "reweighting__temperature": 1.0}
    for where in ("kept", "last"):
        recipe = tiny(**SHORT, **changes, reweighting__measured_on=where, reweighting__cap=1.5)
        train(recipe, ten_classes, tmp_path / where)
    kept, last = (figures(tmp_path / where) for where in ("kept", "last"))
    known = [0.0 if each is None else each for each in kept[0]["teacher_loss"]]
    assert kept[0]["vulnerability"] == pytest.approx(known, rel=1e-5)
    assert kept[0]["vulnerability"] != last[0]["vulnerability"]
    weights = torch.tensor(known, dtype=torch.float64).softmax(0)
    raised = weights + (weights.max() - 1.5 * weights.min()) / 0.5
    expected = (raised / raised.sum()).tolist()
    assert kept[1]["class_weights"] == pytest.approx(expected, rel=1e-5)
    assert max(expected) / min(expected) == pytest.approx(1.5)


@pytest.mark.parametrize("labels", ["asked", "teacher"])
def test_images_are_taught_as_what_they_are_asked_or_seen_to_be(
    labels, ten_classes, tmp_path, monkeypatch
):
    drawn: list[tuple[Tensor, Tensor]] = []
    draw = Bank.draw

    def noted(self, *arguments):
        answer = draw(self, *arguments)
        drawn.append((answer[1], answer[2]))
        return answer

    monkeypatch.setattr(Bank, "draw", noted)
    train(tiny(**SHORT, labels=labels), ten_classes, tmp_path)
    count = figures(tmp_path)[-1]["bank"]
    asked, seen = (
        Bank.open(tmp_path / "bank", count, each).read_labels() for each in ("asked", "teacher")
    )
    own, other = (asked, seen) if labels == "asked" else (seen, asked)
    taught = torch.cat([labels_B for labels_B, _ in drawn]).numpy()
    places = torch.cat([place_B for _, place_B in drawn]).numpy()
    assert (taught == own[places]).all()
    assert (taught != other[places]).any()
    logs = figures(tmp_path)
    for column, classes in (("class_counts", asked), ("seen_counts", seen)):
        total = np.sum([log[column] for log in logs], axis=0)
        assert total.tolist() == np.bincount(classes, minlength=10).tolist()


def test_teacher_and_global_randomness_are_as_before(ten_classes, tmp_path):
    for variant in ("paper", "release"):
        recipe = tiny(variant=variant, epochs=2)
        teacher = teacher_of(ten_classes)
        network = teacher.classifier
        before = {key: value.clone() for key, value in network.state_dict().items()}
        modes = [module.training for module in network.modules()]
        flags = [parameter.requires_grad for parameter in network.parameters()]
        torch.manual_seed(11)
        state = torch.get_rng_state()
        from ferd_train.distillation.run import train_student

        train_student(recipe, teacher, tmp_path / variant, device=CPU)
        assert torch.equal(torch.get_rng_state(), state)
        assert modes == [module.training for module in network.modules()] == [False] * len(modes)
        assert flags == [parameter.requires_grad for parameter in network.parameters()]
        assert not any(flags)
        assert all(parameter.grad is None for parameter in network.parameters())
        after = network.state_dict()
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_global_seed_does_not_matter_and_the_recipes_does(teacher_file, tmp_path):
    for seed in (1, 2):
        torch.manual_seed(seed)
        train(tiny(**SHORT), teacher_file, tmp_path / f"global-{seed}")
    train(tiny(**SHORT, seed=1), teacher_file, tmp_path / "seed-1")
    assert same_weights(tmp_path / "global-1", tmp_path / "global-2")
    assert not same_weights(tmp_path / "global-1", tmp_path / "seed-1")
