"""Recipes with sections: dotted names, TOML in both spellings, and what is said of mistakes."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import pytest

from ferd_eval.errors import UserError
from ferd_train.config.checks import Checked, Count
from ferd_train.config.recipe import Recipe, flat, names_of, read_toml, to_toml


@dataclass(frozen=True)
class Inner(Checked):
    size: Fraction = Fraction(1, 3)
    steps: Count = 5


@dataclass(frozen=True)
class Middle:
    inner: Inner = field(default_factory=Inner)
    steps: int = 7
    is_on: bool = True


@dataclass(frozen=True)
class Outer(Recipe):
    name: str
    rate: float = 1e-05
    middle: Middle = field(default_factory=Middle)
    inner: Inner = field(default_factory=lambda: Inner(steps=2))


OUTER = Outer("x")


def test_names_follow_the_order_of_the_fields():
    names = ["name", "rate", "middle.inner.size", "middle.inner.steps", "middle.steps"]
    assert names_of(Outer) == [*names, "middle.is_on", "inner.size", "inner.steps"]
    assert list(flat(OUTER)) == names_of(Outer)
    assert flat(OUTER)["middle.inner.size"] == "85/255"


def test_a_dotted_change_reaches_its_field_alone():
    changed = OUTER.with_changes({"middle.inner.steps": "9", "rate": 2})
    assert changed == Outer("x", 2.0, Middle(inner=Inner(steps=9)))
    assert names_of(Outer) == list(OUTER.to_json())
    assert OUTER.with_changes({}) == OUTER
    assert Outer.from_fields({"name": "y", "inner.size": "8/255"}) == Outer(
        "y", inner=Inner(Fraction(8, 255), 2)
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"middle.inner.step": 1}, "no field 'middle.inner.step'. Did you mean middle.inner.steps"),
        ({"middle.inner.steps.more": 1}, "no field 'middle.inner.steps.more'"),
        (
            {"middle": 3},
            "middle is a section of a recipe; set one of its fields: middle.inn",
        ),
        ({"middle.inner": 3}, "set one of its fields: middle.inner.size, middle.inner.steps."),
        ({"": 3}, "no field ''"),
        ({".steps": 3}, "no field '.steps'"),
        ({"middle.inner.steps": 2.5}, "middle.inner.steps is '2.5'; give a whole number"),
        ({"middle.inner.steps": True}, "middle.inner.steps is 'True'; give a whole number"),
        ({"middle.inner.steps": [1]}, "middle.inner.steps is '[1]'; give a whole number"),
        ({"middle.inner.steps": "9" * 5000}, "give a whole number"),
        ({"middle.inner.steps": 0}, "middle.inner: steps is 0; give 1 or more"),
        ({"inner.steps": 0}, "inner: steps is 0; give 1 or more"),
        ({"middle.inner.size": "a/b"}, "middle.inner.size is 'a/b', which is no number"),
        ({"middle.is_on": "perhaps"}, "middle.is_on is 'perhaps'; give true or false"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_mistakes_are_said_with_the_whole_name(changes, message):
    for make in (OUTER.with_changes, lambda fields: Outer.from_fields({"name": "x", **fields})):
        with pytest.raises(UserError) as caught:
            make(changes)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_needed_field_is_asked_for():
    with pytest.raises(UserError, match="a recipe needs name: add name"):
        Outer.from_fields({"inner.steps": 3})


@pytest.mark.parametrize(
    "name", ["", 'quotes " and \\', "tab\tline\nbreak", "npz:/tmp/é/文件/😀.npz", "# = [x]"]
)
def test_what_is_written_reads_back_as_an_equal_recipe(name, tmp_path):
    recipe = Outer(
        name, 0.1 + 0.2, Middle(Inner(Fraction(7, 1000003)), is_on=False), Inner(steps=3)
    )
    file = tmp_path / "recipe.toml"
    file.write_text(to_toml(recipe), encoding="utf-8")
    assert Outer.from_fields(read_toml(file)) == recipe


def test_tables_and_dotted_names_are_the_same(tmp_path):
    dotted, tables = tmp_path / "dotted.toml", tmp_path / "tables.toml"
    dotted.write_text('name = "x"\nmiddle.inner.steps = 3\nmiddle.is_on = false\n')
    tables.write_text('name = "x"\n[middle]\nis_on = false\n[middle.inner]\nsteps = 3\n[inner]\n')
    assert read_toml(dotted) == read_toml(tables)
    assert Outer.from_fields(read_toml(tables)) == Outer(
        "x", middle=Middle(Inner(steps=3), is_on=False)
    )
