"""Student recipes: the readings of the method by the specification's table, and what wins."""

from __future__ import annotations

import dataclasses
import itertools
import math
from fractions import Fraction

import pytest

from ferd_eval.errors import UserError
from ferd_eval.models import build_architecture
from ferd_train.config.recipe import flat, to_toml
from ferd_train.losses.rslad import RSLADRecipe
from ferd_train.recipes import (
    STUDENT_RECIPES,
    find_student_recipe,
    find_teacher_recipe,
    made_for,
    summary,
)
from ferd_train.recipes.student import StudentRecipe
from ferd_train.recipes.variants import ABLATIONS, VARIANTS
from tests.train.student_runs import TINY

FERD_RECIPES = [name for name in STUDENT_RECIPES if name.startswith("ferd-")]

BASE = StudentRecipe()

# shared/spec/ferd.md, "Three named variants" and "Constants", for 400 student steps.
TABLE = {
    "paper": {
        "reweighting.strategy": "margin-softmax",
        "reweighting.temperature": 1.0,
        "reweighting.unit": "logits",
        "reweighting.smoothing": 0.0,
        "reweighting.measured_on": "kept",
        "loss.network": "teacher",
        "loss.gamma": 0.5,
        "synthesis.match_student": True,
        "synthesis.steps": 400,
        "distillation.steps": 400,
        "loss.divergence": "kl",
        "loss.clean_weight": 5 / 6,
        "loss.adversarial_weight": 1 / 6,
        "held_out.share": 0.0,
        "synthesis.bottleneck.regulariser": "sum",
        "synthesis.bottleneck.noise": "elementwise",
        "synthesis.bottleneck.mask_maximum": "sample",
        "synthesis.bottleneck.mask_scale": "raw",
        "synthesis.adversarial": "kl",
    },
    "release": {
        "reweighting.strategy": "margin-minmax",
        "reweighting.low": 0.05,
        "reweighting.high": 0.2,
        "reweighting.smoothing": 0.0,
        "reweighting.measured_on": "last",
        "loss.network": "student",
        "loss.gamma": 0.0,
        "synthesis.match_student": False,
        "synthesis.steps": 200,
        "distillation.steps": 400,
        "loss.divergence": "soft-cross-entropy",
        "loss.clean_weight": 5 / 6,
        "loss.adversarial_weight": 1 / 6,
        "held_out.share": 0.0,
        "synthesis.bottleneck.regulariser": "half-mean",
        "synthesis.bottleneck.noise": "channel",
        "synthesis.bottleneck.mask_maximum": "batch",
        "synthesis.bottleneck.mask_scale": "softplus",
        "synthesis.adversarial": "decoupled",
    },
}

# The variant of this project, by docs/why-ferd-falls-short.md.
TABLE["ferd"] = {
    "labels": "teacher",
    "synthesis.renew": False,
    "synthesis.attacked": 0.5,
    "synthesis.inverted": 1 / 3,
    "synthesis.spread": 0.0,
    "synthesis.lambda_oh": 20.0,
    "synthesis.lambda_uni": 0.0,
    "reweighting.strategy": "uniform",
    "reweighting.temperature": 1.0,
    "reweighting.cap": 4.0,
}
for name in ("paper", "release"):
    TABLE[name] |= {
        "labels": "asked",
        "synthesis.renew": True,
        "synthesis.attacked": 0.0,
        "synthesis.inverted": 0.0,
        "synthesis.spread": 0.0,
        "synthesis.lambda_oh": 1.0,
        "synthesis.lambda_uni": 5.0,
        "synthesis.bottleneck.mask_factor": 1.0,
        "synthesis.bottleneck.mask_share": 0.0,
        "reweighting.cap": 0.0,
    }
TABLE["release-2025-05"] = {**TABLE["release"], "reweighting.strategy": "clean-loss-minmax"}

