"""A recipe that does not go with its teacher is refused or warned about before any training."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest

from ferd_eval.datasets import LabelledImages, dataset_info
from ferd_train.config.unfit import UnfitError
from ferd_train.distillation.teacher import TeacherRecord, load_teacher
from ferd_train.distillation.teacher_fit import Intention, caution, compare
from ferd_train.recipes import STUDENT_RECIPES, find_student_recipe, made_for
from tests.conftest import tiny_data
from tests.train.student_runs import write_teacher
from tests.train.test_student_cli import SHORT, assert_one_line, call, own_teacher

CIFAR = {"ferd.dataset": "cifar10", "ferd.recipe": json.dumps({"eps": "8/255"})}
AT_CIFAR = {
    "image_size": "32",
    "eps": "8/255",
    "reweighting.step_size": "2/255",
    "loss.step_size": "4/255",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("teachers")


def teacher(
    folder: Path, metadata: dict | None = None, channels: int = 3, classes: int = 10
) -> Path:
    file = folder / f"{abs(hash((str(metadata), channels, classes)))}.safetensors"
    if not file.exists():
        write_teacher(file, num_classes=classes, in_channels=channels, metadata=metadata)
    return file


def mismatch(file: Path, name: str, **changes: str):
    stated = {key.replace("__", "."): value for key, value in changes.items()}
    recipe = find_student_recipe(name).with_changes(stated)
    return compare(Intention(name, recipe, stated), load_teacher(file, recipe.image_size))


@pytest.mark.parametrize("metadata", [CIFAR, {"ferd.dataset": "cifar10"}, None])
def test_a_grey_recipe_for_an_rgb_teacher_is_refused_with_what_is_right(metadata, folder):
    found = mismatch(teacher(folder, metadata), "ferd-lab-paper")
    assert found.is_refused
    assert found.changes == AT_CIFAR
    assert "take recipe ferd-cifar10-paper" in found.others
    said = "; ".join(found.reasons)
    for part in (
        "1×28×28",
        "3 channels",
        "image_size is 28",
        "image_size 32",
        "eps is 0.1",
        "8/255",
    ):
        assert part in said


@pytest.mark.parametrize(
    ("metadata", "channels", "classes", "recipe"),
    [
        (CIFAR, 3, 10, "ferd-cifar10"),
        (None, 3, 10, "dfhl-cifar10"),
        (None, 3, 100, "ferd-cifar100"),
        (None, 3, 200, "ferd-tiny-imagenet"),
        (None, 1, 10, "ferd-lab"),
        ({"ferd.dataset": "fashion-mnist"}, 1, 10, "deepinv-lab"),
    ],
)
def test_what_fits_is_passed_without_a_word(metadata, channels, classes, recipe, folder):
    found = mismatch(teacher(folder, metadata, channels, classes), recipe)
    assert (list(found.reasons), found.changes) == ([], {})


@pytest.mark.parametrize(
    ("metadata", "channels", "classes", "recipe", "refused", "changes", "said"),
    [
        # By the file: what a teacher, and what a student of ours records.
        ({"ferd.recipe": '{"eps": "4/255"}'}, 3, 10, "ferd-cifar10-paper", True,
         {"eps": "4/255", "reweighting.step_size": "1/255", "loss.step_size": "1/255"}, "4/255"),
        ({"ferd.recipe": '{"eps": "8/255", "image_size": 64}'}, 3, 10, "fast-cifar10", True,
         {"image_size": "64"}, "trained at image_size 64"),
        # By custom only.
        ({"ferd.dataset": "mnist"}, 1, 10, "cmi-lab", False,
         {"eps": "0.3", "loss.step_size": "0.15"}, "trained on mnist, usually eps 0.3"),
        (None, 3, 10, "ferd-tiny-imagenet", False, {"image_size": "32"}, "200 classes"),
        (None, 3, 10, "ferd-cifar100", False, {}, "100 classes, but the teacher has 10"),
        (None, 3, 47, "ferd-cifar10", False, {}, "image_size 32 and eps 8/255"),
        # Nothing is known, but grey images it cannot be.
        (None, 3, 47, "zskt-lab", True, {}, "3 channels"),
    ],
)  # fmt: skip
def test_what_is_known_is_refused_and_what_is_usual_is_warned_about(
    metadata, channels, classes, recipe, refused, changes, said, folder
):
    found = mismatch(teacher(folder, metadata, channels, classes), recipe)
    assert found.is_refused is refused
    assert found.changes == changes
    assert said in "; ".join(found.reasons)


def test_what_is_set_by_hand_is_meant(folder):
    file = teacher(folder, CIFAR)
    meant = mismatch(file, "ferd-cifar10", eps="4/255")
    assert not meant.is_refused
    assert "eps is 4/255, but the teacher was trained at eps 8/255" in meant.reasons
    assert "eps" not in meant.changes
    whole = mismatch(
        file, "ferd-lab-paper", **{k.replace(".", "__"): v for k, v in AT_CIFAR.items()}
    )
    assert not whole.reasons
    half = mismatch(file, "ferd-lab-paper", image_size="32")
    assert half.is_refused
    assert half.changes == {k: v for k, v in AT_CIFAR.items() if k != "image_size"}


def test_steps_that_reach_beyond_the_ball_are_warned_about(folder):
    found = mismatch(teacher(folder), "ferd-demo", image_size="32", eps="8/255")
    assert not found.is_refused
    assert [*found.reasons] == ["loss.step_size is 0.05, beyond eps 8/255"]
    assert found.changes == {"loss.step_size": "2/255"}


def test_a_set_to_score_on_tells_where_the_file_does_not(folder):
    file = teacher(folder, channels=1, classes=10)
    recipe = find_student_recipe("ferd-lab")
    of_file = load_teacher(file, 28)
    assert caution(Intention("ferd-lab", recipe), of_file) is None
    said = caution(Intention("ferd-lab", recipe, dataset="mnist"), of_file)
    assert said is not None
    assert "to be scored on mnist, usually eps 0.3" in said
    assert "--set eps=0.3" in said


def test_a_teacher_of_another_data_set_with_as_many_classes(folder):
    of_file = load_teacher(teacher(folder, {"ferd.dataset": "fashion-mnist"}, 1), 28)

    def images(name: str) -> LabelledImages:
        from dataclasses import replace

        data = tiny_data(20, 10, side=28)
        names = dataset_info(name).class_names or data.class_names
        return replace(data, name=name, class_names=names)

    with pytest.raises(UnfitError, match=r"trained on fashion-mnist, whose classes are not.*mnist"):
        of_file.require_same_kind(images("mnist"), "--score")
    of_file.require_same_kind(images("demo"), "--score")
    of_file.require_same_kind(images("npz:mine.npz"), "--score")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({}, (None, None)),
        (CIFAR, (32, Fraction(8, 255))),
        ({"ferd.dataset": "npz:mine.npz", "ferd.recipe": '{"eps": "1/7"}'}, (None, Fraction(1, 7))),
        ({"ferd.recipe": '{"eps": [1], "image_size": "big"}'}, (None, None)),
        ({"ferd.recipe": '{"eps": 8, "image_size": true}'}, (None, None)),
        ({"ferd.recipe": "no json", "ferd.dataset": 3}, (None, None)),
    ],
)
def test_of_a_file_what_is_well_formed_is_taken(metadata, expected):
    record = TeacherRecord.of(metadata)
    assert (record.image_size, record.eps) == expected


def test_named_recipes_are_made_for_images_like_these():
    for name in STUDENT_RECIPES:
        recipe, info = find_student_recipe(name), made_for(name)
        assert info is not None
        assert (info.image_shape or ())[1:] == (recipe.image_size, recipe.image_size), name
        assert info.default_eps == recipe.eps, name
    assert made_for("mine.toml") is None


SETS = [word for k, v in SHORT.items() for word in ("--set", f"{k.replace('__', '.')}={v}")]
TINY = ["--student", "resnet8-w2", "--set", "batch_size=4", "--device", "cpu", *SETS]


def test_the_command_that_is_named_goes_through(folder, tmp_path, capsys, monkeypatch):
    """Word for word as it is printed."""
    import shlex

    monkeypatch.chdir(tmp_path)
    line = ["student", "--teacher", teacher(folder, CIFAR), "--out", "run"]
    line += ["--recipe", "ferd-lab-paper"]
    refused = call(capsys, *line, *TINY)
    assert_one_line(refused, "image_size is 28", "eps is 0.1", "3 channels")
    assert not list(tmp_path.iterdir())
    program, *typed = shlex.split(refused[2].rpartition("type: ")[2])
    assert program == "ferd-train"
    status, _, err = call(capsys, *typed)
    assert status == 0, err
    assert "warning" not in re.sub("warning: epoch .*", "", err)  # alarms are of the images
    recipe = json.loads((tmp_path / "run/manifest.json").read_text())["recipe"]
    assert {name: str(recipe[name]) for name in AT_CIFAR} == AT_CIFAR


@pytest.mark.parametrize(
    ("recipe", "off"),
    [
        ("ferd-lab", {"synthesis.lambda_bn": 0, "synthesis.inversion.lambda_bn": 0}),
        ("ferd-lab-paper", {"synthesis.lambda_uni": 0, "synthesis.lambda_bn": 0}),
        ("cmi-lab", {"synthesis.lambda_cr": 0, "synthesis.lambda_bn": 0}),
        ("deepinv-lab", {"synthesis.lambda_bn": 0}),
        ("fast-lab", {"synthesis.lambda_bn": 0}),
    ],
)
def test_all_that_a_teacher_lacks_is_said_at_once(recipe, off, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ["student", *own_teacher(tmp_path, "without_batchnorm"), "--recipe", recipe]
    line += ["--out", "run", *TINY]
    refused = call(capsys, *line)
    assert_one_line(refused, "batch normalisation", *(f"--set {name}=0" for name in off))
    for name in off:
        line += ["--set", f"{name}=0"]
    status, _, err = call(capsys, *line)
    assert status == 0, err


def test_size_student_and_terms_are_said_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ["student", *own_teacher(tmp_path, "without_batchnorm"), "--recipe", "ferd-lab-paper"]
    line += ["--out", "run", "--set", "image_size=32", *TINY, "--student", "cnn28-2"]
    found = call(capsys, *line)
    assert_one_line(found, "student cnn28-2 takes images of 28×28", "--student resnet8-w8",
                    "lambda_uni=0", "lambda_bn=0")  # fmt: skip


def test_what_no_field_mends_is_said_too(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ["student", *own_teacher(tmp_path, "without_batchnorm"), "--recipe", "deepinv-lab"]
    line += ["--out", "run", "--set", "synthesis.lambda_oh=0", "--set", "synthesis.lambda_adv=0"]
    found = call(capsys, *line)
    assert_one_line(found, "no batch normalisation", "are all 0", "take another method")


def test_an_error_names_each_reason_and_change_once():
    first = UnfitError(["a"], {"x": "1"}, ["do b"])
    joined = UnfitError.joined([first, first, UnfitError(["c"], {"y": "2"})])
    assert str(joined) == "a; c. Do b, or give --set x=1 --set y=2"
