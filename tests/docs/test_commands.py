"""Every command that README.md and docs/ tell people to type is run, or read by its own parser.

Commands of ours run for real, on tiny images and networks under the names that the document uses.
Training, clusters and other people's programs are parsed: each option exists, none is missing.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import tomllib
from dataclasses import replace
from functools import cache
from pathlib import Path

import click
import numpy as np
import pandas as pd
import pytest
import torch
import typer

import ferd_eval.cli
import ferd_train.cli
from ferd_eval.datasets import LabelledImages, dataset_info
from ferd_eval.datasets.registry import DATASETS
from ferd_eval.models import build_architecture, save_network
from ferd_eval.report import as_run, write_report
from ferd_eval.results.run_folder import find_runs
from tests.conftest import ROOT
from tests.docs.documents import DOCUMENTS, Command, code_block, commands
from tests.onnx_files import random_linear

APPS = {"ferd-eval": ferd_eval.cli.app, "ferd-train": ferd_train.cli.app}
COMMANDS = [command for file in DOCUMENTS for command in commands(file)]

#: Exit status of a command that works, where it may be another than 0.
ALSO_FINE = {"gate": (1,), "publish": (1,), "verify": (1,)}

#: A word that stands for something of the reader's.
PLACEHOLDER = re.compile(r"(\$?[A-Z_]{1,12}|…)(\.\.\.)?")


def images(name: str, side: int = 8, count: int = 12) -> LabelledImages:
    """Small pictures, of which a network that always says class 0 gets none right."""
    info = dataset_info(name)
    rng = np.random.default_rng(0)
    channels = 1 if name in ("mnist", "fashion-mnist", "demo") else 3
    return LabelledImages(
        name=name,
        images_NCHW=rng.integers(0, 256, (count, channels, side, side), dtype=np.uint8),
        labels_N=1 + np.arange(count) % (info.num_classes - 1),
        class_names=info.class_names,
        indices_N=np.arange(count),
        source="made up",
        groupings={},
    )


def network(file: Path, data: LabelledImages, seed: int = 0) -> Path:
    """A file of weights that always says class 0."""
    arch = build_architecture(
        "resnet8-w2", num_classes=data.num_classes, in_channels=data.image_shape[0]
    )
    torch.manual_seed(seed)
    made = arch.build()
    made.linear.weight.data.zero_()
    made.linear.bias.data.zero_()[0] = 1.0
    file.parent.mkdir(parents=True, exist_ok=True)
    save_network(file, made, arch, None)
    return file


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> list[Path]:
    """Three finished runs of other networks on the same images."""
    from ferd_eval import build_classifier, score

    folder, data, made = tmp_path_factory.mktemp("runs"), images("cifar10"), []
    for seed in range(3):
        file = network(folder / f"net-{seed}.safetensors", data, seed)
        classifier, facts = build_classifier(file)
        facts = {"model": facts.to_json(), "checkpoint": {"name": f"net-{seed}"}}
        made.append(folder / str(seed))
        outcomes = score(classifier, data, "clean,pgd,aa", out=made[-1], facts=facts)
        if seed == 0:  # the one that is published
            write_report(made[-1], [as_run("net-0", outcomes)])
    return made


@cache
def program(name: str, *, strict: bool) -> click.Group:
    """A command line of ours; unless it is strict, nothing is required."""
    group = typer.main.get_command(APPS[name])
    assert isinstance(group, typer.core.TyperGroup)
    if not strict:
        for command in group.commands.values():
            for parameter in command.params:
                parameter.required = False
    return group


def parse(name: str, words: list[str], whole: bool) -> None:
    """What a program of ours makes of words after its name; `whole` ones lack nothing."""
    group = program(name, strict=whole)
    if words[:1] in (["--help"], ["--version"]):
        assert len(words) == 1
        return
    context = group.make_context(name, words[:1], resilient_parsing=True)
    known, command, rest = group.resolve_command(context, words)
    assert command is not None, f"there is no {words[0]}"
    command.make_context(known, rest, parent=context)


def read_by_ours(words: list[str], whole: bool) -> None:
    """Words of a command of one of our two programs."""
    if whole or words[1:]:
        parse(words[0], [word for word in words[1:] if word != "--debug"], whole)


def read_option(words: list[str]) -> None:
    """Options alone belong to some command of ours."""
    if words[0] == "--debug":
        return
    takers = [
        command
        for name in APPS
        for command in program(name, strict=False).commands.values()
        for parameter in command.params
        if words[0] in (*parameter.opts, *parameter.secondary_opts)
    ]
    assert takers, f"no command takes {words[0]}"
    if len(words) > 1 and not PLACEHOLDER.fullmatch(words[1]):
        assert any(_takes(command, words) for command in takers), words


def _takes(command: click.Command, words: list[str]) -> bool:
    try:
        command.make_context(command.name, list(words))
    except (click.ClickException, ferd_eval.UserError):
        return False
    return True


def read_by_torchrun(words: list[str], whole: bool) -> None:
    from torch.distributed.run import get_args_parser

    if len(words) == 1:
        return
    given = get_args_parser().parse_args(words[1:])
    assert given.module
    assert given.training_script == "ferd_train"
    parse("ferd-train", given.training_script_args, whole)


def read_by_pip(words: list[str], whole: bool) -> None:
    """Only what an index has, or this checkout with extras that it has."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    listed = " ".join([*project["dependencies"], *(" ".join(each) for each in extras.values())])
    assert words[1] == "install"
    for word in words[2:]:
        if word.startswith("-"):
            assert word in ("-q", "-e", "--no-deps"), word
            continue
        name, _, rest = word.partition("[")
        assert name != project["name"], "the package is in no index: install the checkout, '.'"
        if name == ".":
            assert not rest or rest.rstrip("]") in extras, word
        else:
            assert name in listed or name in ("torchattacks", "pyautoattack"), word