# Table 3 of the paper, and the parts of this project's variant.
SWITCHES = {
    "none": {},
    "no-reweight": {"reweighting.strategy": "uniform"},
    "no-fae": {"synthesis.lambda_uni": 0.0},
    "no-utae": {"loss.gamma": 0.0},
    "no-fae-no-utae": {"synthesis.lambda_uni": 0.0, "loss.gamma": 0.0},
    "no-lasting": {"synthesis.renew": True},
    "no-attacked": {"synthesis.attacked": 0.0},
    "no-inversion": {"synthesis.inverted": 0.0},
    "no-class-first": {"synthesis.lambda_oh": 1.0, "synthesis.lambda_uni": 5.0},
    "no-teacher-labels": {"labels": "asked"},
}

# Constants of the method that no reading touches, from the specification.
CONSTANTS = {
    "epochs": 220,
    "warmup": 20,
    "batch_size": 256,
    "eps": "8/255",
    "synthesis.lr": 2e-3,
    "synthesis.latent_lr": 0.015,
    "synthesis.latent": 100,
    "synthesis.width": 64,
    "synthesis.lambda_adv": 1.0,
    "synthesis.lambda_bn": 5.0,
    "synthesis.bottleneck.beta": 0.3,
    "synthesis.bottleneck.steps": 50,
    "synthesis.bottleneck.lr": 0.1,
    "reweighting.attack_steps": 20,
    "reweighting.step_size": "2/255",
    "loss.attack_steps": 10,
    "loss.step_size": "2/255",
    "distillation.lr": 0.1,
    "distillation.momentum": 0.9,
    "distillation.weight_decay": 5e-4,
    "augmentation.crop_padding": 4,
    "augmentation.flip": True,
    "validation.dataset": "",
}


def differences(a: StudentRecipe, b: StudentRecipe) -> set[str]:
    return {name for name, value in flat(a).items() if flat(b)[name] != value}


def other_value(value: object) -> object:
    """A value of the same type that no reading has."""
    if isinstance(value, bool):
        return not value
    return value + 7 if isinstance(value, int) else value / 2 + 0.011 if value != "" else ""


@pytest.mark.parametrize("variant", TABLE)
def test_a_variant_sets_what_the_table_says_and_nothing_else(variant):
    made = BASE.with_changes({"variant": variant})
    assert {name: flat(made)[name] for name in TABLE[variant]} == TABLE[variant]
    assert {name: flat(made)[name] for name in CONSTANTS} == CONSTANTS
    assert made.variant == variant
    # From a start where everything differs, too; what it does not list stays as it was.
    other = next(name for name in TABLE if name != variant)
    start = BASE.with_changes(
        {
            "variant": other,
            "reweighting.smoothing": 0.5,
            "loss.clean_weight": 0.25,
            "synthesis.lambda_bn": 3.0,
            "reweighting.attack_steps": 7,
            "epochs": 50,
        }
    )
    again = start.with_changes({"variant": variant})
    assert {name: flat(again)[name] for name in TABLE[variant]} == TABLE[variant]
    temperature = {"reweighting.temperature"} if variant == "release" else set()
    assert differences(again, made) - temperature == {
        "synthesis.lambda_bn",
        "reweighting.attack_steps",
        "epochs",
    }


def test_the_default_is_the_variant_ferd():
    assert BASE.variant == "ferd"
    assert BASE.with_changes({"variant": "ferd"}) == BASE
    assert {name: flat(BASE)[name] for name in CONSTANTS} == CONSTANTS
    for other in TABLE:
        back = BASE.with_changes({"variant": other}).with_changes({"variant": "ferd"})
        assert differences(back, BASE) <= {"synthesis.steps"}


@pytest.mark.parametrize(("steps", "paper", "release"), [(80, 80, 40), (1, 1, 1), (7, 7, 3)])
def test_generator_steps_follow_the_student_steps_asked_for(steps, paper, release):
    for variant, expected in (("paper", paper), ("release", release)):
        changes = {"variant": variant, "distillation.steps": steps}
        assert BASE.with_changes(changes).synthesis.steps == expected
        assert BASE.with_changes({**changes, "synthesis.steps": 5}).synthesis.steps == 5


