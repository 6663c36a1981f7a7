"""The ``ferd-train`` command."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.runtime.command_line import run
from ferd_eval.runtime.signals import stopping_after

if TYPE_CHECKING:
    from ferd_eval.runtime.progress import ProgressReporter
    from ferd_train.adversarial_training.trainer import EpochLog

app = typer.Typer(
    name="ferd-train",
    help="Train robust teachers, and distil robust students from them without data.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def ferd_train() -> None:
    """Train robust teachers, and distil robust students from them without data."""


_Recipe = Annotated[str, typer.Option(help="A name of ferd-train ls, or your own FILE.toml.")]
_Out = Annotated[Path, typer.Option(help="The run's folder; the same command continues it.")]
_Classes = Annotated[
    str | None,
    typer.Option(help="Names of your own set's classes, as ferd-eval score --classes."),
]
_ClassOrder = Annotated[
    str | None,
    typer.Option(
        metavar="text|natural", help="Of class folders, as ferd-eval score --class-order."
    ),
]
_DataDir = Annotated[Path | None, typer.Option(help="Folder of the data sets.")]
_Download = Annotated[bool, typer.Option("--download", help="Fetch a missing set.")]
_Teacher = Annotated[
    str, typer.Option(help="Any checkpoint ferd-eval loads; demo for the packaged one.")
]
_TeacherKey = Annotated[
    str | None, typer.Option(help="As ferd-eval score --key; default: the teacher, by name.")
]
_TeacherArch = Annotated[str | None, typer.Option(help="As ferd-eval score --arch.")]
_TeacherModelFile = Annotated[str | None, typer.Option(help="As ferd-eval score --model-file.")]
_TeacherNormalize = Annotated[str, typer.Option(help="As ferd-eval score --normalize.")]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]


def _changes_option(example: str) -> Any:
    return typer.Option("--set", help=f"Change a field: --set {example}. Repeatable.")


@app.command()
def teacher(
    recipe: _Recipe,
    out: _Out,
    classes: _Classes = None,
    class_order: _ClassOrder = None,
    data_dir: _DataDir = None,
    download: _Download = False,
    changes: Annotated[list[str] | None, _changes_option("epochs=30")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.")] = None,
    device: _Device = "auto",
) -> None:
    """Train a robust network from data, by PGD-AT or TRADES."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a teacher is trained by one process; start it without torchrun.")
    from ferd_train.recipes import find_teacher_recipe

    wanted = find_teacher_recipe(recipe).with_changes(_parse_changes(changes or []))
    if seed is not None:
        wanted = wanted.with_changes({"seed": seed})

    from ferd_eval.runtime.device import choose_device
    from ferd_train.adversarial_training.run import train_teacher
    from ferd_train.distillation.run import ImageSource
    from ferd_train.monitoring.run_progress import watching
    from ferd_train.training.seams import PATIENCE

    chosen = choose_device(device)
    print(f"{recipe}: {wanted.arch} on {chosen.device} ({chosen.reason})", file=sys.stderr)
    data = ImageSource(data_dir, download, classes, class_order).load(wanted.dataset, "train")
    for caution in data.cautions:
        print(f"warning: {caution}", file=sys.stderr)
    with watching() as reporter, stopping_after("step", PATIENCE):
        file = train_teacher(
            wanted,
            out,
            device=chosen,
            data=data,
            watch=partial(_note_epoch, reporter),
            reporter=reporter,
        )
    print(file)


@app.command()
def student(
    teacher: _Teacher,
    recipe: _Recipe,
    out: _Out,
    student: Annotated[
        str | None, typer.Option(help="Architecture of the student; else the recipe's.")
    ] = None,
    variant: Annotated[
        str | None, typer.Option(help="ferd, paper, release or release-2025-05.")
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option(help="The part that is off: see docs/method.md."),
    ] = None,
    changes: Annotated[list[str] | None, _changes_option("synthesis.lambda_uni=3")] = None,
    seeds: Annotated[
        str | None,
        typer.Option("--seed", "--seeds", help="One, or several: 0,1,2 in folders of their own."),
    ] = None,
    score: Annotated[
        bool, typer.Option("--score", help="Then attack student and teacher; report both.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option(help="Data set to score on; else the teacher's own.")
    ] = None,
    attacks: Annotated[str, typer.Option(help="For --score, as of ferd-eval score.")] = "paper",
    classes: _Classes = None,
    class_order: _ClassOrder = None,
    data_dir: _DataDir = None,
    download: _Download = False,
    teacher_key: _TeacherKey = None,
    teacher_arch: _TeacherArch = None,
    teacher_model_file: _TeacherModelFile = None,
    teacher_normalize: _TeacherNormalize = "auto",
    device: _Device = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and how long it takes; write nothing.")
    ] = False,
) -> None:
    """Distil a robust student from a teacher, without its data.

    Choose another method of making images by --set synthesis.method=NAME (ferd-train ls methods)
    and another loss by --set loss.name=NAME (ferd-train ls losses). Only the method data uses
    real images.

    On several GPUs: torchrun --nproc-per-node N -m ferd_train student ...
    """
    named = {"arch": student, "variant": variant, "ablation": ablation}
    given = {name: value for name, value in named.items() if value is not None}

    from ferd_train.distillation.run import ImageSource
    from ferd_train.distillation.teacher import TeacherReading
    from ferd_train.pipeline import Distilling, distil

    distil(
        Distilling(
            teacher=teacher,
            recipe=recipe,
            out=out,
            changes={**_parse_changes(changes or []), **given},
            seeds=_parse_seeds(seeds),
            score=score,
            dataset=dataset,
            attacks=attacks,
            source=ImageSource(data_dir, download, classes, class_order),
            reading=TeacherReading(
                teacher_key, teacher_arch, teacher_model_file, teacher_normalize
            ),
            device=device,
            dry_run=dry_run,
        )
    )