def read_by_python(words: list[str], whole: bool) -> None:
    """A script of ours, or a module that can be imported."""
    if words[1] == "-m":
        assert importlib.util.find_spec(words[2]), words[2]
    else:
        assert (ROOT / words[1]).is_file(), words[1]


def read_by_slurm(words: list[str], whole: bool) -> None:
    """Options of ours stand before the program that is started everywhere."""
    reader = argparse.ArgumentParser(exit_on_error=False)
    for option in ("--nodes", "--ntasks", "-w", "-x"):
        reader.add_argument(option)
    at = next(i for i, word in enumerate(words) if word in OTHERS and i)
    reader.parse_args(words[1:at])
    OTHERS[words[at]](words[at:], whole)


def read_by_ray(words: list[str], whole: bool) -> None:
    scripts = pytest.importorskip("ray.scripts.scripts", reason="Ray is not installed")
    command = scripts.cli.commands[words[1]]
    known = {option for parameter in command.params for option in parameter.opts}
    for word in words[2:]:
        assert word.partition("=")[0] in known, word


def read_by_the_shell(words: list[str], whole: bool) -> None:
    assert len(words) > 1


OTHERS = {
    "torchrun": read_by_torchrun, "pip": read_by_pip, "python": read_by_python,
    "python3": read_by_python, "srun": read_by_slurm, "ray": read_by_ray,
    "sleep": read_by_the_shell, "export": read_by_the_shell, "ssh-keygen": read_by_the_shell,
    "ferd-eval": read_by_ours, "ferd-train": read_by_ours,
}  # fmt: skip


def read(command: Command) -> None:
    """Have the command's own program read it; one that is not known is a fault of the test."""
    words = [Path(command.words[0]).name, *command.words[1:]]
    words = [word for word in words if not (word.startswith("[") and word.endswith("]"))]
    if words[0].startswith("--"):
        read_option(words)
        return
    assert words[0] in OTHERS, f"nothing here reads {words[0]}"
    OTHERS[words[0]](words, command.whole)


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_is_one_that_its_program_takes(command):
    read(command)


def runs_here(command: Command) -> bool:
    """Whether it can be carried out in a moment, on one machine without a GPU."""
    program, *rest = command.words
    if not command.whole or not rest or {"--cluster", "cuda:0,cuda:1"} & {*rest}:
        return False
    if program == "ferd-eval":
        return rest[0] != "demo"  # which has tests of its own, and takes half a minute
    if program == "ferd-train" and rest[0] == "study":
        return "studies/lab.toml" not in rest  # one of its methods needs many real images
    return program == "ferd-train" and rest[0] in ("ls", "tune", "export")


#: Of commands that differ in their documents alone, one.
RUN = list({each.words: each for each in COMMANDS if runs_here(each)}.values())


