"""``ferd-train student``: results on stdout, mistakes in one line and status 2, no folder left."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import ferd_eval.cli
from ferd_eval.models import Normalization
from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_train.cli import main
from ferd_train.config.recipe import to_toml
from ferd_train.distillation.teacher import load_teacher
from ferd_train.pipeline import warn_of_file
from tests.conftest import ROOT, tiny_data
from tests.train.student_runs import (
    RESULT,
    STATE,
    figures,
    same_weights,
    tiny,
    weights,
    write_teacher,
)

pytestmark = pytest.mark.usefixtures("same_code")

SHORT = {"epochs": 2, "warmup": 1, "synthesis__steps": 2, "distillation__steps": 2}


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main([str(each) for each in arguments])
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


def assert_one_line(called: tuple[int, str, str], *messages: str) -> None:
    status, out, err = called
    assert (status, out) == (2, ""), err
    *before, last = err.splitlines()
    assert last.startswith("error: ")
    for message in messages:
        assert message in last
    assert not [line for line in before if "Traceback" in line or line.startswith("error")]


@pytest.fixture(scope="module")
def recipe_file(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("recipe") / "mine.toml"
    file.write_text(to_toml(tiny(**SHORT)))
    return file


def data_file(folder: Path, num_classes: int = 3, side: int = 8, per_class: int = 6) -> Path:
    """Images of random bytes, the same number of each class."""
    data = tiny_data(per_class * num_classes, num_classes, side=side)
    file = folder / f"images-{num_classes}-{side}.npz"
    labels = np.tile(np.arange(num_classes), per_class)
    np.savez(file, images=data.images_NCHW, labels=labels)
    return file


@pytest.fixture
def words(teacher_file, recipe_file, tmp_path, monkeypatch) -> list[object]:
    monkeypatch.chdir(tmp_path)
    common = ["student", "--recipe", recipe_file, "--teacher", teacher_file]
    return [*common, "--out", tmp_path / "run", "--device", "cpu"]


def test_the_last_line_is_the_result_and_progress_goes_elsewhere(words, tmp_path, capsys):
    status, out, err = call(capsys, *words)
    assert status == 0
    assert out.splitlines() == [str(tmp_path / "run" / RESULT)]
    warning, first, *epochs = err.splitlines()
    assert warning.startswith("warning: the teacher's file does not say what it was trained at")
    assert first == "seed 0: resnet8-w2 on cpu (named by the user)"
    assert re.match(r"epoch 1/2  images: loss [\d.]+, as asked \d+%  heaviest class \d", epochs[0])
    assert re.search(r"  student: loss [\d.]+, as teacher \d+%  .*  0 s left$", epochs[1])
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    assert manifest["status"] == "finished"
    assert manifest["checkpoint_selection"] == "last epoch; no images of the data set used"
    assert manifest["recipe"] == tiny(**SHORT).to_json()
    assert call(capsys, *words)[:2] == (0, out)


def test_the_file_says_what_it_is(words, tmp_path, capsys):
    assert call(capsys, *words)[0] == 0
    with pytest.raises(SystemExit) as exit_:
        ferd_eval.cli.main(["inspect", str(tmp_path / "run" / RESULT)])
    said = capsys.readouterr().out
    assert not exit_.value.code
    assert "resnet8-w2" in said
    assert "metadata" in said


def test_options_are_fields_and_win_over_set(words, tmp_path, capsys):
    more = ["--student", "resnet8-w3", "--variant", "release", "--ablation", "no-fae", "--seed", 7]
    changes = ["arch=resnet8", "variant=paper", "seed=1", "loss.gamma=0.25", "batch-size=6"]
    sets = [word for change in changes for word in ("--set", change)]
    assert call(capsys, *words, *more, *sets)[0] == 0
    recipe = json.loads((tmp_path / "run/manifest.json").read_text())["recipe"]
    expected = {"arch": "resnet8-w3", "variant": "release", "ablation": "no-fae", "seed": 7}
    assert {name: recipe[name] for name in expected} == expected
    assert (recipe["synthesis.lambda_uni"], recipe["loss.network"]) == (0, "student")
    assert (recipe["loss.gamma"], recipe["batch_size"]) == (0.25, 6)


def test_seeds_have_folders_of_their_own(words, tmp_path, capsys):
    status, out, _ = call(capsys, *words, "--seeds", "0,1")
    folders = [tmp_path / "run" / f"seed-{seed}" for seed in (0, 1)]
    assert status == 0
    assert out.splitlines() == [str(folder / RESULT) for folder in folders]
    assert not same_weights(*folders)
    assert [each["seed"] for each in map(manifest_of, folders)] == [0, 1]
    # One seed alone is the same run, in the folder that is given.
    assert call(capsys, *words[:-3], tmp_path / "alone", "--device", "cpu", "--seed", 1)[0] == 0
    assert (tmp_path / "alone" / RESULT).read_bytes() == (folders[1] / RESULT).read_bytes()


def manifest_of(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text())


def test_no_data_set_is_opened(words, capsys, monkeypatch):
    """The name `load_dataset` is looked up by each module that could use it."""

    def never(*arguments, **named):
        raise AssertionError("a data set was opened")

    for module in ("ferd_train.distillation.run", "ferd_eval.evaluation.inputs"):
        monkeypatch.setattr(f"{module}.load_dataset", never)
    loader = "ferd_eval.datasets.registry.load_dataset"
    monkeypatch.setattr(loader, never, raising=False)
    monkeypatch.setattr(np, "load", never)
    assert call(capsys, *words)[0] == 0


def test_validation_looks_and_changes_nothing(words, tmp_path, capsys):
    assert call(capsys, *words)[0] == 0
    data = data_file(tmp_path, per_class=8)
    sets = ["--set", f"validation.dataset=npz:{data}", "--set", "validation.per_class=4"]
    looked = [tmp_path / "looked" if word == tmp_path / "run" else word for word in words]
    status, _, err = call(capsys, *looked, *sets)
    assert status == 0, err
    assert re.search(r"validation: clean [\d.]+%, PGD-10 [\d.]+%", err)
    assert same_weights(tmp_path / "run", tmp_path / "looked")
    seen = figures(tmp_path / "looked")
    keys = {"clean", "clean_worst_class", "pgd", "pgd_worst_class"}
    assert all({*line["validation"]} == keys for line in seen)
    assert manifest_of(tmp_path / "looked")["checkpoint_selection"].endswith("none used")
    header = (tmp_path / "looked/metrics.csv").read_text().splitlines()[0]
    assert "validation.pgd_worst_class" in header


def written(folder: Path) -> dict[Path, int]:
    """When each file was; folders change when a lock comes and goes."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_score_reports_student_and_teacher_and_is_not_repeated(words, tmp_path, capsys):
    data = data_file(tmp_path)
    scored = [*words, "--score", "--dataset", f"npz:{data}", "--attacks", "fgsm"]
    status, out, err = call(capsys, *scored)
    assert status == 0, err
    report = tmp_path / "run/report"
    assert out.splitlines()[-1] == str(report / "report.html")
    runs = {folder.parent.name: json.loads(folder.read_text()) for folder in report.glob("*/man*")}
    assert {*runs} == {"student", "teacher"}
    assert {run["attacks"]["fgsm"]["step_size_text"] for run in runs.values()} == {"0.1"}
    table = (report / "report.md").read_text()
    assert "student" in table
    assert "teacher" in table
    before = written(tmp_path)
    time.sleep(0.01)
    again = call(capsys, *scored)
    assert again[:2] == (0, out)
    assert written(tmp_path) == before


