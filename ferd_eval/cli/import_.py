"""``ferd-eval import``: results of other tools as a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ferd_eval.cli.options import config_options, run_option
from ferd_eval.errors import UserError
from ferd_eval.evaluation.config import EvalConfig, flag

_IMAGES = "Adversarial images"


@config_options(
    ("class_order", "data_dir", "limit", "key", "arch", "model_file", "normalize", "batch_size",
     "device"),
    _IMAGES,
)  # fmt: skip
def import_(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE[=ATTACK]...",
            help="Predictions (CSV or npz: index, label, pred[, attack]), or with --checkpoint one "
            "file of adversarial images (pt, npy or npz).",
        ),
    ],
    out: Annotated[Path, run_option(help="Folder of the run.")],
    attack: Annotated[
        str | None,
        run_option(
            help="Attack's name if the files do not say: clean for none; default for images: aa."
        ),
    ] = None,
    eps: Annotated[
        str | None,
        run_option(
            help="L∞ radius of the attacks, as 8/255; images are checked against it, by default "
            "against the data set's."
        ),
    ] = None,
    dataset: Annotated[
        str | None, run_option(help="A name of `ls datasets`, for its class names or its images.")
    ] = None,
    classes: Annotated[
        str | None, run_option(help="Class names: a file with one a line, or a,b,c.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="Name of the model in reports; default: the folder's.",
            rich_help_panel="Predictions",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT", help="The network that the images attack.", rich_help_panel=_IMAGES
        ),
    ] = None,
    json: Annotated[bool, run_option("--json", help="Print the scorecard as JSON.")] = False,
    **flags: Any,
) -> None:
    """Make a run of predictions or images from another tool.

    Images are adversarial ones, such as those that AutoAttack saves.
    """
    command = ["ferd-eval", *sys.argv[1:]]
    if checkpoint is not None:
        _refuse({"name": name}, "goes with predictions: with --checkpoint the file says it")
        own = {"dataset": dataset, "classes": classes, "eps": eps, "out": out, "attacks": "clean"}
        config = EvalConfig.gather({**flags, **own}, None)

        from ferd_eval.pipeline import import_images

        import_images(files, checkpoint, config, attack, command=command, as_json=json)
        return
    _refuse(flags, "go with adversarial images: give --checkpoint too")

    from ferd_eval.commands import import_predictions
    from ferd_eval.report import as_run, render_terminal, scorecards, view
    from ferd_eval.runtime.console import show

    outcomes = import_predictions(
        files, out, attack=attack, eps=eps, dataset=dataset, classes=classes, name=name,
        command=command,
    )  # fmt: skip
    run = as_run(outcomes.manifest["checkpoint"]["name"], outcomes)
    show(
        lambda: render_terminal(view([run])),
        lambda: scorecards([run]),
        out / "report.html",
        as_json=json,
    )


def _refuse(options: Mapping[str, Any], why: str) -> None:
    """Options without meaning here are an error."""
    given = [flag(name) for name, value in options.items() if value is not None]
    if given:
        raise UserError(f"{', '.join(given)} {why}.")