@pytest.mark.parametrize("command", RUN, ids=str)
def test_every_command_of_ours_works_as_it_stands(command, finished, tmp_path, monkeypatch, capsys):
    words = [word for word in command.words[1:] if not word.startswith("[")]
    for package in ("onnx", "onnxruntime", "onnxscript"):
        if "onnx" in str(command):
            pytest.importorskip(package, reason=f"{package} is not installed")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    side, count = {"study": (28, 12), "tune": (28, 40)}.get(words[0], (8, 12))
    monkeypatch.setattr(
        "ferd_eval.datasets.registry._load_public",
        lambda dataset, folder, split, download: images(dataset.name, side, count),
    )
    demo = replace(DATASETS["demo"], read=lambda split: images("demo"))
    monkeypatch.setitem(DATASETS, "demo", demo)
    _lay_out(words, finished, tmp_path)
    if words[0] in ("study", "tune") and "--dry-run" not in words:
        words.append("--dry-run")
    if words[0] == "tune":  # there are few images to hold out
        words += ["--set", "validation.per_class=1"]
    status = ferd_eval.cli.run(APPS[command.words[0]], words, command.words[0])
    printed = capsys.readouterr()
    assert status in (0, *ALSO_FINE.get(words[0], ())), printed.err
    if "--out" in words and words[0] == "score":
        assert find_runs(Path(words[words.index("--out") + 1])).runs


def _lay_out(words: list[str], finished: list[Path], folder: Path) -> None:
    """Files and folders of the names that a command uses, and nothing under its --out."""
    given = dict(zip(words, words[1:], strict=False))
    named, _, corrupted = given.get("--dataset", "cifar10").partition("-c:")
    data = images(named)
    if corrupted:
        Path(corrupted).mkdir()
        np.save(Path(corrupted, "fog"), np.zeros((60, 32, 32, 3), np.uint8))
        np.save(Path(corrupted, "labels"), np.tile(data.labels_N, 5))
    runs = iter(finished * 4)
    for word in ",".join(words[1:]).split(","):
        name = word.partition("=")[0]
        path, suffix = folder / name, Path(name).suffix
        if word == given.get("--out") or word.startswith("-") or word.startswith("~"):
            continue
        if name == "preds.csv":
            labels = data.labels_N
            names = ["pred"] if "=" in word else ["clean_pred", "pgd_pred"]
            rows = {"index": data.indices_N, "label": labels, **dict.fromkeys(names, labels)}
            pd.DataFrame(rows).to_csv(path, index=False)
        elif word == "adv.pth":
            clean_NCHW = torch.from_numpy(data.images_NCHW) / 255
            torch.save({"adv_complete": (clean_NCHW - 4 / 255).clamp(min=0)}, path)
        elif suffix == ".npz":
            path.parent.mkdir(parents=True)
            np.savez(path, images=(data.images_NCHW / 255 - 4 / 255).clip(0).astype(np.float32))
        elif suffix == ".onnx":
            path.write_bytes(random_linear(10, data.image_shape)[2].SerializeToString())
        elif suffix in (".pt", ".pth", ".safetensors"):
            network(path, data, seed=len(word))
        elif suffix == ".toml":
            shutil.copytree(ROOT / path.parent.name, path.parent)
        elif ".py:" in word:
            file = ROOT / "docs" / "contributing" / "attack.md"
            (folder / word.partition(":")[0]).write_text(code_block(file, "python", "class Mo"))
        elif words[0] in ("compare", "gate", "leaderboard", "report", "verify") and (
            "/" in word or PLACEHOLDER.fullmatch(word)
        ):
            shutil.copytree(next(runs), path)
    if words[0] == "publish":
        shutil.copytree(finished[0], folder / "reports" / "mine" / "net")


def test_the_notebook_example_works(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    block = code_block(ROOT / "README.md", "python", "ferd_eval.score(")
    data = images("cifar10")
    monkeypatch.setattr(
        "ferd_eval.datasets.registry._load_public", lambda *_: replace(data, name="cifar10")
    )
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 10))
    exec(compile(block, "README.md", "exec"), {"model": model})


@pytest.mark.parametrize(
    ("words", "whole"),
    [
        ("ferd-eval score ckpt.pt --dataset cifar10 --atacks fast", True),
        ("ferd-eval gate --floor 0.2", True),
        ("ferd-train student --recipe ferd-lab --teacher demo", True),
        ("torchrun --nproc-per-node 4 -m ferd_train student --recipe x --teacher t.pt", True),
        ("pip install ferd[cluster]", True),
        ("pip install .[clusters]", True),
        ("python benchmarks/nothing.py", True),
        ("curl example.org", True),
        ("--nonsense", False),
        ("--limit many", False),
        ("ferd-eval scores a.pt", True),
    ],
)
def test_a_wrong_command_is_found(words, whole):
    with pytest.raises((AssertionError, click.ClickException, Exception)) as caught:
        read(Command("here", tuple(words.split()), whole))
    assert not isinstance(caught.value, AttributeError | TypeError | KeyError | StopIteration)