def test_score_at_the_very_radius_that_was_trained_at(words, tmp_path, capsys):
    """1/3 has no short decimal; six digits of it are another ball."""
    data = data_file(tmp_path)
    score = ["--score", "--dataset", f"npz:{data}", "--attacks", "fgsm", "--set", "eps=1/7"]
    assert call(capsys, *words, *score)[0] == 0
    attack = manifest_of(tmp_path / "run/report/student")["attacks"]["fgsm"]
    assert attack["step_size"] == 1 / 7


def test_seeds_are_scored_together_and_the_teacher_in_its_own_way(tmp_path, words, capsys):
    """The teacher's file does not say how it wants its images: that holds for it alone."""
    data = data_file(tmp_path)
    teacher = ["--teacher-normalize", "0.4/0.5", "--teacher-arch", "resnet8-w2"]
    score = ["--seeds", "0,1", "--score", "--dataset", f"npz:{data}", "--attacks", "fgsm"]
    status, out, err = call(capsys, *words, *teacher, *score)
    assert status == 0, err
    report = tmp_path / "run/report"
    assert out.splitlines()[-1] == str(report / "report.html")
    models = {file.parent.name: json.loads(file.read_text()) for file in report.glob("*/man*")}
    assert {*models} == {"seed-0-student", "seed-1-student", "teacher"}
    assert models["teacher"]["model"]["normalization"] == {"mean": [0.4], "std": [0.5]}
    assert models["seed-0-student"]["model"]["normalization"] is None
    origins = [models[f"seed-{seed}-student"]["checkpoint"] for seed in (0, 1)]
    assert [each["recipe"]["seed"] for each in origins] == [0, 1]
    digest = models["teacher"]["checkpoint"]["sha256"]
    assert {each["teacher_sha256"] for each in origins} == {digest}
    assert not {"recipe", "teacher_sha256"} & {*models["teacher"]["checkpoint"]}
    table = (report / "report.md").read_text()
    assert all(name in table for name in models)


