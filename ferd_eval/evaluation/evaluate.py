"""Evaluate networks: any number of runs at once, or one model from Python.

N data set, B batch, C channels, K classes, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ferd_eval.attacks import (
    DEFAULT_ATTACKS,
    Attack,
    Cascade,
    Clean,
    PlannedAttack,
    Threat,
    plan_attacks,
)
from ferd_eval.datasets import LabelledImages, load_dataset
from ferd_eval.errors import UserError, require_kind
from ferd_eval.evaluation.config import EvalConfig
from ferd_eval.evaluation.execution.executor import Executor, SerialExecutor, carry_out
from ferd_eval.evaluation.model_checks import probe, try_readings
from ferd_eval.evaluation.run import EvalRun
from ferd_eval.evaluation.shards import file_name
from ferd_eval.io.epsilon import format_quantity, parse_quantity
from ferd_eval.io.lock import sole_user
from ferd_eval.models import ModelFacts
from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_eval.models.file_classifier import FileClassifier
from ferd_eval.results.class_groups import read_groups
from ferd_eval.results.manifest import read_manifest
from ferd_eval.results.outcomes import ATTACK_ID, Outcomes
from ferd_eval.runtime.console import console
from ferd_eval.runtime.device import DeviceChoice, choose_device, exact_arithmetic
from ferd_eval.runtime.progress import ProgressReporter, shown_on


def score(
    model: nn.Module | tuple[nn.Module, ModelFacts],
    dataset: LabelledImages | str | tuple[Tensor, Tensor],
    attacks: str | Sequence[str | Attack | Cascade] = DEFAULT_ATTACKS,
    threat: Threat | float | str | Sequence[Threat | float | str] | None = None,
    *,
    steps: int | None = None,
    step_size: Fraction | float | str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: DeviceChoice | torch.device | str | None = None,
    out: Path | str | None = None,
    save_adv: bool = False,
    search_precision: str = "auto",
    fold_batchnorm: bool = True,
    engine: str = "native",
    limit: int | None = None,
    per_class: int | None = None,
    groups: str | None = None,
    progress: bool = False,
    facts: Mapping[str, Any] | None = None,
    reporter: ProgressReporter | None = None,
    attack_plan: Sequence[PlannedAttack] | None = None,
    executor: Executor | None = None,
) -> Outcomes:
    """Attack every image and return what happened to each.

    Args:
        model: any module that maps images in [0, 1], B×C×H×W, to logits B×K; normalisation, if
            any, is inside it. It is left as it was: mode, gradients, buffers. What
            `load_classifier` or `build_classifier` returns puts its facts into the manifest.
        dataset: a loaded set, a name for `load_dataset`, or a pair of tensors (images, labels).
        attacks: names (``"clean,fgsm,pgd,cw"``), or a sequence of names, `Attack` and `Cascade`
            objects.
        threat: the ball; default L∞ with the data set's usual ε. Several, in a sequence or as
            ``"2/255,4/255,8/255"``, give the ε profile.
        steps: overrides the steps of every iterated attack.
        step_size: overrides their step.
        seed: random seed.
        batch_size: images per pass; None chooses by device. Verdicts do not depend on it.
        device: None leaves the model where it is.
        out: a folder that makes the run resumable and keeps its outcomes.
        save_adv: keep the adversarial images in ``OUT/adversarial/<attack>.npz``.
        search_precision: arithmetic of the copy of the network that attacks search with: ``fp32``,
            ``tf32``, ``bf16``, or ``auto`` for the fastest by measurement where the hardware has
            it. The network itself decides either way.
        fold_batchnorm: let attacks search with a copy of the network whose batch norms are fused
            into its convolutions, where that differs by rounding only. The same holds.
        engine: ``native``, or as a cross-check ``autoattack`` (its authors' code) or
            ``torchattacks``.
        limit: only the first so many images.
        per_class: only the first so many images of each class.
        groups: figures for groups of classes too: ``superclass``, or a CSV file class,group.
        progress: show a bar on a terminal or in a notebook, lines elsewhere.
        facts: entries for the manifest: ``checkpoint``, ``model``, ``command``, …
        reporter: of progress, in place of `progress`.
        attack_plan: resolved attacks, in place of `attacks` and `threat`.
        executor: in place of `device`: a
            `ferd_eval.evaluation.execution.ray_executor.RayExecutor` for many devices and machines.
            The caller ends it.

    Raises:
        UserError: the input cannot be scored, or `out` holds another run.
    """
    if isinstance(model, tuple) and len(model) == 2 and isinstance(model[1], ModelFacts):
        model, built = model
        cautions = [built.caution] if built.caution else []
        facts = {"model": built.to_json(), "warnings": cautions, **(facts or {})}
    wrapped = "a torch.nn.Module from images to logits, or what build_classifier returns"
    for what, value, kinds, wanted in (
        ("the model", model, nn.Module, wrapped),
        ("seed", seed, int, "a whole number"),
        ("batch_size", batch_size, int | None, "a whole number, or None"),
        ("steps", steps, int | None, "a whole number, or None"),
        ("out", out, Path | str | None, "a folder, or None"),
    ):
        require_kind(value, kinds, what, wanted)
    assert isinstance(model, nn.Module)
    data = _as_labelled_images(dataset, model)
    if limit is not None and per_class is not None:
        raise UserError("limit and per_class exclude each other; give one of them.")
    if limit is not None:
        data = data.first(limit)
    if per_class is not None:
        data = data.first_per_class(per_class)
    if groups is not None:
        facts = {**(facts or {}), "groups": read_groups(groups, data.class_names, data.groupings)}
    step = None if step_size is None else parse_quantity(step_size, "step_size")
    plan = attack_plan or plan_attacks(
        attacks, as_threats(threat, data), steps=steps, step_size=step
    )
    require_own_names(plan)
    plan = through_engine(plan, engine, data.num_classes)
    if save_adv and out is None:
        raise UserError("save_adv needs a folder to keep the images in: give out as well.")
    for name, number in (("batch_size", batch_size), ("steps", steps)):
        if number is not None and number < 1:
            raise UserError(f"{name} is {number}; give 1 or more.")
    own = shown_on(console(stderr=True)) if progress and reporter is None else None
    reporter = reporter or own or ProgressReporter()
    if executor is None:
        executor = SerialExecutor(_choice(device, model), reporter.note)
        model = model.to(executor.choice.device)
    elif device is not None:
        raise UserError("device and executor exclude each other; give one of them.")
    config = EvalConfig(
        dataset=data.name,
        attacks=",".join(dict.fromkeys(planned.id.partition("@")[0] for planned in plan)),
        eps=",".join(dict.fromkeys(format_quantity(each.threat.eps) for each in plan)),
        steps=steps,
        step_size=None if step is None else format_quantity(step),
        batch_size=str(batch_size or "auto"),
        device=str(executor.choice.device),
        search_precision=search_precision,
        fold_batchnorm=fold_batchnorm,
        seed=seed,
        engine=engine,
        out=None if out is None else Path(out),
        save_adv=save_adv,
    )
    facts, remark = facts or {}, None
    if isinstance(model, FileClassifier):
        facts, remark = _of_file(model, data, executor, config, facts)
    run = EvalRun(model, data, plan, config, executor, config.out, facts, reporter, remark=remark)
    with ExitStack() as stack:
        if own is not None:
            stack.enter_context(own)
        if run.folder is not None:
            note = reporter.note
            stack.enter_context(sole_user(run.folder, below=("adversarial",), note=note))
        reporter.start(run.name)
        (outcomes,) = evaluate([run], executor)
    return outcomes


def _of_file(
    model: FileClassifier,
    data: LabelledImages,
    executor: Executor,
    config: EvalConfig,
    facts: Mapping[str, Any],
) -> tuple[dict[str, Any], str | None]:
    """Entries of the manifest about a network's file, and a hint if it reads better otherwise."""
    trial, where = None, next(model.parameters(), torch.empty(0)).device
    done = config.out and (read_manifest(config.out) or {}).get("status") == "finished"
    if not done:
        said = model.checkpoint
        file = load_checkpoint(said["path"], key=said["key"] or None)
        trial = try_readings(file, model, model.facts, data, where)
    hint = None if trial is None else trial.hint(model.facts)
    doubts = (model.checkpoint["choice"], model.facts.caution, hint)
    return {
        "checkpoint": model.checkpoint,
        "model": model.facts.to_json(),
        "trial": trial and trial.to_json(),
        "warnings": [said for said in doubts if said],
        **facts,
    }, hint


def through_engine(
    plan: Sequence[PlannedAttack], engine: str, num_classes: int
) -> tuple[PlannedAttack, ...]:
    """The same attacks as another package has them; ``native`` leaves them as they are."""
    if engine == "torchattacks":
        from ferd_eval.attacks.adapters.torchattacks import through_torchattacks

        return through_torchattacks(plan, num_classes)
    if engine == "autoattack":
        from ferd_eval.attacks.adapters.pyautoattack import through_autoattack

        return through_autoattack(plan, num_classes)
    return tuple(plan)


def evaluate(runs: Sequence[EvalRun], executor: Executor) -> list[Outcomes]:
    """Do what is left of each run, the first run's first; a UserError leaves what is finished."""
    with exact_arithmetic():
        carry_out([batches for run in runs for batches in run.tasks()], executor)
    outcomes = [run.result for run in runs if run.result is not None]
    assert len(outcomes) == len(runs)
    return outcomes


def _choice(device: DeviceChoice | torch.device | str | None, model: nn.Module) -> DeviceChoice:
    if device is None:
        where = next(model.parameters(), torch.empty(0)).device
        return DeviceChoice.here(where, "where the model was")
    return device if isinstance(device, DeviceChoice) else choose_device(str(device))


def as_threats(
    threat: Threat | float | str | Sequence[Threat | float | str] | None, data: LabelledImages
) -> list[Threat]:
    """One ball, or several for an ε profile; the data set's usual one by default."""
    if threat is None:
        return [Threat(data.default_eps)]
    if isinstance(threat, str):
        threat = threat.split(",")
    several = threat if isinstance(threat, Sequence) else [threat]
    if not several:
        raise UserError("no ε is given; give one, such as 8/255, or leave threat out.")
    return [each if isinstance(each, Threat) else Threat(each) for each in several]


def require_own_names(plan: Sequence[PlannedAttack]) -> None:
    """UserError unless each attack has an id and a file name to itself, and ``clean`` is what it
    says."""
    files: dict[str, str] = {}
    for planned in plan:
        if planned.id == "clean" and not isinstance(planned.attack, Clean):
            raise UserError("an attack of your own is called 'clean'; give it another name.")
        if not ATTACK_ID.fullmatch(planned.id):
            raise UserError(
                f"an attack is called {planned.id!r}; give it a name of letters, digits and -."
            )
        file = file_name(planned.id).lower()
        if file in files:
            raise UserError(
                f"the attacks {files[file]} and {planned.id} would share a name; give each attack "
                "and each ε once, under a name of its own."
            )
        files[file] = planned.id


def _as_labelled_images(
    dataset: LabelledImages | str | tuple[Tensor, Tensor], model: nn.Module
) -> LabelledImages:
    if isinstance(dataset, LabelledImages):
        return dataset
    if isinstance(dataset, str):
        return load_dataset(dataset)
    try:
        images_NCHW, labels_N = map(torch.as_tensor, dataset)
    except (TypeError, ValueError) as reason:
        raise UserError(
            f"the data set is a {type(dataset).__name__}; give a name, a LabelledImages or a pair "
            "of tensors (images, labels)."
        ) from reason
    if images_NCHW.ndim != 4 or labels_N.shape != images_NCHW.shape[:1] or not len(labels_N):
        raise UserError(
            f"images have shape {tuple(images_NCHW.shape)} and labels {tuple(labels_N.shape)}, "
            "expected N×C×H×W and N with N >= 1."
        )
    if labels_N.is_floating_point():
        raise UserError(f"labels are {labels_N.dtype}, expected class numbers as integers.")
    shape_CHW = tuple(images_NCHW.shape[1:])
    num_classes = probe(model, shape_CHW, "the tensors", by_gradient=False).shape[1]
    images_NCHW = images_NCHW.detach().cpu()
    if images_NCHW.dtype == torch.uint8:
        pixels = images_NCHW.numpy()
    else:
        pixels = images_NCHW.float().numpy()
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise UserError(
                f"images are in [{pixels.min():g}, {pixels.max():g}], expected [0, 1]: "
                "put the normalisation into the model, not into the data."
            )
    return LabelledImages(
        name="arrays",
        images_NCHW=pixels,
        labels_N=labels_N.detach().cpu().numpy().astype(np.int64),
        class_names=tuple(map(str, range(num_classes))),
        indices_N=np.arange(len(pixels), dtype=np.int64),
        source="given as tensors",
    )
