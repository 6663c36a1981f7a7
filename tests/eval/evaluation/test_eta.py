"""The time left, against runs on a clock of our own: which images fall, when, and what each costs.

After a tenth of a run the time it is said to take is within a factor of two of what it takes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from ferd_eval.attacks import Threat, plan_attacks
from ferd_eval.attacks.autoattack.cascade import Cascade
from ferd_eval.evaluation.cost.eta import Remaining
from ferd_eval.runtime.progress import Clock

EPS = Threat("8/255")


@dataclass(frozen=True)
class Network:
    """What a run of it would show.

    Attributes:
        right: share of all images that stand after each attack, and each stage of AutoAttack.
        fallen: what an image that falls costs a search, of what it costs to withstand it.
        cheap: how much longer attacks of one pass take than their passes say.
    """

    right: dict[str, float]
    fallen: float
    cheap: float = 1.0
    images: int = 1000


def after(clean, fgsm, pgd, *stages):
    names = ("clean", "fgsm", "pgd", "cw", "apgd-ce", "apgd-t", "fab-t", "square")
    return dict(zip(names, (clean, fgsm, pgd, pgd, *stages), strict=True))


ROBUST = after(0.84, 0.61, 0.57, 0.55, 0.52, 0.52, 0.52)
NETWORKS = {
    "robust": Network(ROBUST, 0.1),
    "robust, 200 images": Network(ROBUST, 0.1, images=200),
    "robust, cheap attacks eight times as slow": Network(ROBUST, 0.1, cheap=8.0),
    "public, adversarially trained": Network(after(0.67, 0.2, 0.145, 0.14, 0.12, 0.12, 0.12), 0.2),
    "hardly robust": Network(after(0.9, 0.2, 0.05, 0.04, 0.03, 0.03, 0.03), 0.1),
    "undefended": Network(after(0.92, 0.15, 0.0, 0.0, 0.0, 0.0, 0.0), 0.1),
    "undefended, 200 images": Network(after(0.92, 0.15, 0.0, 0.0, 0.0, 0.0, 0.0), 0.1, images=200),
    "undefended, cheap attacks slow": Network(
        after(0.92, 0.15, 0.0, 0.0, 0.0, 0.0, 0.0), 0.1, cheap=3.0
    ),
    "masked gradients": Network(after(0.9, 0.8, 0.7, 0.65, 0.5, 0.5, 0.35), 0.3),
    "at chance": Network(after(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1), 0.1),
}


def told(network, plan, clock_of, measured_wrong, *, measured, unit=128, sample=33):
    """(Seconds gone, seconds said to be left) at each unit, and the seconds of all."""
    rng = np.random.default_rng(0)
    per_pass = 0.002

    def true_cost(attack):
        forward, backward = attack.passes_per_image(10)
        slow = network.cheap if attack.steps <= 1 else 1.0
        return per_pass * slow * (forward + 2 * backward)

    seconds = {
        repr(attack): true_cost(attack) * measured_wrong
        / (network.cheap if attack.steps <= 1 else 1.0)
        for planned in plan
        for attack in planned.attacks
    }  # fmt: skip
    remaining = Remaining(plan, network.images, 10, seconds if measured else None)
    found = rng.binomial(sample, network.right["pgd"])
    remaining.guess(EPS.eps, (found + 0.1) / (sample + 0.2))
    clock, said = Clock(measured), []
    for planned in plan:
        standing = network.images
        for number, attack in enumerate(planned.attacks):
            entering, name = standing, attack.family
            stand = round(network.images * network.right[name])
            remaining.begin(planned, number, entering)
            cascade = isinstance(planned.attack, Cascade)
            for first in range(0, entering, unit):
                these = min(unit, entering - first)
                right = round(stand * (first + these) / entering) - round(stand * first / entering)
                cost = true_cost(attack) * these
                if cascade and number:
                    cost *= (right + network.fallen * (these - right)) / these
                clock_of[0] += cost
                clock.advance(*remaining.spend(planned, number, these, right))
                said.append((clock_of[0], clock.seconds_left))
            standing = stand if cascade else network.images
    return said, clock_of[0]


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("ferd_eval.runtime.progress.time.monotonic", lambda: now[0])
    return now


def assert_near(said, total):
    assert len(said) > 5
    for gone, left in said:
        if gone >= 0.1 * total and left is not None:
            assert 0.5 < (gone + left) / total < 2.0, (gone / total, left / total)
    assert said[-1][1] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("attacks", ["paper", "clean,pgd,aa"])
@pytest.mark.parametrize("wrong", [0.6, 1.0, 1.7])
@pytest.mark.parametrize("name", NETWORKS)
def test_after_a_tenth_the_forecast_is_within_a_factor_of_two(name, wrong, attacks, clock):
    plan = plan_attacks(attacks, [EPS])
    assert_near(*told(NETWORKS[name], plan, clock, wrong, measured=True))


@pytest.mark.parametrize("name", [name for name in NETWORKS if NETWORKS[name].cheap == 1.0])
def test_autoattack_alone_is_foreseen_from_the_first_look(name, clock):
    assert_near(*told(NETWORKS[name], plan_attacks("aa", [EPS]), clock, 1.0, measured=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_passes_tell_it_where_nothing_was_measured(name, clock):
    assert_near(*told(NETWORKS[name], plan_attacks("paper", [EPS]), clock, 1.0, measured=False))


def test_a_profile_expects_no_more_in_a_larger_ball():
    small, large = Threat("2/255"), Threat("8/255")
    plan = plan_attacks("pgd,aa", [small, large])
    by_id = {planned.id: planned for planned in plan}
    remaining = Remaining(plan, 100, 10)
    before = remaining.left()
    at_small = by_id["pgd@2/255"]
    remaining.begin(at_small, 0, 100)
    assert remaining.spend(at_small, 0, 100, 40) == (100 * 61, remaining.left())
    of_both = remaining.left()
    assert of_both < 0.6 * before
    at_large = by_id["pgd@8/255"]
    remaining.begin(at_large, 0, 100)
    remaining.spend(at_large, 0, 100, 0)
    # Nothing is left of the larger one but its first search, which all fall to at once.
    assert 0.4 * of_both < remaining.left() < 0.6 * of_both