def test_of_two_networks_the_teacher_is_distilled_and_scored(words, teacher_file, tmp_path, capsys):
    teacher = load_checkpoint(teacher_file)
    student = {key: tensor * 0.5 for key, tensor in teacher.tensors.items()}
    both = {"student": student, "teacher": dict(teacher.tensors)}
    torch.save(both, tmp_path / "both.pt")
    words[words.index("--teacher") + 1] = tmp_path / "both.pt"
    words += ["--teacher-normalize", "none"]
    score = ["--score", "--dataset", f"npz:{data_file(tmp_path)}", "--attacks", "clean"]
    status, _, err = call(capsys, *words, *score)
    assert status == 0, err
    assert "teacher was taken" in err
    assert "--teacher-key" in err
    assert manifest_of(tmp_path / "run")["teacher"]["key"] == "teacher"
    assert manifest_of(tmp_path / "run/report/both")["checkpoint"]["key"] == "teacher"
    # The same file, another network in it: another run.
    assert_one_line(call(capsys, *words, "--teacher-key", "student"), "teacher.key is teacher")
    words[words.index("--out") + 1] = tmp_path / "other"
    assert call(capsys, *words, "--teacher-key", "student")[0] == 0
    assert manifest_of(tmp_path / "other")["teacher"]["key"] == "student"
    assert not same_weights(tmp_path / "run", tmp_path / "other")


def test_the_teachers_file_may_say_what_to_score_on(recipe_file, tmp_path, capsys):
    data = data_file(tmp_path)
    teacher = write_teacher(tmp_path / "t.safetensors", metadata={"ferd.dataset": f"npz:{data}"})
    words = ["student", "--recipe", recipe_file, "--teacher", teacher, "--device", "cpu"]
    status, _, err = call(capsys, *words, "--out", tmp_path / "run", "--score", "--attacks", "fgsm")
    assert status == 0, err
    assert (tmp_path / "run/report/report.html").is_file()


@pytest.mark.parametrize(
    ("arch", "channels", "classes", "normalization", "half", "size"),
    [
        ("resnet18-w2", 3, 4, Normalization((0.5,) * 3, (0.2,) * 3), False, 16),
        ("resnet8-w4", 1, 3, None, True, 12),
        ("cnn28-2", 1, 3, None, False, 28),
    ],
)
def test_teachers_of_other_kinds(
    arch, channels, classes, normalization, half, size, tmp_path, recipe_file, capsys
):
    teacher = write_teacher(
        tmp_path / "t.safetensors",
        arch=arch,
        in_channels=channels,
        num_classes=classes,
        normalization=normalization,
        half=half,
    )
    words = ["student", "--recipe", recipe_file, "--teacher", teacher, "--device", "cpu"]
    student = "cnn28-2" if size == 28 else "resnet8-w2"
    more = ["--student", student, "--set", f"image_size={size}", "--out", tmp_path / "run"]
    status, _, err = call(capsys, *words, *more)
    assert status == 0, err
    learnt = weights(tmp_path / "run")
    assert learnt["conv1.weight"].shape[1] == channels
    assert all(tensor.isfinite().all() for tensor in learnt.values())


OWN = """
import torch
from torch import nn

def known_nowhere(num_classes=3, in_channels=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, num_classes),
    )

def without_batchnorm(num_classes=3, in_channels=1):
    return nn.Sequential(
        nn.Conv2d(in_channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, num_classes),
    )
"""


def own_teacher(tmp_path: Path, factory: str) -> list[object]:
    (tmp_path / "own.py").write_text(OWN)
    namespace: dict = {}
    exec(OWN, namespace)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: nn.Module = namespace[factory]()
    torch.save(network.state_dict(), tmp_path / "own.pt")
    return [
        "--teacher",
        tmp_path / "own.pt",
        "--teacher-model-file",
        f"{tmp_path / 'own.py'}:{factory}",
    ]


