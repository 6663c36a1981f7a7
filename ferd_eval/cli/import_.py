"""``ferd-eval import``: results of other tools as a run."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from ferd_eval.errors import UserError
from ferd_eval.evaluation.config import EvalConfig

_PREDICTIONS, _IMAGES, _RUN = "Predictions", "Adversarial images", "Run"


def import_(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE[=ATTACK]...",
            help="Predictions (CSV or npz: index, label, pred[, attack]), or with --checkpoint one "
            "file of adversarial images (pt, npy or npz).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The run's folder.", rich_help_panel=_RUN)],
    attack: Annotated[
        str | None,
        typer.Option(
            help="What the attack is called (clean where there is none), if the files do not say; "
            "default for images: aa.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    eps: Annotated[
        str | None,
        typer.Option(
            help="L∞ radius of the attacks, as 8/255. Images are checked against it; default there:"
            " the data set's.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            help="A name of `ls datasets`, for the names of its classes, or for its images.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Names of the classes: a file with one a line, or a,b,c.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="What reports call the model; default: the folder's name.",
            rich_help_panel=_PREDICTIONS,
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT", help="The network the images fool or not.", rich_help_panel=_IMAGES
        ),
    ] = None,
    class_order: Annotated[
        str | None,
        typer.Option(metavar="text|natural", help="As for score.", rich_help_panel=_IMAGES),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the data set lies.", rich_help_panel=_IMAGES)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first N images.", rich_help_panel=_IMAGES)
    ] = None,
    key: Annotated[str | None, typer.Option(help="As for score.", rich_help_panel=_IMAGES)] = None,
    arch: Annotated[str | None, typer.Option(help="As for score.", rich_help_panel=_IMAGES)] = None,
    model_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.py:FACTORY", help="As for score. Runs FILE.py.", rich_help_panel=_IMAGES
        ),
    ] = None,
    normalize: Annotated[
        str | None, typer.Option(help="As for score.", rich_help_panel=_IMAGES)
    ] = None,
    batch_size: Annotated[
        str | None, typer.Option(help="As for score.", rich_help_panel=_IMAGES)
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="As for score.", rich_help_panel=_IMAGES)
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the scorecard as JSON.", rich_help_panel=_RUN)
    ] = False,
) -> None:
    """Make a run of another tool's predictions, or of adversarial images such as AutoAttack's."""
    command = ["ferd-eval", *sys.argv[1:]]
    of_images = {
        "class_order": class_order,
        "data_dir": data_dir,
        "limit": limit,
        "key": key,
        "arch": arch,
        "model_file": model_file,
        "normalize": normalize,
        "batch_size": batch_size,
        "device": device,
    }
    if checkpoint is None:
        _refuse(of_images, "go with adversarial images: give --checkpoint too")
        from ferd_eval.cli.importing import ImportSettings, import_predictions

        chosen = ImportSettings(out, name, dataset, classes, attack, eps)
        import_predictions(files, chosen, command=command, as_json=json)
        return
    _refuse({"name": name}, "goes with predictions: with --checkpoint the file says it")
    from ferd_eval.cli.importing_images import import_images

    settings = EvalConfig.gather(
        {
            **of_images,
            "dataset": dataset,
            "classes": classes,
            "eps": eps,
            "out": out,
            "attacks": "clean",
        },
        None,
    )
    import_images(files, checkpoint, settings, attack, command=command, as_json=json)


def _refuse(options: Mapping[str, Any], why: str) -> None:
    """Options that mean nothing here are not passed over in silence."""
    given = ["--" + name.replace("_", "-") for name, value in options.items() if value is not None]
    if given:
        raise UserError(f"{', '.join(given)} {why}.")
