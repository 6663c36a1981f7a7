"""The data-free figure: by hand, and whether it ranks networks as held-out real images do."""

from __future__ import annotations

import copy
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate

from ferd_eval.attacks import PGD, Batch, Passes, Threat
from ferd_eval.datasets import load_dataset
from ferd_eval.models.demo import demo_checkpoints
from ferd_train.distillation.teacher import load_teacher
from ferd_train.monitoring.held_out import HeldOutFigures, agreement, spread
from ferd_train.synthesis.image_bank import Bank
from ferd_train.training.seams import Seams
from ferd_train.training.validation import Validation
from tests.train.student_runs import CPU, teacher_of, write_teacher

EPS = Fraction(1, 10)


def measured(students: list[nn.Module], teacher: nn.Module, bank: Bank) -> list[HeldOutFigures]:
    return agreement(students, teacher, bank, eps=EPS, device=CPU.device, seed=3, seams=Seams())


def banked(folder: Path, x: Tensor) -> Bank:
    """Labels are of no account."""
    bank = Bank.create(folder, tuple(x.shape[1:]))
    bank.append(x, *[torch.zeros(len(x), dtype=torch.int64)] * 2)
    return bank


@pytest.mark.parametrize("count", [1, 7, 499, 500, 501, 999, 1000, 5720])
def test_the_images_looked_at_are_spread_evenly(count):
    places = spread(count)
    assert len(places) == min(count, 500)
    assert places[0] >= 0
    assert places[-1] < count
    steps = np.diff(places)
    assert set(steps) <= {count // len(places), count // len(places) + 1}
    assert abs((places[0]) - (count - 1 - places[-1])) <= 1
    if count <= 500:
        assert places.tolist() == list(range(count))


def test_figures_by_hand(tmp_path):
    """Two random networks, images in plain torch; batches make no difference."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3)).eval()
        student = copy.deepcopy(teacher)
        with torch.no_grad():
            for each in student.parameters():
                each.add_(0.05 * torch.randn_like(each))
        x = torch.rand(60, 1, 8, 8)
    bank = banked(tmp_path / "bank", x)
    x = (x * 255).round() / 255
    with torch.no_grad():
        seen, clean = teacher(x).argmax(1), student(x)
    attack = PGD(steps=10, step_size=EPS / 4)
    adv = attack.examples(
        student, Batch(x, seen, torch.arange(60), clean), Threat(EPS), seed=3, passes=Passes()
    )
    with torch.no_grad():
        ours, theirs = student(adv).argmax(1), teacher(adv).argmax(1)
    (found,) = measured([student], teacher, bank)
    assert found.images == 60
    assert found.teacher_holds == pytest.approx(float((theirs == seen).double().mean()))
    for name, agrees in (("clean", clean.argmax(1) == seen), ("pgd", ours == theirs)):
        assert getattr(found, name) == pytest.approx(float(agrees.double().mean()))
        classes = [k for k in range(3) if int((seen == k).sum()) >= 5]
        shares = {k: float(agrees[seen == k].double().mean()) for k in classes}
        assert getattr(found, f"{name}_lowest") == pytest.approx(min(shares.values()))
        assert shares[getattr(found, f"{name}_lowest_in")] == min(shares.values())
    assert 0 < found.pgd < 1  # it is one that tells
    assert found.score == pytest.approx((found.pgd + found.pgd_lowest) / 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ferd_train.training.validation._AT_ONCE", 7)
        again, of_teacher = measured([student, teacher], teacher, bank)
    assert again == found
    assert (of_teacher.clean, of_teacher.pgd) == (1.0, 1.0)


def test_classes_of_few_images_are_not_judged(tmp_path):
    teacher = teacher_of(write_teacher(tmp_path / "teacher.safetensors")).classifier.eval()
    bank = banked(tmp_path / "bank", torch.rand(4, 1, 8, 8))
    (found,) = measured([teacher], teacher, bank)
    assert (found.clean_lowest, found.pgd_lowest_in) == (None, None)
    assert found.score == found.pgd == 1.0


def made_images(teacher: nn.Module, count: int, rate: float, steps: int) -> Tensor:
    """Images of classes asked for, by descent on pixels alone: smooth at first."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.randn(count, 1, 7, 7, generator=generator)
    z = interpolate(coarse, size=28, mode="bilinear").requires_grad_()
    adam = torch.optim.Adam([z], lr=rate)
    for _ in range(steps):
        loss = cross_entropy(teacher(torch.sigmoid(2 * z)), torch.arange(count) % 10)
        adam.zero_grad()
        loss.backward()
        adam.step()
    return torch.sigmoid(2 * z).detach()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rate", "steps", "least", "most"),
    [(0.2, 15, 0.5, 1.0), (0.03, 15, 0.0, 0.5)],
    ids=["sturdy images", "fragile images"],
)
def test_it_ranks_networks_as_real_images_do(rate, steps, least, most, tmp_path, real_ranking):
    """The packaged teacher with more and more noise on its weights."""
    teacher, students, real = real_ranking()
    bank = banked(tmp_path / "bank", made_images(teacher, 50, rate, steps))
    found = measured(students, teacher, bank)
    assert least <= found[0].teacher_holds <= most
    assert spearmanr([each.score for each in found], real).statistic >= 0.8
    assert spearmanr([each.pgd for each in found], real).statistic >= 0.9


@pytest.fixture(scope="module")
def real_ranking() -> Callable[[], tuple[nn.Module, list[nn.Module], list[float]]]:
    """Teacher, noisy copies, and their accuracy on real images under PGD-10, measured once."""
    with demo_checkpoints() as files:
        teacher = load_teacher(files[0], 28).classifier.eval()
    demo = load_dataset("demo", None, split="test")
    validation = Validation(demo, np.arange(len(demo))[::16], EPS, CPU.device, 0)
    students, real = [], []
    for noise in (0.0, 0.15, 0.3, 0.45, 0.6):
        student = copy.deepcopy(teacher)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for each in student.parameters():
                if each.dim() > 1:
                    each.add_(noise * each.std() * torch.randn(each.shape, generator=generator))
        students.append(student)
        real.append(validation.figures(student, Seams()).pgd)
    return lambda: (teacher, students, real)
