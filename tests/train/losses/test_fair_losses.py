"""Losses that treat classes unequally, against loops written from their papers and public code."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ferd_eval.attacks import Batch, Threat, frozen
from ferd_eval.errors import UserError
from ferd_train.losses.absld import ABSLDRecipe, relative_gap
from ferd_train.losses.class_aware import ClassTally
from ferd_train.losses.dafa import DAFARecipe, distance_aware_weights
from ferd_train.losses.divergence import class_mean_probabilities, pairwise_gap
from ferd_train.losses.fair_ard import FairARDRecipe, fair_weights
from ferd_train.losses.ikl import IKLRecipe
from ferd_train.losses.rslad import RSLADRecipe
from ferd_train.losses.wat import WATRecipe
from ferd_train.training.process_group import WHOLE
from tests.conftest import TinyNet
from tests.train.student_runs import figures, tiny, train

pytestmark = pytest.mark.usefixtures("same_code")

B, K = 9, 3
THREAT = Threat(Fraction(1, 10))
WALK = {"attack_steps": 4, "step_size": Fraction(1, 40)}
CLASS_AWARE = {
    "fair-ard": FairARDRecipe,
    "absld": ABSLDRecipe,
    "dafa": DAFARecipe,
    "wat": WATRecipe,
}


@pytest.fixture
def networks():
    teacher, student = (TinyNet(num_classes=K, seed=seed).double() for seed in (0, 1))
    return teacher.eval().requires_grad_(False), student.eval()


def batch_of(teacher, seed: int = 0, labels=None) -> Batch:
    x = torch.rand(B, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    labels = torch.arange(B) % K if labels is None else labels
    with torch.no_grad():
        return Batch(x, labels, torch.arange(B), teacher(x))


def divergence(p_logits, q_logits) -> float:
    """Σ p log(p/q) of one image."""
    p, q = (torch.exp(z) / torch.exp(z).sum() for z in (p_logits, q_logits))
    return float((p * (p / q).log()).sum())


@pytest.mark.parametrize("recipe", CLASS_AWARE.values())
def test_at_first_each_is_rslad(networks, recipe):
    teacher, student = networks
    batch = batch_of(teacher)
    ours, plain = recipe(**WALK).build(K), RSLADRecipe(**WALK).build(K)
    with frozen(student):
        moved = [loss.examples(teacher, student, batch, THREAT, 3) for loss in (ours, plain)]
    assert torch.equal(*moved)
    losses = [loss(student, batch, moved[0]).item() for loss in (ours, plain)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)


@pytest.mark.parametrize("weights", [(1 / 6, 5 / 6), (5 / 6, 1 / 6)])
def test_weights_and_temperatures_are_those_of_the_images_class(networks, weights):
    teacher, student = networks
    batch = batch_of(teacher)
    adv = (batch.x_BCHW + 0.03).clamp(0, 1)
    recipe = ABSLDRecipe(clean_weight=weights[0], adversarial_weight=weights[1])
    loss = recipe.build(K)
    loss.class_weight_K = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    loss.clean_temperature_K = torch.tensor([0.5, 2.0, 4.0], dtype=torch.float64)
    loss.adv_temperature_K = torch.tensor([3.0, 1.0, 0.7], dtype=torch.float64)
    with torch.no_grad():
        ours = loss(student, batch, adv).item()
        clean, moved = student(batch.x_BCHW), student(adv)
    expected = 0.0
    for n in range(B):
        k = n % K
        target = batch.clean_logits_BK[n]
        each = weights[0] * divergence(target / loss.clean_temperature_K[k], clean[n])
        each += weights[1] * divergence(target / loss.adv_temperature_K[k], moved[n])
        expected += loss.class_weight_K[k].item() * each / B
    assert ours == pytest.approx(expected, rel=1e-9)


# Fair-ARD


def test_fair_weights_are_the_formula():
    kappa = torch.tensor([2.0, 4.0, 8.0], dtype=torch.float64)
    inverse = [1 / 4, 1 / 16, 1 / 64]
    scale = 3 / sum(inverse)
    expected = [min(max(scale * each, 5 / 6), 5 / 2) for each in inverse]
    assert fair_weights(kappa, 2.0, 5 / 6, 5 / 2).tolist() == pytest.approx(expected)
    free = fair_weights(kappa, 1.0, 0.0, 100.0)
    assert free.mean().item() == pytest.approx(1)
    assert free.tolist() == pytest.approx([12 / 7, 6 / 7, 3 / 7])
    even = fair_weights(torch.full((4,), 3.0).double(), 2.0, 5 / 6, 5 / 2)
    assert even.tolist() == [1.0] * 4


def test_a_class_that_withstands_nothing_has_a_finite_weight():
    """The public code divides by 0 there, and trains on with nan."""
    weights = fair_weights(torch.tensor([0.0, 5.0, 5.0]).double(), 2.0, 5 / 6, 5 / 2)
    assert weights.tolist() == pytest.approx([5 / 2, 5 / 6, 5 / 6])
    none = fair_weights(torch.zeros(3).double(), 2.0, 5 / 6, 5 / 2)
    assert none.tolist() == [1.0] * 3


def test_steps_withstood_are_counted_by_class(networks):
    teacher, student = networks
    with torch.no_grad():  # so that the student is right at times
        labels = student(batch_of(teacher).x_BCHW).argmax(1)
    labels[::4] = (labels[::4] + 1) % K
    batch = batch_of(teacher, labels=labels)
    loss = FairARDRecipe(**WALK, lowest=0.0, highest=100.0).build(K)
    with frozen(student):
        adv = loss.examples(teacher, student, batch, THREAT, 3)
    loss(student, batch, adv)
    loss.end_epoch()

    right = torch.zeros(B, dtype=torch.float64)
    for steps in range(4):  # iterates x_0 to x_3, each the result of a shorter walk
        if steps:
            walk = RSLADRecipe(attack_steps=steps, step_size=Fraction(1, 40)).build(K)
            with frozen(student):
                x = walk.examples(teacher, student, batch, THREAT, 3)
        else:
            x = batch.x_BCHW  # x_0 is this but for noise of a thousandth
        with frozen(student), torch.no_grad():
            right += student(x).argmax(1) == labels
    kappa = torch.stack([right[labels == k].mean() for k in range(K) if (labels == k).any()])
    present = [k for k in range(K) if (labels == k).any()]
    assert len({*kappa.tolist()}) > 1
    expected = (kappa.clamp(min=0.01) ** -2) / (kappa.clamp(min=0.01) ** -2).mean()
    assert loss.class_state()["weight"][present].tolist() == pytest.approx(expected.tolist())


def test_each_step_is_counted_once(networks):
    teacher, student = networks
    batch = batch_of(teacher)
    loss = FairARDRecipe(**WALK).build(K)
    for seed in (1, 2, 3):
        with frozen(student):
            adv = loss.examples(teacher, student, batch, THREAT, seed)
        loss(student, batch, adv)
        assert len(loss._counting.right) == 4
    kappa, seen = loss.tally.take()
    assert seen.all()
    assert 0 <= kappa.min() <= kappa.max() <= 4


# ABSLD


def test_temperatures_follow_the_gaps(networks):
    teacher, student = networks
    loss = ABSLDRecipe(**WALK).build(K)
    clean, moved = torch.zeros(K), torch.zeros(K)
    for seed in (0, 1):
        batch = batch_of(teacher, seed)
        with frozen(student):
            adv = loss.examples(teacher, student, batch, THREAT, seed)
        loss(student, batch, adv)
        with torch.no_grad():
            for total, x in ((clean, batch.x_BCHW), (moved, adv)):
                for n, logits in enumerate(student(x)):
                    total[n % K] -= float(logits.log_softmax(0)[n % K]) / (2 * B / K)
    loss.end_epoch()
    found = loss.class_state()
    for name, risk in (("clean temperature", clean), ("adversarial temperature", moved)):
        gap = risk - risk.mean()
        expected = 1 - 0.1 * gap / gap.abs().max()
        assert found[name].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
        assert found[name].argmin() == risk.argmax()  # the class that is worst gets the sharpest


def test_temperatures_stay_within_their_bounds():
    loss = ABSLDRecipe(rate=10.0).build(K)
    logits = torch.tensor([[5.0, 0, 0], [5.0, 0, 0], [5.0, 0, 0]])
    loss.observe(torch.arange(3), logits, logits, None)
    loss.end_epoch()
    assert loss.class_state()["clean temperature"].tolist() == pytest.approx([5.0, 0.5, 0.5])


def test_gaps_of_equal_classes_are_nothing():
    assert relative_gap(torch.full((4,), 2.0)).tolist() == [0.0] * 4
    for risk in (0.1, 0.7, 2.7):  # three of these have a mean that is rounded
        assert relative_gap(torch.full((3,), risk).double()).tolist() == [0.0] * 3
    tiny_gap = relative_gap(torch.tensor([1.0, 1.0 + 1e-6]).double())
    assert tiny_gap.tolist() == pytest.approx([-1, 1])
    assert relative_gap(torch.zeros(0)).tolist() == []
    assert relative_gap(torch.tensor([1.0, 2.0, 6.0])).tolist() == pytest.approx(
        [-2 / 3, -1 / 3, 1]
    )


def test_the_clean_and_the_attacked_labels_are_not_one_tensor(networks):
    """In the public code both names are one tensor, which both temperatures divide."""
    teacher, student = networks
    batch = batch_of(teacher)
    before = batch.clean_logits_BK.clone()
    loss = ABSLDRecipe(clean_weight=0.0, adversarial_weight=1.0).build(K)
    loss.clean_temperature_K = torch.full((K,), 7.0, dtype=torch.float64)
    plain = RSLADRecipe(clean_weight=0.0, adversarial_weight=1.0).build(K)
    values = [each(student, batch, batch.x_BCHW).item() for each in (loss, plain)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    assert torch.equal(batch.clean_logits_BK, before)


def test_the_attack_moves_away_from_the_softened_labels(networks):
    teacher, student = networks
    batch = batch_of(teacher)
    loss = ABSLDRecipe(**WALK).build(K)
    loss.adv_temperature_K = torch.full((K,), 0.5, dtype=torch.float64)
    sharper = Batch(batch.x_BCHW, batch.labels_B, batch.indices_B, batch.clean_logits_BK * 2)
    plain = RSLADRecipe(**WALK).build(K)
    with frozen(student):
        ours = loss.examples(teacher, student, batch, THREAT, 5)
        theirs = plain.examples(teacher, student, sharper, THREAT, 5)
        others = plain.examples(teacher, student, batch, THREAT, 5)
    assert torch.equal(ours, theirs)
    assert not torch.equal(ours, others)


# DAFA


def test_distance_aware_weights_are_the_formula():
    p = torch.tensor([[0.5, 0.4, 0.1], [0.2, 0.7, 0.1], [0.1, 0.0, 0.9]], dtype=torch.float64)
    expected = []
    for i in range(3):
        weight = 1.0
        for j in range(3):
            if i != j:
                sign = 1 if p[i, i] < p[j, j] else -1
                weight += 1.5 * sign * float(p[i, j] * p[j, j])
        expected.append(weight)
    assert distance_aware_weights(p, 1.5).tolist() == pytest.approx(expected)
    assert distance_aware_weights(p, 1.5).argmax() == 0  # the weakest, near a stronger one
    even = torch.full((3, 3), 0.2).double() + 0.4 * torch.eye(3).double()
    assert distance_aware_weights(even, 1.0).tolist() == [1.0] * 3


def test_dafa_decides_after_its_warm_up_and_once(networks):
    teacher, student = networks
    loss = DAFARecipe(**WALK, even_share=0.5).build(K)
    history = []
    for epoch in (1, 2, 3):
        loss.begin_epoch(epoch, 4)
        batch = batch_of(teacher, epoch)
        with frozen(student):
            adv = loss.examples(teacher, student, batch, THREAT, epoch)
        loss(student, batch, adv)
        if epoch == 2:
            with torch.no_grad():
                p = student(adv).softmax(1)
            similarity = torch.stack([p[batch.labels_B == k].mean(0) for k in range(K)])
        loss.end_epoch()
        history.append(loss.class_state()["weight"].clone())
    assert history[0].tolist() == [1.0] * K
    assert torch.allclose(history[1], distance_aware_weights(similarity, 1.0))
    assert history[1].tolist() != [1.0] * K
    assert torch.equal(history[2], history[1])


def test_dafa_leaves_classes_out_that_do_not_come(networks):
    """The others are weighed by one another; not all stay even for it."""
    teacher, student = networks
    loss = DAFARecipe(**WALK, even_share=0.5).build(K)
    batch = batch_of(teacher, labels=2 * (torch.arange(B) % 2))
    loss.begin_epoch(1, 2)
    with frozen(student):
        adv = loss.examples(teacher, student, batch, THREAT, 1)
    loss(student, batch, adv)
    with torch.no_grad():
        p = student(adv).softmax(1)
    first, last = p[batch.labels_B == 0].mean(0), p[batch.labels_B == 2].mean(0)
    sign = 1 if first[0] < last[2] else -1
    loss.end_epoch()
    expected = [1 + sign * float(first[2] * last[2]), 1, 1 - sign * float(last[0] * first[0])]
    assert loss.class_state()["weight"].tolist() == pytest.approx(expected)
    assert expected[0] != 1


@pytest.mark.parametrize(("epochs", "decides"), [(110, 70), (220, 140), (20, 13), (3, 2)])
def test_dafa_decides_at_the_papers_share_of_any_run(epochs, decides):
    """An absolute 70 would leave a run of 20 epochs plain RSLAD, and say nothing."""
    assert DAFARecipe().even_epochs(epochs) == decides
    DAFARecipe().require_epochs(decides - 1, epochs)
    with pytest.raises(UserError, match=f"after epoch {decides} of {epochs}, but warmup is"):
        DAFARecipe().require_epochs(decides, epochs)


# Properties

Shares = st.lists(st.integers(1, 1000), min_size=K, max_size=K)


@given(st.lists(Shares, min_size=K, max_size=K), st.floats(0, 3.99))
def test_distance_aware_weights_are_positive_and_bounded(rows, scale):
    similarity = torch.tensor(rows, dtype=torch.float64)
    similarity /= similarity.sum(1, keepdim=True)
    weights = distance_aware_weights(similarity, scale)
    assert weights.min() > 0
    assert weights.min() >= 1 - scale / 4 - 1e-9
    assert weights.max() <= 1 + scale


def test_the_bound_of_distance_aware_weights_is_reached():
    """Half of a class goes to one hardly weaker: 1 − λ/4 nearly, which is 0 for λ = 4."""
    similarity = torch.tensor([[0.5, 0.5], [0.501, 0.499]], dtype=torch.float64)
    assert distance_aware_weights(similarity, 3.99)[0].item() == pytest.approx(0.0025, abs=3e-3)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=12), st.floats(0, 4))
def test_fair_weights_are_positive_with_mean_one_and_fall_with_kappa(kappas, beta):
    kappa = torch.tensor(kappas, dtype=torch.float64)
    free = fair_weights(kappa, beta, 0.0, 1e20)
    assert free.min() > 0
    assert free.mean().item() == pytest.approx(1)
    held = fair_weights(kappa, beta, 5 / 6, 5 / 2)
    assert 5 / 6 <= held.min() <= held.max() <= 5 / 2
    order = kappa.argsort()
    assert (free[order].diff() <= 1e-9 * free.max()).all()


@settings(deadline=None)
@given(st.lists(st.floats(0, 50), min_size=K, max_size=K), st.integers(1, 60))
def test_temperatures_stay_held_however_long(risks, epochs):
    loss = ABSLDRecipe().build(K)
    for _ in range(epochs):
        # Logits whose cross-entropy to the label is the wanted risk, or log K where less.
        logits = torch.zeros(K, K, dtype=torch.float64)
        logits[range(K), range(K)] = -torch.tensor(risks, dtype=torch.float64)
        loss.observe(torch.arange(K), logits, logits, WHOLE)
        loss.end_epoch()
    found = loss.class_state()["clean temperature"]
    assert 0.5 <= found.min() <= found.max() <= 5
    if len({*risks}) == 1:
        assert found.tolist() == [1.0] * K


# WAT


def logits_of(classes) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), K).double()


def test_weights_grow_with_the_share_lost_under_attack():
    loss = WATRecipe(rate=0.7, highest=1.2).build(K)
    labels, clean = torch.tensor([0, 0, 1, 1, 2, 2]), logits_of([1, 1, 2, 2, 0, 0])
    attacked = [[0, 1, 1, 1, 0, 1], [0, 1, 1, 2, 2, 2], [0, 0, 1, 1, 0, 0]]
    weights = [1.0] * K
    for seen in attacked:
        loss.observe(labels, clean, logits_of(seen), WHOLE)
        loss.end_epoch()
        lost = [sum(s != c for s in seen[2 * c : 2 * c + 2]) / 2 for c in range(K)]
        grown = [
            w * math.exp(0.7 * (e - sum(lost) / K)) for w, e in zip(weights, lost, strict=True)
        ]
        weights = [min(w * K / sum(grown), 1.2) for w in grown]
        assert loss.class_state()["weight"].tolist() == pytest.approx(weights, rel=1e-12)
    assert max(weights) == 1.2


def test_weights_stay_where_all_classes_are_lost_alike():
    loss = WATRecipe().build(K)
    for seen in ([0, 1, 2], [1, 2, 0]):
        loss.observe(torch.arange(K), logits_of(seen), logits_of(seen), WHOLE)
        loss.end_epoch()
        assert loss.class_state()["weight"].tolist() == [1.0] * K


# IKL


def test_weights_of_one_hot_labels_kill_the_pairwise_term():
    """The known fault of FERD's release: with its weights the term and its gradient are 0."""
    generator = torch.Generator().manual_seed(0)
    teacher, logits = torch.randn(2, B, K, generator=generator, dtype=torch.float64)
    logits.requires_grad_()
    labels = torch.arange(B) % K
    one_hot = torch.nn.functional.one_hot(labels, K).double()
    gap = teacher - logits
    differences = (gap[:, :, None] - gap[:, None, :]) ** 2
    as_released = (one_hot[:, :, None] * one_hot[:, None, :] * differences).sum() / 4
    ours = pairwise_gap(teacher, logits, one_hot).sum()
    for dead in (as_released, ours):
        (gradient,) = torch.autograd.grad(dead, logits, retain_graph=True)
        assert dead.item() == 0
        assert not gradient.any()
    means = class_mean_probabilities(teacher, labels)
    (alive,) = torch.autograd.grad(pairwise_gap(teacher, logits, means).sum(), logits)
    assert alive.abs().amax(1).min() > 1e-3


