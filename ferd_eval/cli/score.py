"""``ferd-eval score``: attack checkpoints and write their reports."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ferd_eval.evaluation.config import EvalConfig

_DATA, _MODEL, _ATTACK, _RUN = "Data", "Model", "Attacks", "Run"


def score(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CKPT...", help="Files of weights; never executed.")
    ],
    dataset: Annotated[
        str | None,
        typer.Option(
            help="A name of `ls datasets`, folder:PATH or npz:PATH.", rich_help_panel=_DATA
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the data set lies.", rich_help_panel=_DATA)
    ] = None,
    download: Annotated[
        bool | None,
        typer.Option("--download", help="Fetch a missing public set.", rich_help_panel=_DATA),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Names of your own set's classes in label order: a file with one a line, or "
            "a,b,c; for folder:PATH exactly its folders.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    class_order: Annotated[
        str | None,
        typer.Option(
            metavar="text|natural",
            help="How the folders of folder:PATH are numbered: as torchvision does (default), or "
            "2 before 10.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first N images.", rich_help_panel=_DATA)
    ] = None,
    per_class: Annotated[
        int | None,
        typer.Option(help="Only the first N images of each class.", rich_help_panel=_DATA),
    ] = None,
    groups: Annotated[
        str | None,
        typer.Option(
            help="Figures for groups of classes too: superclass, or a CSV file class,group.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            help="Which network, where a file holds several: student, state_dict_ema, ...",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(help="A name of `ls models`; default: detected.", rich_help_panel=_MODEL),
    ] = None,
    model_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:FACTORY",
            help="Your own network. Runs FILE.py.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    normalize: Annotated[
        str | None,
        typer.Option(
            help="auto, none, cifar10, cifar100, imagenet or M,M,M/S,S,S.", rich_help_panel=_MODEL
        ),
    ] = None,
    attacks: Annotated[
        str | None,
        typer.Option(
            help="Names of `ls attacks`, with commas; default: paper = clean,fgsm,pgd,cw,aa.",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    attack_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:CLASS",
            help="Your own attack beside the others. Runs FILE.py.",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="native, or as a cross-check: autoattack (its authors' code), torchattacks.",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            help="L∞ radius such as 8/255; several with commas give a profile.",
            rich_help_panel=_ATTACK,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Steps of every iterated attack.", rich_help_panel=_ATTACK)
    ] = None,
    step_size: Annotated[
        str | None, typer.Option(help="Their step; default ε/4.", rich_help_panel=_ATTACK)
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="auto or a number.", rich_help_panel=_RUN)
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="auto, cpu, cuda, cuda:1, mps; several with commas work at once (needs Ray).",
            rich_help_panel=_RUN,
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="auto|ADDRESS",
            help="Work on all GPUs or CPUs of a cluster of Ray.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32 or float64.", rich_help_panel=_RUN)
    ] = None,
    fold_batchnorm: Annotated[
        bool | None,
        typer.Option(
            "--fold-batchnorm/--no-fold-batchnorm",
            help="Search with batch norms folded away; the network itself decides. Default: yes.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Key of all random numbers.", rich_help_panel=_RUN)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder; the same command continues it.", rich_help_panel=_RUN),
    ] = None,
    save_adv: Annotated[
        bool | None,
        typer.Option("--save-adv", help="Keep the adversarial images.", rich_help_panel=_RUN),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file with any of these options.", rich_help_panel=_RUN),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the scorecard as JSON.", rich_help_panel=_RUN)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Say what would be done and how long it would take; write nothing.",
            rich_help_panel=_RUN,
        ),
    ] = False,
) -> None:
    """Attack each checkpoint and report how evenly its classes resist.

    Killed at any moment, the same command goes on where it stopped and ends with the same result.
    """
    flags = {
        name: value
        for name, value in locals().items()
        if name not in ("checkpoints", "config", "json", "dry_run")
    }
    settings = EvalConfig.gather(flags, config)

    from ferd_eval.pipeline import plan_checkpoints, score_checkpoints

    if dry_run:
        plan_checkpoints(checkpoints, settings, as_json=json)
        return
    score_checkpoints(checkpoints, settings, command=["ferd-eval", *sys.argv[1:]], as_json=json)