def test_a_network_of_the_users_own_goes_on_without_features(words, tmp_path, capsys):
    given = [*words, *own_teacher(tmp_path, "known_nowhere")]
    refused = call(capsys, *given)
    assert_one_line(refused, "where to cut a Sequential", "synthesis.lambda_uni=0")
    assert not (tmp_path / "run").exists()
    status, _, err = call(capsys, *given, "--set", "synthesis.lambda_uni=0")
    assert status == 0, err
    terms = figures(tmp_path / "run")[0]["generator_terms"]
    assert {*terms} == {"adv", "bn", "oh"}


@pytest.mark.parametrize("match_student", [True, False])
def test_a_teacher_without_batch_normalisation(match_student, words, tmp_path, capsys):
    given = [*words, *own_teacher(tmp_path, "without_batchnorm"), "--set"]
    given += [f"synthesis.match_student={match_student}", "--set", "synthesis.lambda_uni=0"]
    assert_one_line(
        call(capsys, *given),
        "the teacher has no batch normalisation",
        "synthesis.lambda_bn=0",
    )
    assert not (tmp_path / "run").exists()
    status, _, err = call(capsys, *given, "--set", "synthesis.lambda_bn=0")
    assert status == 0, err
    assert {*figures(tmp_path / "run")[0]["generator_terms"]} == {"adv", "oh"}