def test_weights_of_ikls_parts_are_those_of_the_parts(networks):
    teacher, student = networks
    batch = batch_of(teacher)
    adv = (batch.x_BCHW + 0.03).clamp(0, 1)

    def value(pairwise: float, crossed: float) -> float:
        recipe = IKLRecipe(pairwise_weight=pairwise, cross_entropy_weight=crossed)
        with torch.no_grad():
            return recipe.build(K)(student, batch, adv).item()

    with torch.no_grad():
        crossed = sum(
            weight * -(batch.clean_logits_BK.softmax(1) * student(x).log_softmax(1)).sum(1).mean()
            for weight, x in ((1 / 6, batch.x_BCHW), (5 / 6, adv))
        ).item()
    assert value(0, 1) == pytest.approx(crossed, rel=1e-12)
    assert value(1, 0) == pytest.approx(value(1, 1) - crossed, rel=1e-9)
    assert value(20, 4) == pytest.approx(20 * value(1, 0) + 4 * crossed, rel=1e-12)
    assert value(1, 0) > 0


def test_the_pairwise_term_of_ikl_is_alive(networks):
    """Its gradient is not that of KL; in the release of FERD one-hot weights kill the term."""
    teacher, student = networks
    batch = batch_of(teacher)
    gradients = {}
    for name, recipe in (("ikl", IKLRecipe), ("rslad", RSLADRecipe)):
        loss = recipe().build(K)(student, batch, batch.x_BCHW)
        gradients[name] = torch.cat(
            [g.flatten() for g in torch.autograd.grad(loss, list(student.parameters()))]
        )
    pairwise = gradients["ikl"] - gradients["rslad"]
    assert pairwise.norm() > 0.1 * gradients["rslad"].norm()