@pytest.mark.parametrize("ablation", ABLATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_an_ablation_sets_its_switch_and_nothing_else(variant, ablation):
    whole = BASE.with_changes({"variant": variant})
    switched = BASE.with_changes({"variant": variant, "ablation": ablation})
    assert switched == whole.with_changes({"ablation": ablation})
    values = SWITCHES[ablation]
    assert {name: flat(switched)[name] for name in values} == values
    allowed = {"ablation", *values}
    assert differences(switched, whole) <= allowed
    assert switched.ablation == ablation


def test_a_variant_does_not_switch_on_what_an_ablation_switched_off():
    ablated = BASE.with_changes({"variant": "release", "ablation": "no-utae"})
    assert ablated.with_changes({"variant": "paper"}).loss.gamma == 0
    uniform = BASE.with_changes({"ablation": "no-reweight"}).with_changes({"variant": "paper"})
    assert uniform.reweighting.strategy == "uniform"
    assert uniform.with_changes({"epochs": 30}).reweighting.strategy == "uniform"


def test_what_is_set_beside_a_variant_wins():
    changes = {"variant": "release", "loss.gamma": 0.7, "synthesis.bottleneck.noise": "elementwise"}
    for ordered in (changes, dict(reversed(changes.items()))):
        made = BASE.with_changes(ordered)
        assert (made.loss.gamma, made.synthesis.bottleneck.noise) == (0.7, "elementwise")
        assert made.loss.network == "student"
    beside = BASE.with_changes({"synthesis.lambda_uni": 2, "ablation": "no-fae-no-utae"})
    assert (beside.synthesis.lambda_uni, beside.loss.gamma) == (2, 0)


@pytest.mark.parametrize(
    ("name", "variant", "ablation"),
    list(itertools.product(FERD_RECIPES, VARIANTS, ABLATIONS)),
)
def test_every_recipe_written_reads_back_as_an_equal_one(name, variant, ablation, tmp_path):
    recipe = find_student_recipe(name).with_changes({"variant": variant, "ablation": ablation})
    recipe = recipe.with_changes({"synthesis.steps": 3, "eps": "1/3", "loss.gamma": 0.1 + 0.2})
    file = tmp_path / "recipe.toml"
    file.write_text(to_toml(recipe), encoding="utf-8")
    assert find_student_recipe(str(file)) == recipe
    # The record in the manifest and in the checkpoint says as much.
    assert StudentRecipe.from_fields(recipe.to_json()) == recipe


@pytest.mark.parametrize("name", sorted({*STUDENT_RECIPES} - {*FERD_RECIPES}))
def test_recipes_of_other_methods_read_back_as_equal_ones(name, tmp_path):
    recipe = find_student_recipe(name).with_changes({"eps": "1/3"})
    file = tmp_path / "recipe.toml"
    file.write_text(to_toml(recipe), encoding="utf-8")
    assert find_student_recipe(str(file)) == recipe
    assert StudentRecipe.from_fields(recipe.to_json()) == recipe


def test_a_file_may_name_a_variant_and_set_a_field_otherwise(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        'loss.gamma = 0.25\nvariant = "paper"\n[synthesis]\nbottleneck = {beta = 0.5}\n'
    )
    assert find_student_recipe(str(file)) == BASE.with_changes(
        {"variant": "paper", "loss.gamma": 0.25, "synthesis.bottleneck.beta": 0.5}
    )


@pytest.mark.parametrize("name", STUDENT_RECIPES)
def test_every_recipe_names_a_network_that_exists_and_says_what_it_is(name):
    recipe = find_student_recipe(name)
    assert build_architecture(recipe.arch, num_classes=10).name == recipe.arch
    assert len(summary(STUDENT_RECIPES[name])) > 20
    if name in FERD_RECIPES:
        variant = "paper" if name.endswith("-paper") else "ferd"
        assert recipe.variant == variant
        assert f"variant `{variant}`" in summary(STUDENT_RECIPES[name])
        assert differences(recipe.with_changes({"variant": variant}), recipe) == set()
    else:
        assert (recipe.variant, recipe.ablation) == ("none", "none")
        assert recipe.reweighting.strategy == "uniform"


METHODS_OF_TABLES = ("ferd", "zskt", "cmi", "deepinv", "fast", "dfhl", "rslad")


@pytest.mark.parametrize(
    ("dataset", "arch", "size", "batch"),
    [
        ("cifar10", "resnet18", 32, 256),
        ("cifar100", "resnet18", 32, 512),
        ("tiny-imagenet", "preactresnet18", 64, 512),
    ],
)
def test_every_method_of_the_papers_tables_has_a_recipe_for_each_data_set(
    dataset, arch, size, batch
):
    for method in METHODS_OF_TABLES:
        recipe = find_student_recipe(f"{method}-{dataset}")
        assert made_for(f"{method}-{dataset}").name == dataset
        assert (recipe.arch, recipe.image_size, recipe.eps) == (arch, size, Fraction(8, 255))
        if method == "rslad":
            assert recipe.synthesis.dataset == dataset
        else:
            assert recipe.batch_size == batch
        if method not in ("rslad", "dfhl"):  # these keep their own students
            assert (recipe.epochs, recipe.warmup, recipe.distillation.steps) == (220, 20, 400)
        if method in ("zskt", "cmi", "deepinv", "fast"):
            assert (recipe.loss.clean_weight, recipe.loss.adversarial_weight) == (5 / 6, 1 / 6)


def test_every_field_can_be_set_by_its_dotted_name():
    base = TINY.with_changes({"held_out.share": 0.25})  # else there is nothing to choose by
    for name in flat(base):
        value = flat(base)[name]
        others = {"warmup", "seed", "image_size", "reweighting.cap"}  # not any value does
        if isinstance(value, str) or name in others:
            continue
        given = str(other_value(value))
        changed = base.with_changes({name: given})
        assert differences(changed, base) == {name}
        assert str(flat(changed)[name]) == given
    assert TINY.with_changes({"reweighting.cap": "2.5"}).reweighting.cap == 2.5
    assert TINY.with_changes({"loss.step_size": "3/255"}).loss.step_size == Fraction(3, 255)
    assert TINY.with_changes({"synthesis.tap": "layer2"}).synthesis.tap == "layer2"


BY_MARGINS = {"reweighting.strategy": "margin-softmax"}
WRONG = [
    ({"synthesis.beta": 1}, "no field 'synthesis.beta'. Did you mean synthesis.bottleneck.beta?"),
    ({"lambda_bn": 0}, "no field 'lambda_bn'. Did you mean synthesis.lambda_bn?"),
    (
        {"synthesis": 1},
        "synthesis is a section of a recipe; set one of its fields: synthesis.method, "
        "synthesis.steps",
    ),
    ({"synthesis.bottleneck": "x"}, "set one of its fields: synthesis.bottleneck.noise"),
    ({"variant": "papers"}, "no variant is called 'papers'. Did you mean paper?"),
    ({"variant": ["paper"]}, "no variant is called \"['paper']\""),
    ({"variant": 3}, "no variant is called '3'"),
    ({"ablation": "no-fea"}, "no ablation is called 'no-fea'. Did you mean no-fae?"),
    ({"image_size": 30}, "image_size is 30; give a multiple of 4"),
    ({"image_size": 0}, "image_size is 0; give 1 or more"),
    ({"warmup": 220}, "warmup is 220 of 220 epochs"),
    ({"warmup": -1}, "warmup is -1; give 0 or more"),
    ({"batch_size": 1}, "batch_size is 1; give 2 or more"),
    ({"seed": 2**63}, "give 0 or more, below 2**63"),
    ({"synthesis.steps": 0}, "synthesis: steps is 0; give 1 or more"),
    ({"distillation.steps": 0}, "distillation: steps is 0; give 1 or more"),
    ({"synthesis.bottleneck.steps": 0}, "synthesis.bottleneck: steps is 0; give 1 or more"),
    ({"synthesis.bottleneck.beta": "nan"}, "synthesis.bottleneck: beta is nan"),
    ({"synthesis.bottleneck.beta": "inf"}, "synthesis.bottleneck: beta is inf"),
    ({"synthesis.bottleneck.lr": "inf"}, "synthesis.bottleneck: lr is inf"),
    ({"synthesis.bottleneck.noise": "channels"}, "Did you mean channel?"),
    ({"synthesis.lambda_bn": -1}, "lambda_bn is -1.0; give 0 <= lambda_bn < 1e30"),
    ({"synthesis.adversarial": "k"}, "synthesis: no adversarial is called 'k'"),
    ({f"synthesis.lambda_{term}": 0 for term in ("adv", "bn", "oh", "uni")}, "are all 0"),
    ({"synthesis.match_student": "both"}, "synthesis.match_student is 'both'; give true or false"),
    ({"reweighting.strategy": "unifrom"}, "no strategy is called 'unifrom'. Did you mean uniform?"),
    ({**BY_MARGINS, "reweighting.temperature": 0}, "temperature is 0.0; give 0 < temperature"),
    ({**BY_MARGINS, "reweighting.temperature": "nan"}, "temperature is nan"),
    ({**BY_MARGINS, "reweighting.unit": "logit"}, "Did you mean logits?"),
    ({"reweighting.cap": 1}, "cap is 1.0; give 0, or more than 1"),
    ({"labels": "true"}, "no labels is called 'true'. There are: asked, teacher."),
    ({"synthesis.attacked": 1.1}, "synthesis: attacked is 1.1; give 0 <= attacked <= 1"),
    ({"synthesis.inverted": 1}, "synthesis: inverted is 1.0; give 0 <= inverted < 1"),
    ({"synthesis.inversion.method": "cmi"}, "inversion.method is always deepinv, not cmi"),
    ({"synthesis.bottleneck.mask_share": 1}, "mask_share is 1.0; give 0 <= mask_share < 1"),
    ({"reweighting.smoothing": 1}, "smoothing is 1.0; give 0 <= smoothing < 1"),
    ({"reweighting.measured_on": "first"}, "no measured_on is called 'first'"),
    ({"reweighting.strategy": "margin-minmax", "reweighting.low": 0.3}, "low and high are 0.3"),
    ({"loss.gamma": "inf"}, "gamma is inf"),
    ({"loss.network": "tutor"}, "no network is called 'tutor'"),
    ({"loss.step_size": 0}, "loss.step_size is 0"),
    ({"loss.divergence": "lk"}, "no divergence is called 'lk'"),
    (
        {"loss.clean_weight": 0, "loss.adversarial_weight": 0},
        "so the student learns nothing",
    ),
    ({"distillation.lr": 0}, "distillation: lr is 0.0; give 0 < lr"),
    ({"distillation.momentum": 1}, "distillation: momentum is 1.0"),
    ({"augmentation.crop_padding": -1}, "crop_padding is -1; give 0 or more"),
    ({"validation.per_class": 0}, "per_class is 0; give 1 or more"),
    ({"held_out.share": 1}, "held_out: share is 1.0; give 0 <= share < 1"),
    ({"held_out.keep": "first"}, "no keep is called 'first'"),
    ({"held_out.patience": -1}, "held_out: patience is -1; give 0 or more"),
    (
        {"variant": "paper", "held_out.keep": "best"},
        "keep is best and patience 0, but share",
    ),
    ({"held_out.share": 0, "held_out.patience": 3}, "keep is last and patience 3, but share is 0"),
    (
        {
            "synthesis.method": "data",
            "synthesis.dataset": "cifar10",
            "held_out.patience": 3,
        },
        "held_out.patience 3, but synthesis.method data makes no images",
    ),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_wrong_changes_are_said_in_one_line(changes, message):
    with pytest.raises(UserError) as caught:
        BASE.with_changes(changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recipes_of_the_other_kind_are_said_to_be_so():
    with pytest.raises(UserError, match="demo-cnn is not one for students; there are ferd-cifar10"):
        find_student_recipe("demo-cnn")
    with pytest.raises(UserError, match="ferd-lab is not one for teachers; there are cifar10-"):
        find_teacher_recipe("ferd-lab")
    with pytest.raises(UserError, match=r"students is called 'ferd-lap'. Did you mean ferd-lab\?"):
        find_student_recipe("ferd-lap")


def test_the_paper_scale_recipes():
    """shared/spec/ferd.md, "Constants"."""
    cifar100, tiny_imagenet = (
        find_student_recipe(f"ferd-{n}") for n in ("cifar100", "tiny-imagenet")
    )
    assert cifar100 == dataclasses.replace(BASE, batch_size=512)
    assert tiny_imagenet == dataclasses.replace(
        BASE, arch="preactresnet18", image_size=64, batch_size=512
    )
    assert math.isclose(BASE.loss.step_size * 4, BASE.eps)


def test_another_loss_brings_its_own_values_and_keeps_the_walk():
    lab = find_student_recipe("ferd-lab")
    made = lab.with_changes({"loss.name": "rslad"})
    assert made.loss == RSLADRecipe(attack_steps=4, step_size=Fraction("0.05"))
    assert (made.loss.clean_weight, made.loss.adversarial_weight) == (1 / 6, 5 / 6)
    assert {name for name in flat(made) if name.startswith("loss.")} == {
        "loss.name",
        "loss.attack_steps",
        "loss.step_size",
        "loss.clean_weight",
        "loss.adversarial_weight",
    }
    assert flat(made)["loss.name"] == "rslad"
    assert differences(made.with_changes({"loss.name": "ferd"}), lab) == set()
    beside = lab.with_changes({"loss.clean_weight": 0.5, "loss.name": "rslad"})
    assert (beside.loss.clean_weight, beside.loss.adversarial_weight) == (0.5, 5 / 6)


def test_a_variant_of_ferd_beside_another_loss_leaves_that_alone():
    made = BASE.with_changes({"variant": "release", "loss.name": "rslad"})
    assert made.synthesis.adversarial == "decoupled"
    assert made.loss == RSLADRecipe()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss.name": "rlsad"}, "no loss.name is called 'rlsad'. Did you mean rslad?"),
        ({"loss.name": "rslad", "loss.gamma": 1}, "a recipe has no field 'loss.gamma'."),
        (
            {"loss.name": "rslad", "ablation": "no-utae"},
            "ablation no-utae switches FERD's attack off, but loss.name is rslad; leave it out",
        ),
        ({"loss.name": "rslad", "loss.clean_weight": -1}, "loss: clean_weight is -1.0; give 0"),
        ({"synthesis.method": "fred"}, "no synthesis.method is called 'fred'. Did you mean ferd?"),
    ],
)
def test_what_does_not_go_together_is_said_in_one_line(changes, message):
    with pytest.raises(UserError) as caught:
        BASE.with_changes(changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recipes_of_another_loss_are_read_back(tmp_path):
    recipe = BASE.with_changes({"loss.name": "rslad", "loss.clean_weight": 0.25})
    file = tmp_path / "own.toml"
    file.write_text(to_toml(recipe))
    assert find_student_recipe(str(file)) == recipe
    assert StudentRecipe.from_fields(recipe.to_json()) == recipe