@app.command()
def study(
    file: Annotated[
        Path, typer.Argument(metavar="STUDY.toml", help="Teachers, methods, losses, seeds.")
    ],
    work: Annotated[
        Path | None,
        typer.Option("--work", "--out", help="Folder of all runs and the report; else the file's."),
    ] = None,
    data_dir: _DataDir = None,
    download: _Download = False,
    device: _Device = "auto",
    only: Annotated[
        str | None, typer.Option(metavar="METHOD,...", help="Work on these methods alone.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Networks at once, each on one thread.")] = 1,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="auto|ADDRESS", help="Work on a cluster of Ray that shares the folder's disk."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print finished and remaining work; write nothing.")
    ] = False,
) -> None:
    """Train and compare methods × losses × seeds × teachers.

    Killed at any moment, the same command continues it. A network that cannot be trained is
    reported by name; the others go on, and the exit status is 1.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("a study starts its own processes (--jobs); start it without torchrun.")
    from ferd_train.study.command import StudySettings, run_study

    all_finished = run_study(
        StudySettings(
            file=file,
            work=work,
            data_dir=data_dir,
            download=download,
            device=device,
            only=[] if only is None else [name.strip() for name in only.split(",")],
            jobs=jobs,
            cluster=cluster,
            dry_run=dry_run,
        )
    )
    raise typer.Exit(0 if all_finished else 1)


@app.command()
def tune(
    recipe: Annotated[
        str,
        typer.Argument(metavar="RECIPE", help="A name of ferd-train ls, or a FILE.toml."),
    ],
    teacher: _Teacher,
    out: Annotated[
        Path, typer.Option(help="Folder of all trials; the same command continues them.")
    ],
    vary: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW..HIGH|NAME=a,b,c",
            help="A field and its values, e.g. distillation.lr=0.02..0.5. Repeatable.",
        ),
    ] = None,
    validate: Annotated[
        str | None,
        typer.Option(
            metavar="DATASET", help="Rank by held-out training images of it; else the recipe's."
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(help="Number of trials, the recipe unchanged among them; may be raised.")
    ] = 16,
    seed: Annotated[int, typer.Option(help="Of what is drawn; of the students: --set seed=1.")] = 0,
    by: Annotated[str, typer.Option(help="The figure to rank by: validation.")] = "validation",
    changes: Annotated[list[str] | None, _changes_option("epochs=10")] = None,
    jobs: Annotated[int, typer.Option(help="Trials at once, each on one thread.")] = 1,
    classes: _Classes = None,
    class_order: _ClassOrder = None,
    data_dir: _DataDir = None,
    download: _Download = False,
    teacher_key: _TeacherKey = None,
    teacher_arch: _TeacherArch = None,
    teacher_model_file: _TeacherModelFile = None,
    teacher_normalize: _TeacherNormalize = "auto",
    device: _Device = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the trials and their values; write nothing.")
    ] = False,
) -> None:
    """Choose a recipe's constants by a budget of trials, drawn at random.

    Trial 0 is the recipe unchanged. Killed at any moment, the same command continues; a larger
    number of trials only adds some. A trial that fails ranks last; the others go on.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("trials are processes of their own (--jobs); start it without torchrun.")
    from ferd_train.distillation.run import ImageSource
    from ferd_train.distillation.teacher import TeacherReading
    from ferd_train.tuning.command import TuneSettings
    from ferd_train.tuning.command import tune as run_trials

    any_finished = run_trials(
        TuneSettings(
            recipe=recipe,
            teacher=teacher,
            out=out,
            vary=vary or [],
            trials=trials,
            seed=seed,
            by=by,
            validate=validate,
            changes=_parse_changes(changes or []),
            source=ImageSource(data_dir, download, classes, class_order),
            reading=TeacherReading(
                teacher_key, teacher_arch, teacher_model_file, teacher_normalize
            ),
            device=device,
            jobs=jobs,
            as_json=as_json,
            dry_run=dry_run,
        )
    )
    raise typer.Exit(0 if any_finished else 1)


