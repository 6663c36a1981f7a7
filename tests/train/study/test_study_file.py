"""What a study file may say, and every mistake in one line before anything is trained."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import pytest

from ferd_eval.errors import UserError
from ferd_train.recipes.student import StudentRecipe
from ferd_train.study.definition import folder_name
from ferd_train.study.parse import read_study
from tests.conftest import ROOT
from tests.train.student_runs import tiny, write_teacher
from tests.train.study.study_files import EVALUATIONS, HEAD, METHODS, lay_out, study_file
from tests.train.test_student_cli import assert_one_line, call, data_file

LOSSES = """
[losses.own]
[losses.soft]
set = { "loss.name" = "rslad", "loss.clean_weight" = 0.25 }
"""


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory) -> Path:
    return lay_out(tmp_path_factory.mktemp("study") / "files")


@pytest.fixture
def folder(laid_out, tmp_path) -> Path:
    return Path(shutil.copytree(laid_out, tmp_path / "files"))


def paths(file: Path) -> list[str]:
    return [str(cell.path) for cell in read_study(file).trials]


def test_methods_are_crossed_with_losses_and_seeds_and_teachers(folder):
    file = study_file(
        folder, HEAD + 'big = "teacher.safetensors"\n' + METHODS + LOSSES + EVALUATIONS
    )
    study = read_study(file)
    names = ["ferd-own", "ferd-soft", "rslad-own", "rslad-soft"]
    assert [row.name for row in study.rows] == names
    assert [str(cell.path) for cell in study.trials] == [
        "small/teacher",
        "big/teacher",
        *(
            f"{teacher}/{name}/seed-{seed}"
            for seed in (0, 1)
            for teacher in ("small", "big")
            for name in names
        ),
    ]
    recipes = {row.name: row.recipe for row in study.rows}
    assert recipes["ferd-own"] == tiny(seed=0)
    assert recipes["ferd-soft"].loss.name == recipes["rslad-own"].loss.name == "rslad"
    assert recipes["ferd-soft"].loss.clean_weight == 0.25
    # What a loss sets comes last; what it leaves alone is the method's.
    assert recipes["rslad-soft"].loss.clean_weight == 0.25
    assert recipes["rslad-soft"].loss.attack_steps == 2
    assert [cell.recipe.seed for cell in study.trials if cell.row] == [0] * 8 + [1] * 8
    assert study.baseline == "ferd-own"
    assert study.out == Path("reports/runs/study-s")


def test_evaluations_attack_within_the_radius_that_was_trained_at(folder):
    full, few = read_study(study_file(folder)).evaluations
    assert (full.settings.eps, full.settings.per_class) == ("1/10", None)
    assert (few.settings.attacks, few.settings.per_class) == ("pgd", 4)
    wider = EVALUATIONS.replace("per_class", 'eps = "1/5"\nper_class')
    assert (
        read_study(study_file(folder, HEAD + METHODS + wider)).evaluations[1].settings.eps == "1/5"
    )


def test_what_is_set_for_all_gives_way_to_a_methods_own(folder):
    text = 'set = { epochs = 7, "loss.gamma" = 0.25 }\n' + HEAD
    methods = (
        '[methods.a]\nrecipe = "tiny.toml"\n[methods.b]\nrecipe = "tiny.toml"\nset.epochs = 9\n'
    )
    rows = read_study(study_file(folder, text + methods + EVALUATIONS)).rows
    assert [(row.recipe.epochs, row.recipe.loss.gamma) for row in rows] == [(7, 0.25), (9, 0.25)]


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        ('skip = [{ methods = ["rslad"], seeds = [1] }]', {"ferd 0", "ferd 1", "rslad 0"}),
        ('skip = [{ methods = ["rslad"] }, { seeds = [1] }]', {"ferd 0"}),
        ('only = [{ methods = ["rslad"] }, { seeds = [1] }]', {"rslad 0", "rslad 1", "ferd 1"}),
        ('only = [{ seeds = [1] }]\nskip = [{ methods = ["ferd"] }]', {"rslad 1"}),
        ('skip = [{ teachers = ["small"], seeds = [0] }]', {"ferd 1", "rslad 1"}),
    ],
)
def test_grids_may_be_partial(folder, selection, left):
    study = read_study(study_file(folder, f"{selection}\n{HEAD}{METHODS}{EVALUATIONS}"))
    students = [cell for cell in study.trials if cell.row]
    assert {f"{cell.row.name} {cell.seed}" for cell in students} == left
    assert study.trials[0].row is None


def test_a_teacher_need_not_be_scored(folder):
    file = study_file(folder, "score_teachers = false\n" + HEAD + METHODS + EVALUATIONS)
    assert all("seed" in path for path in paths(file))


def test_paths_are_seen_from_the_file(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    teacher = (
        '[teachers.a]\ncheckpoint = "t/x.pt"\nnormalize = "0.5/0.5"\nmodel_file = "n.py:make"\n'
    )
    text = HEAD.replace('small = "teacher.safetensors"', teacher)
    study = read_study(study_file(folder, 'out = "runs"\n' + text + METHODS + EVALUATIONS))
    assert study.out == folder / "runs"
    (source,) = study.teachers
    assert (source.checkpoint, source.reading.normalize) == (str(folder / "t/x.pt"), "0.5/0.5")
    assert source.reading.model_file == str(folder / "n.py:make")
    demo = read_study(
        study_file(folder, HEAD.replace("teacher.safetensors", "demo") + METHODS + EVALUATIONS)
    )
    assert demo.teachers[0].checkpoint == "demo"


def test_every_name_has_a_folder_of_its_own():
    names = [
        "a",
        "a/b",
        "a%2Fb",
        "..",
        ".",
        ".a",
        "%2Ea",
        "é",
        "a b",
        "a\\b",
        "C:",
        "a|b",
        "~",
        "*",
    ]
    folders = [folder_name(name) for name in names]
    assert len({*folders}) == len(names)
    for folder in folders:
        assert not {*folder} & {*'/\\:*?"<>|'}
        assert not folder.startswith(".")


def test_the_ablations_are_the_parts_of_the_variant_and_the_readings_of_the_paper():
    study = read_study(ROOT / "studies/ablations.toml")
    arms = [(row.recipe.variant, row.recipe.ablation) for row in study.rows]
    parts = ["lasting", "attacked", "inversion", "class-first", "teacher-labels"]
    own = [("ferd", "none"), *(("ferd", f"no-{part}") for part in parts)]
    assert arms == own + [(each, "none") for each in ("paper", "release", "release-2025-05")]
    assert len(study.trials) == 1 + 9 * 3
    assert {each.settings.eps for each in study.evaluations} == {"1/10"}
    assert study.rows[0].recipe.eps == Fraction(1, 10)


def test_the_laboratory_study_gives_all_methods_the_same_steps():
    study = read_study(ROOT / "studies/lab.toml")
    methods = [row.recipe.synthesis.method for row in study.rows]
    baselines = ["zskt", "cmi", "deepinv", "fast", "dfhl"]
    assert methods == ["ferd", "ferd", *baselines, "data", "data"]
    assert study.rows[1].recipe.variant == "paper"
    assert len(study.trials) == 1 + 9 * 5
    steps = [_steps(row.recipe) for row in study.rows]
    assert {*steps[:-1]} == {steps[-1] // 3} == {1440}


@pytest.mark.parametrize(
    ("file", "dataset", "students"),
    [
        ("table1", "cifar10", ["resnet18", "mobilenetv2"]),
        ("table2", "cifar100", ["resnet18", "mobilenetv2"]),
        ("tiny", "tiny-imagenet", ["preactresnet18"]),
    ],
)
def test_the_papers_tables_have_all_its_methods_and_students(file, dataset, students):
    study = read_study(ROOT / f"studies/{file}.toml")
    assert study.dataset == dataset
    rows = [
        (row.recipe.synthesis.method, row.recipe.variant, row.recipe.arch) for row in study.rows
    ]
    methods = [("ferd", "ferd"), ("ferd", "paper")]
    methods += [(each, "none") for each in ("zskt", "cmi", "deepinv", "fast", "dfhl", "data")]
    assert rows == [(*method, arch) for method in methods for arch in students]
    assert {each.settings.attacks for each in study.evaluations} == {"paper"}
    assert len(study.trials) == 1 + len(rows) * 3


def test_the_grid_differs_in_images_and_losses_only():
    study = read_study(ROOT / "studies/grid.toml")
    cells = [(row.recipe.synthesis.method, row.recipe.loss.name) for row in study.rows]
    losses = ("rslad", "fair-ard", "absld")
    assert cells == [(images, loss) for images in ("ferd", "deepinv") for loss in losses]
    weights = {(r.recipe.loss.clean_weight, r.recipe.loss.adversarial_weight) for r in study.rows}
    assert weights == {(0.5, 0.5)}
    assert len({_steps(row.recipe) for row in study.rows}) == 1


def _steps(recipe: StudentRecipe) -> int:
    """Of SGD that the student takes."""
    return (recipe.epochs - recipe.warmup) * recipe.distillation.steps


def test_the_example_of_the_docs_is_sound(tmp_path):
    text = (ROOT / "docs/studies.md").read_text(encoding="utf-8")
    first, second = (part.partition("```")[0] for part in text.split("```toml\n")[1:])
    study = read_study(study_file(tmp_path, first))
    rows = ["ferd-own", "ferd-rslad", "even-own", "even-rslad"]
    assert [row.name for row in study.rows] == rows
    assert len(study.trials) == 2 + 2 * 4 * 3
    partial = read_study(study_file(tmp_path, second + first))
    students = {(cell.row.name, cell.seed) for cell in partial.trials if cell.row}
    everyone = {(name, seed) for name in rows for seed in (0, 1, 2)}
    gone = {("even-rslad", 0), ("even-rslad", 1), ("even-rslad", 2), ("even-own", 2)}
    assert students == everyone - gone


WHOLE = HEAD + METHODS + EVALUATIONS
# What of the sound file is replaced by what, and what is said.
MISTAKES = {
    "no TOML": ("[teachers]", "[teachers", "is no TOML"),
    "unknown key": ('title = "Tiny"', "sedes = 1", "a study has no 'sedes'. Did you mean seeds?"),
    "no seeds": ("seeds = [0, 1]", "", "seeds is missing"),
    "no list of seeds": ("seeds = [0, 1]", "seeds = 3", "seeds is 3; give a list"),
    "a seed twice": ("seeds = [0, 1]", "seeds = [1, 1]", "seeds is [1, 1]; give a list of diff"),
    "no number": ("seeds = [0, 1]", 'seeds = ["0"]', "seeds is ['0']; give a list"),
    "negative seed": ("seeds = [0, 1]", "seeds = [-1]", "seed is -1; give 0 or more"),
    "title": ('title = "Tiny"', "title = 3", "title is 3; give a text"),
    "baseline": ('title = "Tiny"', 'baseline = "fred"', "'fred'. Did you mean ferd?"),
    "no dataset": ('dataset = "npz:images-3-8.npz"', "", "dataset is missing"),
    "unknown dataset": ("npz:images-3-8.npz", "cifra10", "Did you mean cifar10?"),
    "other images": ("images-3-8", "images-3-12", "1×12×12, but the student's are 1×8×8"),
    "other classes": ("images-3-8", "images-4-8", "3 logits", "4 classes"),
    "no teacher": ('small = "teacher.safetensors"', "", "teachers is missing"),
    "missing teacher": ("teacher.safetensors", "none.pt", "teachers.small: ", "none.pt"),
    "teacher of a number": ('"teacher.safetensors"', "3", "teachers.small is 3; give a check"),
    "teacher's key": ('"teacher.safetensors"', '{ chekpoint = "a" }', "Did you mean checkpoint?"),
    "teacher unlike": ("teacher.safetensors", "cnn.safetensors", "28×28", "8×8"),
    "reserved teacher": ("small =", "report =", "'report' and 'report' would share a folder"),
    "reserved method": ("[methods.ferd]", "[methods.teacher]", "would share a folder"),
    "alike": ("[methods.rslad]", "[methods.FERD]", "'FERD' and 'ferd' would share a folder"),
    "long name": ("[methods.ferd]", f"[methods.{'x' * 61}]", "give 1 to 60 printable characters"),
    "long folder": ("[methods.ferd]", f'[methods."{"語" * 30}"]', "too long for a folder's name"),
    "empty name": ("[methods.ferd]", '[methods.""]', "has the name ''"),
    "line break": ("[methods.ferd]", '[methods."a\\nb"]', "has the name 'a\\nb'"),
    "no recipe": ('recipe = "tiny.toml"', "", "methods.ferd.recipe is missing"),
    "missing recipe": ("tiny.toml", "none.toml", "methods.ferd: recipe", "cannot be read"),
    "unknown recipe": ("tiny.toml", "ferd-lap", "methods.ferd: no recipe", "mean ferd-lab?"),
    "field": ("loss.attack_steps", "loss.atack_steps", "methods.rslad: ", "mean loss.attack"),
    "value": ("attack_steps = 2", "attack_steps = 0", "methods.rslad: ", "attack_steps is 0"),
    "method's key": ('set = { "', 'sets = { "', "methods.rslad has no 'sets'. Did you mean set?"),
    "architecture": ("loss.attack_steps = 2", 'arch = "resnet9"', "methods.rslad: ", "resnet9"),
    "tap": ('"loss.name" = "rslad"', '"synthesis.tap" = "x"', "methods.rslad: ", "layer 'x'"),
    "validation": (
        '"loss.name" = "rslad"', '"validation.dataset" = "npz:none.npz"', "methods.rslad: ",
        "none.npz does not exist",
    ),
    "no evaluation": (EVALUATIONS, "", "evaluations is missing"),
    "attack": ('"fgsm"', '"fgms"', "evaluations.full: no attack is called 'fgms'. Did you mean"),
    "evaluation's key": ("per_class", "per_clas", "evaluations.few: unknown key", "per_class?"),
    "not its to say": ("per_class = 4", 'device = "cpu"', "evaluations.few has no 'device'"),
    "per class": ("per_class = 4", "per_class = 0", "evaluations.few: --per-class is 0"),
    "reserved evaluation": ("evaluations.few", "evaluations.run", "would share a folder"),
    "eps": (
        '"loss.name" = "rslad"', 'eps = "1/5"',
        "evaluations.full: methods.ferd trains for eps 1/10, methods.rslad for 1/5",
    ),
    "no such cell": (
        'title = "Tiny"', 'skip = [{ methods = ["frd"] }]',
        "skip, entry 1: none of the methods is 'frd'. Did you mean ferd?",
    ),
    "pattern's key": ('title = "Tiny"', "only = [{ seed = [1] }]", "only, entry 1 has no 'seed'"),
    "no pattern": ('title = "Tiny"', 'skip = "ferd"', "skip is 'ferd'; give a list"),
    "nothing left": ('title = "Tiny"', "skip = [{ seeds = [0, 1] }]", "leave no student to train"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake, folder, tmp_path, capsys, monkeypatch):
    before, after, *messages = MISTAKES[mistake]
    assert before in WHOLE
    monkeypatch.chdir(folder)
    data_file(folder, side=12)
    data_file(folder, num_classes=4)
    write_teacher(folder / "cnn.safetensors", arch="cnn28-2")
    file = study_file(folder, WHOLE.replace(before, after, 1))
    listed = {each.name for each in folder.iterdir()}
    called = call(capsys, "study", file, "--work", tmp_path / "work", "--device", "cpu")
    assert_one_line(called, "s.toml", *messages)
    assert not (tmp_path / "work").exists()
    assert {each.name for each in folder.iterdir()} == listed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.toml"], "study none.toml cannot be read"),
        (["s.toml", "--jobs", "0"], "--jobs is 0; give 1 or more"),
        (["s.toml", "--only", "frd"], "s.toml is called 'frd'. Did you mean ferd?"),
        (["s.toml", "--device", "abacus"], "--device abacus is no device"),
        (["s.toml", "--work", "tiny.toml"], "tiny.toml"),
    ],
    ids=lambda each: "-".join(each) if isinstance(each, list) else "",
)
def test_mistakes_of_the_command(words, message, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    study_file(folder)
    assert_one_line(call(capsys, "study", *words), message)


def test_a_study_is_not_for_torchrun(folder, capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr("os._exit", lambda status: (_ for _ in ()).throw(SystemExit(status)))
    assert_one_line(call(capsys, "study", study_file(folder)), "start it without torchrun")


def test_a_file_that_cannot_be_read_is_said(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_study(tmp_path)


def test_a_recipe_that_is_not_its_teachers(folder, tmp_path, capsys):
    trained = {"ferd.recipe": '{"image_size": 8, "eps": "8/255"}'}
    write_teacher(folder / "teacher.safetensors", metadata=trained)
    words = ["study", "--work", tmp_path / "work", "--device", "cpu", "--dry-run"]
    refused = call(capsys, *words, study_file(folder))
    assert_one_line(refused, "methods.ferd: teachers.small: eps is 0.1", 'set = { "eps" = "8/255"')
    assert not (tmp_path / "work").exists()
    meant = study_file(folder, 'set = { eps = "0.1" }\n' + HEAD + METHODS + EVALUATIONS)
    status, _, err = call(capsys, *words, meant)
    assert status == 0, err
    lines = err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["warning", "methods.ferd"],
        ["warning", "methods.rslad"],
    ]
    assert "the teacher was trained at eps 8/255" in lines[0]