def damaged(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def made(folder: Path) -> dict[str, object]:
    """Files that options below name."""
    whole = write_teacher(folder / "whole.safetensors").read_bytes()
    return {
        "TEN": write_teacher(folder / "ten.safetensors", num_classes=10),
        "DEEP": write_teacher(folder / "deep.safetensors", arch="resnet18-w2"),
        "CNN": write_teacher(folder / "cnn.safetensors", arch="cnn28-2"),
        "HALF": damaged(folder, "half.safetensors", whole[: len(whole) // 2]),
        "HTML": damaged(folder, "page.pt", b"<!DOCTYPE html><html>Not found</html>"),
        "EMPTY": damaged(folder, "empty.pt", b""),
        "DATA3": f"npz:{data_file(folder)}",
        "DATA10": f"npz:{data_file(folder, num_classes=10)}",
        "DATA12": f"npz:{data_file(folder, side=12)}",
    }


MISTAKES = [
    ("--recipe ferd-lap", "no recipe for students is called 'ferd-lap'. Did you mean ferd-lab?"),
    ("--recipe demo-cnn", "recipe demo-cnn is not one for students"),
    ("--recipe none.toml", "recipe none.toml cannot be read"),
    ("--variant papper", "no variant is called 'papper'. Did you mean paper?"),
    ("--ablation no-fea", "no ablation is called 'no-fea'. Did you mean no-fae?"),
    ("--set synthesis.betta=1", "no field 'synthesis.betta'. Did you mean synthesis."),
    ("--set synthesis=1", "synthesis is a section of a recipe"),
    ("--set epochs", "--set epochs is not NAME=VALUE"),
    ("--set epochs=1", "warmup is 1 of 1 epochs"),
    ("--set synthesis.steps=two", "synthesis.steps is 'two'; give a whole number"),
    ("--set image_size=30", "image_size is 30; give a multiple of 4"),
    ("--set eps=8", "write 8/255"),
    ("--seeds 0,x", "--seeds is '0,x'; give numbers such as 0,1,2"),
    ("--seeds 0,,1", "--seeds is '0,,1'; give numbers"),
    ("--seeds 0,1,0", "--seeds is 0,1,0; give each number once"),
    ("--seeds=", "--seeds is ''; give numbers"),
    ("--seed 1.5", "--seeds is '1.5'; give numbers"),
    ("--seeds=0,-1", "seed is -1; give 0 or more"),
    ("--seed 9223372036854775808", "below 2**63"),
    ("--device abacus", "--device abacus is no device"),
    ("--student resnet9", "resnet9 is not a known architecture"),
    (
        "--student cnn28-2",
        "student cnn28-2 takes images of 28×28, but image_size is 8",
        "--student r",
    ),
    ("--teacher none.pt", "none.pt"),
    ("--teacher HALF", "half.safetensors"),
    ("--teacher HTML", "page.pt"),
    ("--teacher EMPTY", "empty.pt"),
    ("--teacher CNN", "cnn.safetensors", "28×28", "8×8", "--set image_size=28"),
    ("--teacher-arch resnet20", "resnet20"),
    ("--teacher-normalize 0.5", "normalize"),
    ("--teacher DEEP", "the features of layer layer4 are 1×1", "synthesis.tap=layer3"),
    (
        "--set synthesis.tap=layer9",
        "a ResNet has no feature layer 'layer9'",
        "layer1, layer2, layer3",
    ),
    ("--teacher TEN --score --dataset DATA3", "10 logits", "3 classes"),
    ("--score --dataset DATA10", "3 logits", "10 classes"),
    ("--score --dataset DATA12", "images of 1×12×12, but the student's are 1×8×8", "image_size=12"),
    ("--score --dataset npz:none.npz", "none.npz does not exist"),
    ("--score --dataset cifra10", "Did you mean cifar10?"),
    ("--score", "what to score on is not known", "--dataset"),
    ("--score --dataset DATA3 --attacks pgd21,fgms", "pgd21"),
    ("--set validation.dataset=DATA10", "validation.dataset", "3 logits", "10 classes"),
    ("--set validation.dataset=DATA12", "validation.dataset", "1×12×12"),
    ("--set validation.dataset=DATA3", "6 training images"),
    ("--set validation.dataset=npz:none.npz", "none.npz does not exist"),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake[0])
def test_mistakes(mistake, words, tmp_path, capsys):
    line, *messages = mistake
    files = made(tmp_path / "files") if re.search("[A-Z]{3}", line) else {}
    for name, file in files.items():
        line = line.replace(name, str(file))
    assert_one_line(call(capsys, *words, *line.split(" ")), *messages)
    assert {file.name for file in tmp_path.iterdir()} <= {"files"}


@pytest.mark.parametrize("missing", ["--recipe", "--teacher", "--out"])
def test_what_must_be_given(missing, words, tmp_path, capsys):
    at = words.index(missing)
    assert_one_line(call(capsys, *words[:at], *words[at + 2 :]), missing)
    assert not list(tmp_path.iterdir())


def test_divergence(words, tmp_path, capsys):
    called = call(capsys, *words, "--set", "distillation.lr=1e25")
    assert_one_line(called, "diverged in epoch 2", "lr 1e+25 is too high", "kept last is from")
    assert (tmp_path / "run" / STATE).is_file()
    assert not (tmp_path / "run" / RESULT).exists()
    again = call(capsys, *words, "--set", "distillation.lr=1e25")
    assert_one_line(again, "diverged in epoch 2")
    assert "epoch 1/2" not in again[2]
    assert_one_line(call(capsys, *words), "distillation.lr is 1e+25, asked for is 0.1")


def test_a_file_in_the_folders_place(words, tmp_path, capsys):
    (tmp_path / "run").write_text("mine")
    assert_one_line(call(capsys, *words), "cannot create")
    assert (tmp_path / "run").read_text() == "mine"


def test_demo_takes_the_packaged_teacher(tmp_path, capsys, monkeypatch):
    """Its recipe cut to a second; all else is the command's own."""
    short = {"epochs": 2, "warmup": 1, "batch_size": 8, "synthesis.steps": 1}
    short |= {"synthesis.width": 2, "synthesis.bottleneck.steps": 1, "distillation.steps": 1}
    short |= {"arch": "cnn28-2", "reweighting.attack_steps": 1, "loss.attack_steps": 1}
    from ferd_train.recipes.ferd import ferd_demo

    monkeypatch.setattr(
        "ferd_train.pipeline.find_student_recipe", lambda name: ferd_demo().with_changes(short)
    )
    scored: list = []
    monkeypatch.setattr(
        "ferd_train.pipeline.score_checkpoints",
        lambda files, settings, **named: scored.append((files, settings)),
    )
    monkeypatch.setattr("ferd_train.pipeline._verdicts", lambda *_: ["a verdict."])
    status, out, _ = call(capsys, "demo", "--out", tmp_path / "demo")
    assert status == 0
    verdict, outlook, then, page = out.splitlines()
    assert (verdict, page) == ("a verdict.", str(tmp_path / "demo/report/report.html"))
    assert "docs/why-ferd-falls-short.md" in outlook
    assert then.startswith("Next: ferd-train student --teacher demo --recipe ferd-lab ")
    ((files, settings),) = scored
    assert [file.name for file in files] == [RESULT, "resnet8.safetensors"]
    assert files[0] == tmp_path / "demo" / RESULT
    assert (settings.dataset, settings.attacks, settings.eps) == ("demo", "fast", "1/10")
    assert settings.out == tmp_path / "demo/report"


def test_the_demo_cites_figures_that_are_in_the_reports():
    from ferd_train.demo import _OUTLOOK
    from ferd_train.recipes.ferd import ferd_demo, ferd_lab

    why = (ROOT / "docs/why-ferd-falls-short.md").read_text(encoding="utf-8").splitlines()
    row = next(line for line in why if line.startswith("| F |"))
    average, worst = row.split("|")[-2].replace("(", "").replace(")", "").split()
    readme = (ROOT / "reports/baselines-lab/README.md").read_text(encoding="utf-8").splitlines()
    teacher = next(line for line in readme if line.startswith("| teacher |")).split("|")
    assert f"reached {average} % under PGD-10 " in _OUTLOOK
    assert f"its worst class {worst} % " in _OUTLOOK
    assert f"{teacher[4].strip()} % and {teacher[5].strip()} %" in _OUTLOOK
    assert f"{ferd_demo().epochs} of the {ferd_lab().epochs} epochs" in _OUTLOOK


def test_a_scored_student_ends_with_a_verdict_against_the_teacher(words, tmp_path, capsys):
    data = data_file(tmp_path)
    score = ["--seeds", "0,1", "--score", "--dataset", f"npz:{data}", "--attacks", "fgsm"]
    status, out, err = call(capsys, *words, *score)
    assert status == 0, err
    *_, first, second, page = out.splitlines()
    assert page == str(tmp_path / "run/report/report.html")
    for seed, line in enumerate((first, second)):
        assert line.startswith("Under fgsm at ε = 0.1, ")
        assert f"seed-{seed}-student" in line
        assert "teacher" in line
    assert not (tmp_path / "reports").exists()


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(words, tmp_path, capsys):
    data = data_file(tmp_path)
    assert call(capsys, *words)[0] == 0
    (tmp_path / "runs").mkdir()
    (tmp_path / "run").rename(tmp_path / "runs/seed-1")
    before = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")}
    out_at = words.index("--out") + 1
    words[out_at] = tmp_path / "runs"
    score = ["--score", "--dataset", f"npz:{data}", "--attacks", "fgsm"]
    status, out, err = call(capsys, *words, "--seeds", "0,2", *score, "--dry-run")
    assert status == 0, err
    lines = out.splitlines()
    assert "eps 0.1" in lines[0]
    assert "resnet8-w2, 3 classes" in lines[1]
    assert [line for line in lines if line.endswith("runs/seed-2: to be trained")]
    assert [line for line in lines if re.match(r"time +about \d+ s \(", line)]
    assert [line for line in lines if "teacher and 2 students on 18 images" in line]
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*")} == before
    # A mistake is found as without it.
    wrong = call(capsys, *words, "--dry-run", "--set", "synthesis.tap=layer9")
    assert_one_line(wrong, "no feature layer 'layer9'")


def test_the_folder_of_each_seed_is_looked_at_before_the_first_is_trained(words, tmp_path, capsys):
    assert call(capsys, *words)[0] == 0
    (tmp_path / "runs").mkdir()
    (tmp_path / "run").rename(tmp_path / "runs/seed-1")
    words[words.index("--out") + 1] = tmp_path / "runs"
    refused = call(capsys, *words, "--seeds", "0,1")
    assert_one_line(refused, "seed-1 holds a run with another recipe: seed is 0")
    assert not (tmp_path / "runs/seed-0").exists()


def test_a_teacher_that_may_be_another_network_is_cautioned_of(tmp_path, capsys):
    """No key shows a max-pool: who distils from the wrong network should know before."""
    write_teacher(tmp_path / "t.safetensors", arch="resnet18-maxpool-w2")
    torch.save(load_file(tmp_path / "t.safetensors"), tmp_path / "t.pt")
    warn_of_file(load_teacher(tmp_path / "t.pt", 8))
    said = capsys.readouterr().err
    assert said.startswith("warning: teacher t: taken for resnet18-w2 ")
    assert "resnet18-maxpool-w2" in said
    assert "--teacher-arch" in said
    warn_of_file(load_teacher(tmp_path / "t.safetensors", 8))
    assert capsys.readouterr().err == ""
