"""Each alarm is raised by figures that call for it, once, and not by figures just as they should
be."""

from __future__ import annotations

import numpy as np
import pytest

from ferd_train.monitoring.alarms import alarms
from ferd_train.monitoring.epoch_log import StudentLog
from tests.train.student_runs import log

K = 10
NAMES = [f"class {number}" for number in range(K)]
WARMUP = 2


def run(epochs: int = 20, *, seed: int = 0, follow: float = 1.0, **changes) -> list[StudentLog]:
    """A sound run: even images, weights that follow the teacher's loss with share `follow`.

    A change is a value, or a function of the epoch.
    """
    generator = np.random.default_rng(seed)
    difficulty_K, other_K = generator.random((2, K))
    logs = []
    for epoch in range(1, epochs + 1):
        weight_K = np.exp(follow * difficulty_K + (1 - follow) * other_K) if epoch > 1 else 1
        count_K = generator.multinomial(128, np.full(K, 1 / K))
        loss_K = difficulty_K + 0.1 * generator.random(K)
        made = {
            "class_weights": (weight_K / np.sum(weight_K * np.ones(K)) * np.ones(K)).tolist(),
            "class_counts": count_K.tolist(),
            "seen_counts": count_K.tolist(),
            "teacher_loss": [x if n else None for x, n in zip(loss_K, count_K, strict=True)],
            "teacher_agrees": 0.9,
            "generator_terms": {"masked": 0.5},
        }
        made |= {name: each(epoch) if callable(each) else each for name, each in changes.items()}
        logs.append(log(epoch, **made))
    return logs


def said(logs: list[StudentLog], *, reweights: bool = True) -> list[tuple[int, str]]:
    names = NAMES[: len(logs[0].seen_counts)]
    found = alarms(logs, names, warmup=WARMUP, reweights=reweights)
    return [(each.epoch, each.text) for each in found]


def only(logs: list[StudentLog], epoch: int, *texts: str) -> None:
    ((when, text),) = said(logs)
    assert when == epoch
    assert all(each in text for each in texts), text


@pytest.mark.parametrize("seed", range(5))
def test_a_sound_run_raises_none(seed):
    assert said(run(seed=seed)) == []
    assert said(run(1, seed=seed)) == []


def test_half_of_the_images_of_other_classes():
    only(run(teacher_agrees=0.49), WARMUP + 3, "49% of the images since the warm-up", "lambda_oh")
    assert said(run(teacher_agrees=0.5)) == []
    assert said(run(teacher_agrees=lambda epoch: 0.1 if epoch <= WARMUP else 0.6)) == []
    # Some epochs of other images are no reason; when most are, it is said: (4 · 0.6 + 5 · 0.4) / 9.
    assert said(run(teacher_agrees=lambda epoch: 0.2 if epoch % 3 == 0 else 0.9)) == []
    only(run(teacher_agrees=lambda epoch: 0.6 if epoch < 7 else 0.4), 11, "49%")
    assert said(run(teacher_agrees=None)) == []


def test_a_class_that_is_never_seen():
    no_third = [14, 14, 14, 0, *[86 // 6] * 6]
    only(run(seen_counts=no_third), 2, "class 3 in none of the", "images so far")
    # One image of it, or too few images to tell.
    once = lambda epoch: [14, 14, 14, int(epoch == 1), *[14] * 6]  # noqa: E731
    assert said(run(seen_counts=once)) == []
    assert said(run(1, seen_counts=no_third)) == []


def test_collapse_to_two_classes():
    collapsed = [34, 31, *[8] * 7, 7]  # 65 of 128
    only(run(seen_counts=collapsed), 2, "class 0 or class 1 in 51%", "collapse")
    assert said(run(seen_counts=[32, 32, *[8] * 8])) == []  # just half
    later = lambda epoch: [13] * 10 if epoch < 5 else [60, 60, *[1] * 8]  # noqa: E731
    only(run(seen_counts=later), 7, "class 1 or class 0")
    # Of four classes two always have half.
    four = run(seen_counts=[70, 50, 4, 4], class_counts=[32] * 4, class_weights=[0.25] * 4,
               teacher_loss=[0.1] * 4)  # fmt: skip
    assert said(four) == []


def test_a_mask_of_everything():
    only(run(generator_terms={"masked": 0.951}), 1, "95.1% of the channels")
    assert said(run(generator_terms={"masked": 0.95})) == []
    assert said(run(generator_terms={})) == []


def test_weights_that_follow_nothing():
    against = run(follow=-3.0)
    only(against, 11, "rank correlation", "over epochs 2 to 11")
    assert said(against[:10]) == []  # too early to tell
    assert said(against, reweights=False) == []
    # Ten epochs count, not those long before.
    turned = run(30)[:15] + [log for log in run(30, follow=-3.0) if log.epoch > 15]
    (found,) = said(turned)
    assert 16 < found[0] <= 25
    assert said(run(class_weights=[1 / K] * K)) == []  # nothing to correlate


def test_the_correlation_is_scipys_of_the_pooled_losses():
    """By hand: ranks without ties, and a class that was absent from some epochs."""
    logs = run(follow=0.0, seed=3)
    ((epoch, text),) = said(logs)
    last = logs[1:11]
    assert epoch == 11
    weight = [sum(each.class_weights[k] for each in last) for k in range(K)]
    loss = []
    for k in range(K):
        pairs = [(each.class_counts[k], each.teacher_loss[k]) for each in last]
        loss.append(sum(n * x for n, x in pairs if n) / sum(n for n, _ in pairs))
    rank = lambda values: [sorted(values).index(value) for value in values]  # noqa: E731
    apart = sum((a - b) ** 2 for a, b in zip(rank(weight), rank(loss), strict=True))
    assert f"images is {1 - 6 * apart / (K * (K * K - 1)):.2f} over" in text


def test_more_epochs_only_add_alarms():
    logs = run(
        follow=-3.0,
        teacher_agrees=lambda epoch: 0.1 if epoch > 5 else 0.8,
        generator_terms={"masked": 0.99},
    )
    whole = said(logs)
    assert [epoch for epoch, _ in whole] == [1, 8, 11]
    for count in range(len(logs) + 1):
        assert said(logs[: count or 1]) == [each for each in whole if each[0] <= (count or 1)]


def test_random_weights_are_mostly_found_and_good_ones_never_blamed():
    """By simulation: 200 runs each."""
    blamed = {
        follow: np.mean([bool(said(run(11, seed=seed, follow=follow))) for seed in range(200)])
        for follow in (0.0, 1.0)
    }
    assert blamed[0.0] > 0.7
    assert blamed[1.0] == 0
