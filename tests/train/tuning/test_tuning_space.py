"""What ``--vary`` takes, and what is drawn from it."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest
from scipy.stats import kstest, loguniform, uniform

from ferd_eval.errors import UserError
from ferd_train.tuning.space import Choices, Range, draw, parse_space
from tests.train.student_runs import TINY

SPACE = parse_space(
    [
        "distillation.lr=0.001..1",
        "loss.gamma=0..0.9",
        "synthesis.lambda-oh=2..10",
        "distillation.steps=1..4",
        "epochs=2..200",
        "loss.step_size=1/100..1/10",
        "loss.clean_weight=0.25,0.5,0.75",
        "augmentation.flip=true,false",
    ],
    TINY,
)
MANY = [draw(SPACE, 0, trial) for trial in range(1, 2001)]


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("distillation.lr", loguniform(0.001, 1)),
        ("loss.step_size", loguniform(0.01, 0.1)),
        ("loss.gamma", uniform(0, 0.9)),
        ("synthesis.lambda_oh", uniform(2, 8)),
    ],
)
def test_numbers_follow_their_law(name, law):
    drawn = [float(values[name]) for values in MANY]
    assert kstest(drawn, law.cdf).pvalue > 0.01
    assert kstest([each * 1.5 for each in drawn], law.cdf).pvalue < 1e-6  # it can fail


def test_whole_numbers_and_choices_are_all_drawn():
    for name, wanted in {
        "distillation.steps": [1, 2, 3, 4],
        "loss.clean_weight": ["0.25", "0.5", "0.75"],
        "augmentation.flip": ["false", "true"],
    }.items():
        drawn = [values[name] for values in MANY]
        assert sorted({*drawn}) == wanted
        counts = [drawn.count(each) for each in wanted]
        assert max(counts) < 1.25 * min(counts)
    epochs = [values["epochs"] for values in MANY]
    assert {type(each) for each in epochs} == {int}
    assert (min(epochs), max(epochs)) == (2, 200)
    assert sum(each < 20 for each in epochs) == pytest.approx(1000, abs=100)  # by the logarithm


def test_names_are_drawn_independently():
    pairs = [(values["loss.gamma"] < 0.45, values["distillation.lr"] < 0.0316) for values in MANY]
    assert all(pairs.count((a, b)) == pytest.approx(500, abs=70) for a in (0, 1) for b in (0, 1))


def test_a_trial_depends_on_seed_and_number_alone():
    assert [draw(SPACE, 0, trial) for trial in (7, 3)] == [MANY[6], MANY[2]]
    assert draw(SPACE, 1, 3) != MANY[2]
    fewer = {"loss.gamma": SPACE["loss.gamma"]}
    assert draw(fewer, 0, 3) == {"loss.gamma": MANY[2]["loss.gamma"]}
    assert draw(SPACE, 0, 0) == {}


def test_recipes_take_what_is_drawn():
    changed = TINY.with_changes({"warmup": 1, **MANY[0]})
    assert changed.distillation.lr == MANY[0]["distillation.lr"]
    assert changed.loss.step_size == Fraction(str(MANY[0]["loss.step_size"]))
    assert changed.augmentation.flip is (MANY[0]["augmentation.flip"] == "true")
    assert json.dumps({name: each.to_json() for name, each in SPACE.items()})


def test_ends_are_kept():
    assert Range(0.12344, 0.2, False).at(0.0) == 0.12344
    assert Range(0.1, 0.12346, False).at(1 - 2**-53) == 0.12346
    assert Range(1, 3, True).at(1 - 2**-53) == 3
    assert Range(1, 1000, True).at(1 - 2**-53) == 1000
    assert Range(-1, 100, False).at(0.5) == 49.5
    assert Choices(("a", "b")).at(1 - 2**-53) == "b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("distillation.lr", "is not NAME=LOW..HIGH or NAME=a,b,c"),
        ("distilation.lr=0.1..1", "no field 'distilation.lr'. Did you mean distillation.lr?"),
        ("distillation=1..2", "distillation is a section of a recipe"),
        ("distillation.lr=1..0.1", "give numbers LOW..HIGH with LOW < HIGH"),
        ("distillation.lr=1..1", "LOW < HIGH"),
        ("distillation.lr=a..b", "give numbers LOW..HIGH"),
        ("distillation.lr=0..inf", "give numbers LOW..HIGH"),
        ("distillation.lr=0..nan", "give numbers LOW..HIGH"),
        ("distillation.lr=0.1", "give several values, each once, distillation.lr=a,b,c or"),
        ("distillation.lr=0.1,0.1", "each once"),
        ("distillation.lr=", "give several values"),
        ("epochs=1..2.5", "give whole numbers LOW..HIGH"),
        ("loss.step_size=1/0..1/2", "give numbers or fractions LOW..HIGH"),
        ("loss.divergence=a..b", "loss.divergence=a,b,c; one alone is set by --set"),
        ("augmentation.flip=0..1", "augmentation.flip=a,b,c; one alone"),
        ("seed=0,1", "trials are compared by it"),
        ("eps=0.05..0.1", "trials are compared by it"),
        ("validation.per_class=1..9", "trials are compared by it"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(UserError) as caught:
        parse_space([text], TINY)
    assert message in str(caught.value)


def test_a_name_is_given_once_and_something_varies():
    with pytest.raises(UserError, match="names batch_size twice"):
        parse_space(["batch_size=4..8", "batch-size=2,4"], TINY)
    with pytest.raises(UserError, match="nothing varies"):
        parse_space([], TINY)