def test_ikl_is_its_equation(networks):
    teacher, student = networks
    batch = batch_of(teacher)
    with torch.no_grad():
        ours = IKLRecipe(clean_weight=1.0, adversarial_weight=0.0).build(K)(
            student, batch, batch.x_BCHW
        )
        theirs = student(batch.x_BCHW)
    p = batch.clean_logits_BK.softmax(1)
    expected = 0.0
    for n in range(B):
        mean = p[batch.labels_B == batch.labels_B[n]].mean(0)
        gap = batch.clean_logits_BK[n] - theirs[n]
        pairs = sum(
            float(mean[j] * mean[k] * (gap[j] - gap[k]) ** 2) for j in range(K) for k in range(K)
        )
        crossed = -float((p[n] * theirs[n].log_softmax(0)).sum())
        expected += (pairs / 4 + crossed) / B
    assert ours.item() == pytest.approx(expected, rel=1e-9)


# Means, runs, mistakes


def test_means_are_those_of_all_batches():
    means = ClassTally(4, columns=2)
    means.add(torch.tensor([[1.0, 2], [3, 4], [5, 6]]), torch.tensor([0, 2, 2]))
    means.add(torch.tensor([[7.0, 8]]), torch.tensor([2]))
    mean, seen = means.take()
    assert mean.tolist() == [[1, 2], [0, 0], [5, 6], [0, 0]]
    assert seen.tolist() == [True, False, True, False]
    assert not means.take()[1].any()


