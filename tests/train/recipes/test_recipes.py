"""Recipes: fields by name, values by type, files of the user's own."""

from __future__ import annotations

from dataclasses import fields, replace
from fractions import Fraction

import pytest

from ferd_eval.errors import UserError
from ferd_eval.models import build_architecture
from ferd_train.recipes import TEACHER_RECIPES as RECIPES
from ferd_train.recipes import find_teacher_recipe as find_recipe
from ferd_train.recipes import summary
from ferd_train.recipes.teacher import TeacherRecipe


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_names_a_network_that_exists_and_says_what_it_is(name):
    recipe = find_recipe(name)
    assert build_architecture(recipe.arch, num_classes=10).name == recipe.arch
    assert len(summary(RECIPES[name])) > 20


def test_the_packaged_networks_recipes_stay_as_they_were():
    """What `demo-cnn` and `demo-resnet8` were trained with."""
    resnet8 = TeacherRecipe(
        dataset="fashion-mnist",
        arch="resnet8",
        eps=Fraction(1, 10),
        inner_step=Fraction(1, 25),
        loss="pgd-at",
        inner_steps=4,
        epochs=6,
        batch_size=128,
        lr=0.2,
        momentum=0.9,
        weight_decay=5e-4,
        crop_padding=0,
        flip=False,
        ema_decay=0.995,
        validation_per_class=100,
        seed=0,
    )
    assert find_recipe("demo-resnet8") == resnet8
    assert find_recipe("demo-cnn") == replace(resnet8, arch="cnn28-16", epochs=15)


def test_changes_are_read_as_the_fields_type(tiny):
    changed = tiny.with_changes(
        {"eps": "8/255", "epochs": "7", "lr": "1e-2", "flip": "TRUE", "arch": "resnet8", "seed": 3}
    )
    assert (changed.eps, changed.epochs, changed.lr) == (Fraction(8, 255), 7, 0.01)
    assert (changed.flip, changed.arch, changed.seed) == (True, "resnet8", 3)
    assert changed.with_changes({"flip": False}).flip is False


WRONG = [
    ({"epoch": 3}, "no field 'epoch'. Did you mean epochs?"),
    ({"epochs": "3.5"}, "epochs is '3.5'; give a whole number"),
    ({"epochs": 0}, "epochs is 0; give 1 or more"),
    ({"lr": "fast"}, "lr is 'fast'; give a number"),
    ({"lr": 0}, "lr is 0.0; give 0 < lr"),
    ({"lr": -0.1}, "lr is -0.1; give 0 < lr"),
    ({"lr": "nan"}, "lr is nan"),
    ({"lr": "inf"}, "lr is inf"),
    ({"lr": 1e300}, "lr is 1e+300"),
    ({"flip": "maybe"}, "flip is 'maybe'; give true or false"),
    ({"eps": "2"}, "eps is 2, but pixels are in [0, 1]"),
    ({"eps": "big"}, "eps is 'big'"),
    ({"inner_step": "0"}, "inner_step is 0"),
    ({"loss": "trade"}, "no loss is called 'trade'. Did you mean trades?"),
    ({"momentum": 1}, "momentum is 1.0; give 0 <= momentum < 1"),
    ({"ema_decay": -0.5}, "ema_decay is -0.5"),
    ({"weight_decay": -1}, "weight_decay is -1.0"),
    ({"trades_beta": "nan"}, "trades_beta is nan"),
    ({"crop_padding": -1}, "crop_padding is -1; give 0 or more"),
    ({"validation_per_class": 0}, "validation_per_class is 0; give 1 or more"),
    ({"batch_size": 0}, "batch_size is 0"),
    ({"seed": -1}, "seed is -1"),
    ({"seed": 2**64}, "seed is"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=lambda value: str(value)[:30])
def test_wrong_changes_are_said_in_one_line(changes, message, tiny):
    with pytest.raises(UserError) as caught:
        tiny.with_changes(changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("eps", ["0.1", "8/255", "1/3", "0.123456789", "1/510"])
def test_the_record_of_a_size_is_exact(eps, tiny):
    """Two sizes that differ are never the same recipe."""
    text = tiny.with_changes({"eps": eps}).to_json()["eps"]
    numerator, _, denominator = text.partition("/")
    assert Fraction(numerator) / Fraction(denominator or 1) == Fraction(eps)


FILE = """
dataset = "cifar10"
arch = "resnet18"
eps = "8/255"
inner_step = 0.01
loss = "trades"
lr = 1
flip = true
"""


def test_a_recipe_from_a_file(tmp_path):
    (tmp_path / "mine.toml").write_text(FILE)
    assert find_recipe(str(tmp_path / "mine.toml")) == TeacherRecipe(
        dataset="cifar10",
        arch="resnet18",
        eps=Fraction(8, 255),
        inner_step=Fraction(1, 100),
        loss="trades",
        lr=1.0,
        flip=True,
    )


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_can_be_written_as_a_file(name, tmp_path):
    values = {f.name: find_recipe(name).to_json()[f.name] for f in fields(TeacherRecipe)}
    lines = [
        f'{key} = "{value}"' if isinstance(value, str) else f"{key} = {str(value).lower()}"
        for key, value in values.items()
    ]
    (tmp_path / "copy.toml").write_text("\n".join(lines))
    assert find_recipe(str(tmp_path / "copy.toml")) == find_recipe(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FILE + "epoch = 3", "no field 'epoch'. Did you mean epochs?"),
        (FILE + "[more]\nx = 1", "no field 'more.x'"),
        (FILE + "epochs = 3.5", "epochs is '3.5'; give a whole number"),
        (FILE + "epochs = [1, 2]", "epochs is '[1, 2]'; give a whole number"),
        ('dataset = "cifar10"\neps = 0.1', "add arch, inner_step"),
        ("x = 1\ny = (", "line 2"),
        (b"\xff", "codec"),
    ],
    ids=["field", "table", "type", "list", "missing", "syntax", "bytes"],
)
def test_wrong_files_are_said_in_one_line(content, message, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError) as caught:
        find_recipe(str(file))
    assert message in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recipes_that_are_not_there(tmp_path):
    with pytest.raises(UserError, match=r"'demo-cn'. Did you mean demo-cnn\?"):
        find_recipe("demo-cn")
    with pytest.raises(UserError, match=r"mine\.toml cannot be read \(No such file"):
        find_recipe(str(tmp_path / "mine.toml"))
