"""What other tools call attacks, and clean images."""

from __future__ import annotations

import pytest

from ferd_eval.attacks.registry import PRESETS
from ferd_eval.results.attack_id import attack_id, known_attack, spelling_key

CLEAN = (
    "clean", "Clean", "CLEAN", " clean ", "natural", "Nat", "benign", "standard", "std", "none",
    "None", "original", "no attack", "no-attack", "No_Attack", "noattack", "unperturbed",
    "unattacked", "identity", "clean images", "clean-test", "natural accuracy", "clean@0",
    "clean@0/255", "\uff23\uff2c\uff25\uff21\uff2e", "without an attack", "non-adversarial",
)  # fmt: skip

EITHER = (
    "", "test", "val", "id", "ID", "0", "1", "8/255", "nan", "NA", "null", "normal", "raw",
    "baseline", "preds", "pgd@0", "pgd@0/255", "PGD @ 0.0", "clean@8/255", "clean-label",
    "resnet_clean", "natural evolution", "true", "no", "eps=0",
)  # fmt: skip


@pytest.mark.parametrize("name", CLEAN)
def test_words_for_clean_images(name):
    assert attack_id(name) == known_attack(name) == "clean"


@pytest.mark.parametrize("name", EITHER)
def test_what_may_mean_either_is_not_guessed(name):
    assert attack_id(name) is None
    assert known_attack(name) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("PGD", "pgd"), ("Pgd-20", "pgd"), ("pgd20", "pgd"), ("PGD Linf", "pgd"),
        ("AutoAttack", "aa"), ("auto-attack", "aa"), ("AA", "aa"), ("Auto Attack (standard)", "aa"),
        ("FGSM", "fgsm"), ("CW-Linf", "cw"), ("APGD_CE", "apgd-ce"), ("Square attack", "square"),
        ("PGD@2/255", "pgd@2/255"), ("PGD:RSLAD", "pgd:rslad"), ("aa-audited", "aa-audited"),
    ],
)  # fmt: skip
def test_attacks_of_this_package(name, expected):
    assert attack_id(name) == known_attack(name) == expected


@pytest.mark.parametrize(
    "name", ["PGD-100", "pgd-l2", "mim", "robust", "AA+", "pgd-natural", "worst-case", "a", "pgd10"]
)
def test_other_attacks_stay_as_they_are(name):
    assert attack_id(name) == name
    assert known_attack(name) is None


def test_ids_are_those_of_the_package():
    assert all(attack_id(preset) == preset for preset in PRESETS)


def test_spellings_of_one_attack():
    assert spelling_key("PGD-100") == spelling_key("pgd_100") != spelling_key("pgd-10")
    assert spelling_key("AutoAttack") == spelling_key("aa")
    assert spelling_key("pgd@2/255") != spelling_key("pgd@4/255")