@pytest.mark.parametrize("name", CLASS_AWARE)
def test_classes_that_do_not_come_keep_what_they_had(name):
    loss = CLASS_AWARE[name](**WALK).build(4)
    remembered = {key: torch.full_like(value, 1.25) for key, value in loss.class_state().items()}
    loss.load_class_state(remembered)
    loss.end_epoch()  # nothing came at all
    assert all(value.tolist() == [1.25] * 4 for value in loss.class_state().values())


@pytest.mark.parametrize("name", CLASS_AWARE)
def test_a_run_records_the_state_of_its_classes(name, teacher_file, tmp_path):
    run = train(tiny(epochs=4, loss__name=name), teacher_file, tmp_path / "run").parent
    last = figures(run)[-1]["loss_per_class"]
    assert all(len(values) == 3 for values in last.values())
    assert any(value != 1 for values in last.values() for value in values)
    table = (run / "metrics.csv").read_text().splitlines()[0]
    assert f"loss_per_class.{next(iter(last))}.0" in table


def test_losses_of_one_family_keep_the_weights_of_the_terms():
    even = tiny(loss__name="rslad", loss__clean_weight=0.5, loss__adversarial_weight=0.5)
    for name in (*CLASS_AWARE, "ikl"):
        made = even.with_changes({"loss.name": name}).loss
        assert (made.name, made.clean_weight, made.adversarial_weight) == (name, 0.5, 0.5)
        assert (made.attack_steps, made.step_size) == (2, even.loss.step_size)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("fair-ard", {"beta": -1}, "beta is -1.0"),
        ("fair-ard", {"lowest": 3}, "lowest is 3.0 and highest 2.5; give lowest <= highest"),
        ("absld", {"coldest": 0}, "coldest is 0.0; give 0 < coldest"),
        ("absld", {"coldest": 6}, "coldest is 6.0 and hottest 5.0"),
        ("dafa", {"scale": 4}, "scale is 4.0; give less than 4"),
        ("dafa", {"even_share": 1}, "even_share is 1.0; give 0 <= even_share < 1"),
        ("dafa", {"even_share": 0.3}, "after epoch 1 of 3, but warmup is 1"),
        ("dafa", {"even_share": 0.9}, "after epoch 3 of 3, but warmup is 1"),
        ("wat", {"rate": -1}, "rate is -1.0; give 0 <= rate"),
        ("wat", {"highest": 0.5}, "highest is 0.5; give 1 or more"),
        ("ikl", {"pairwise_weight": -1}, "pairwise_weight is -1.0"),
        ("ikl", {"pairwise_weight": 0, "cross_entropy_weight": 0}, "are both 0"),
        ("dafa", {"clean_weight": 0, "adversarial_weight": 0}, "so the student learns nothing"),
    ],
)
def test_wrong_constants_are_said_in_one_line(name, changes, message):
    with pytest.raises(UserError) as caught:
        tiny(loss__name=name, **{f"loss__{key}": value for key, value in changes.items()})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
