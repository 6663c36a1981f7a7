"""Flags fire on what they are about, at the level they claim, and stay silent otherwise."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ferd_eval.metrics import scorecard
from ferd_eval.metrics.trust import excess_p, trust_flags
from ferd_eval.outcomes import Outcomes, conform


def outcomes(correct, labels, stages=None, classes=4):
    """Rows of each attack from its vector of correctness; a wrong prediction is the next class."""
    labels = np.asarray(labels)
    frames = []
    clean = np.where(correct["clean"], labels, (labels + 1) % classes)
    for attack, right in correct.items():
        pred = np.where(right, labels, (labels + 1) % classes)
        stage = (stages or {}).get(attack, [pd.NA] * len(labels))
        frames.append(
            pd.DataFrame(
                {
                    "index": np.arange(len(labels)), "label": labels, "attack": attack,
                    "target": pd.array([pd.NA] * len(labels), "Int32"), "clean_pred": clean,
                    "adv_pred": pred, "correct": pred == labels, "margin": 0.0,
                    "confidence": 0.5, "stage": pd.array(stage, "string"), "steps": 1, "linf": 0.0,
                }
            )
        )  # fmt: skip
    manifest = {
        "dataset": {"name": "d", "class_names": [f"c{k}" for k in range(classes)]},
        "attacks": {attack: {"eps": 0.1} for attack in correct},
    }
    return Outcomes(conform(pd.concat(frames, ignore_index=True)), manifest)


def test_excess_p_is_scipys_exact_test():
    for weaker, stronger in [(0, 0), (0, 5), (3, 1), (10, 2), (7, 7), (40, 10)]:
        (p,) = excess_p(np.array([weaker]), np.array([stronger]))
        n = weaker + stronger
        expected = stats.binomtest(weaker, n, 0.5, alternative="greater").pvalue if n else 1.0
        assert p == pytest.approx(expected)


def test_an_ordinary_run_has_no_flags():
    labels = np.repeat(np.arange(4), 50)
    clean = np.tile(np.r_[np.ones(45), np.zeros(5)].astype(bool), 4)
    pgd = np.tile(np.r_[np.ones(25), np.zeros(25)].astype(bool), 4)
    pgd[:3] = False  # class 0 is lowest under every attack
    run = outcomes(
        {"clean": clean, "fgsm": clean & (pgd | (labels > 1)), "pgd": pgd, "aa": pgd}, labels
    )
    assert trust_flags(run) == ()


def test_masking_over_all_images_and_in_one_class():
    labels = np.repeat(np.arange(4), 50)
    right = np.ones(200, dtype=bool)
    fgsm = right.copy()
    fgsm[::5] = False
    (flag,) = trust_flags(outcomes({"clean": right, "fgsm": fgsm, "pgd": right}, labels))
    assert "FGSM breaks 40 images" in flag
    in_one = right.copy()
    in_one[:12] = False  # class 0 only, while PGD is far stronger elsewhere
    pgd = right.copy()
    pgd[60:] = False
    (flag,) = trust_flags(outcomes({"clean": right, "fgsm": in_one, "pgd": pgd}, labels))
    assert "in 1 classes (c0)" in flag


def test_masking_is_rarely_flagged_when_there_is_none():
    """FGSM and PGD that break equally many at random: at most 2 % of runs (1 % + 1 %)."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 100)
    right = np.ones(400, dtype=bool)
    flagged = sum(
        bool(
            trust_flags(
                outcomes(
                    {
                        "clean": right,
                        "fgsm": generator.random(400) < 0.7,
                        "pgd": generator.random(400) < 0.7,
                    },
                    labels,
                )
            )
        )
        for _ in range(300)
    )
    assert flagged <= stats.binom.ppf(0.999, 300, 0.02)


def test_chance_gap_worst_class_and_square():
    labels = np.repeat(np.arange(4), 50)
    right = np.ones(200, dtype=bool)
    low = np.arange(200) % 4 == 0
    assert "near chance" in trust_flags(outcomes({"clean": low}, labels))[0]
    pgd, aa = right.copy(), right.copy()
    pgd[:10] = False
    aa[:10] = False
    aa[150:190] = False
    stages = {"aa": ["square" if i == 150 else pd.NA for i in range(200)]}
    flags = trust_flags(outcomes({"clean": right, "pgd": pgd, "aa": aa}, labels, stages))
    assert "20.0 points below PGD on average and 80.0 in class c3" in flags[0]
    assert flags[1] == "the lowest class is c0 under PGD and c3 under AutoAttack."
    assert "Square broke 1 images" in flags[2]


def test_flags_are_in_the_scorecard():
    labels = np.repeat(np.arange(4), 50)
    run = outcomes({"clean": np.arange(200) % 4 == 0}, labels)
    assert scorecard(run).to_dict()["flags"] == list(trust_flags(run))