@app.command()
def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="Any checkpoint ferd-eval loads.")
    ],
    format_: Annotated[str, typer.Option("--format", help="onnx, pt2 or torchscript.")],
    out: Annotated[Path, typer.Option(help="The file; its record, FILE.json, lies beside it.")],
    half: Annotated[bool, typer.Option("--half", help="Compute in float16.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute in 8-bit integers; onnx only.")
    ] = False,
    dataset: Annotated[
        str, typer.Option(help="Check on its test images; for --int8 ranges are taken from others.")
    ] = "demo",
    classes: _Classes = None,
    class_order: _ClassOrder = None,
    data_dir: _DataDir = None,
    download: _Download = False,
    images: Annotated[int, typer.Option(help="Number of images to check on.")] = 256,
    eps: Annotated[
        str | None, typer.Option(help="L∞ radius, as 8/255; else that of the training or the set.")
    ] = None,
    key: Annotated[str | None, typer.Option(help="As ferd-eval score --key.")] = None,
    arch: Annotated[str | None, typer.Option(help="As ferd-eval score --arch.")] = None,
    model_file: Annotated[str | None, typer.Option(help="As ferd-eval score --model-file.")] = None,
    normalize: Annotated[str, typer.Option(help="As ferd-eval score --normalize.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the record as JSON.")] = False,
) -> None:
    """Write a network for other runtimes, checked against the original.

    Its normalisation is inside, and the batch size is open. Real images and PGD's go through both.
    """
    from ferd_train.distillation.run import ImageSource
    from ferd_train.export.command import Exporting
    from ferd_train.export.command import export as write

    write(
        Exporting(
            checkpoint=checkpoint,
            format=format_,
            out=out,
            half=half,
            int8=int8,
            dataset=dataset,
            source=ImageSource(data_dir, download, classes, class_order),
            images=images,
            eps=eps,
            key=key,
            arch=arch,
            model_file=model_file,
            normalize=normalize,
        ),
        as_json=as_json,
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of the student and its report.")] = Path(
        "reports/runs/ferd-demo"
    ),
) -> None:
    """Distil a student from the packaged teacher and score both."""
    from ferd_train.demo import demonstrate

    demonstrate(out)


@app.command()
def ls(
    what: Annotated[
        str, typer.Argument(metavar="[recipes|methods|losses]", show_default=False)
    ] = "recipes",
) -> None:
    """List recipes, methods of making images, or students' losses."""
    from ferd_train.losses.registry import LOSSES
    from ferd_train.recipes import STUDENT_RECIPES, TEACHER_RECIPES, summary
    from ferd_train.synthesis.registry import METHODS

    lists: dict[str, list[tuple[str, str, str]]] = {
        "recipes": [
            (whose, name, summary(recipe))
            for whose, recipes in (("teacher", TEACHER_RECIPES), ("student", STUDENT_RECIPES))
            for name, recipe in recipes.items()
        ],
        "methods": [("method", name, summary(kind)) for name, kind in METHODS.items()],
        "losses": [("loss", name, summary(kind)) for name, kind in LOSSES.items()],
    }
    if what not in lists:
        raise UserError(f"there is no list of {what!r}.{did_you_mean(what, lists)}")
    width = max(len(name) for _, name, _ in lists[what])
    for kind, name, about in lists[what]:
        print(f"{kind:8} {name:{width}} {about}")


def _parse_changes(changes: list[str]) -> dict[str, str]:
    for change in changes:
        if "=" not in change:
            raise UserError(f"--set {change} is not NAME=VALUE, e.g. --set epochs=30.")
    pairs = (change.split("=", 1) for change in changes)
    return {name.replace("-", "_"): value for name, value in pairs}


def _parse_seeds(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        seeds = tuple(int(word) for word in text.split(","))
    except ValueError:
        raise UserError(f"--seeds is {text!r}; give numbers such as 0,1,2.") from None
    if len({*seeds}) < len(seeds):
        raise UserError(f"--seeds is {text}; give each number once.")
    return seeds


def _note_epoch(reporter: ProgressReporter, log: EpochLog, epochs: int) -> None:
    from ferd_eval.runtime.progress import duration

    left = duration(log.seconds * (epochs - log.epoch))
    reporter.note(
        f"epoch {log.epoch}/{epochs}  loss {log.train_loss:.3f}  validation: clean "
        f"{log.validation_clean:.1%}, PGD-10 {log.validation_pgd:.1%}, worst class "
        f"{log.validation_pgd_worst_class:.1%}  {duration(log.seconds)}, {left} left"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its status."""
    status = run(app, sys.argv[1:] if arguments is None else arguments, "ferd-train")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        # Everything is written; threads of the process group sometimes abort an orderly exit.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
