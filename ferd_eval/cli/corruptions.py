"""``ferd-eval corruptions``: a checkpoint on all corruptions and severities of a set."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ferd_eval.cli.options import config_options, run_option
from ferd_eval.evaluation.config import EvalConfig

_OPTIONS = (
    "dataset", "classes", "class_order", "limit", "per_class", "key", "arch", "model_file",
    "normalize", "batch_size", "device", "out",
)  # fmt: skip


@config_options(_OPTIONS)
def corruptions(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="File of weights; never executed.")
    ],
    baseline: Annotated[
        str | None,
        run_option(
            help="Network that errors are divided by, for the mCE: alexnet (ImageNet-C), or the "
            "folder of another such run.",
            metavar="alexnet|DIR",
        ),
    ] = None,
    json: Annotated[bool, run_option("--json", help="Print the summary as JSON.")] = False,
    **flags: Any,
) -> None:
    """Predict images under common corruptions; report errors, the mCE, and the weakest classes.

    --dataset is cifar10-c:DIR, cifar100-c:DIR or imagenet-c:DIR. Each corruption and severity is a
    run of its own in --out; the same command continues.
    """
    settings = EvalConfig.gather(flags, None)

    from dataclasses import replace

    from ferd_eval.evaluation.corruptions import score_corruptions
    from ferd_eval.report.corruptions import against, on_terminal, write_corruptions
    from ferd_eval.runtime.console import console, show
    from ferd_eval.runtime.progress import shown_on

    if settings.out is None:
        settings = replace(settings, out=Path("reports/corruptions") / checkpoint.stem)
    with shown_on(console(stderr=True)) as reporter:
        command = ["ferd-eval", *sys.argv[1:]]
        errors = score_corruptions(checkpoint, settings, command=command, reporter=reporter)
    if baseline is not None:
        errors = against(errors, baseline)
    assert settings.out is not None
    page = write_corruptions(settings.out, errors)
    show(lambda: on_terminal(errors), errors.to_dict, page, as_json=json)
