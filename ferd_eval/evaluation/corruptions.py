"""One network on every corruption and severity of a set: a run of its own for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ferd_eval.datasets import LabelledImages
from ferd_eval.datasets.corruptions import Cell, CorruptedDataset
from ferd_eval.datasets.registry import dataset_info
from ferd_eval.errors import UserError
from ferd_eval.evaluation.config import EvalConfig
from ferd_eval.evaluation.evaluate import score
from ferd_eval.evaluation.inputs import (
    LoadedModel,
    load_models,
    load_named,
    read_inputs,
    require_dataset,
)
from ferd_eval.evaluation.model_checks import try_readings
from ferd_eval.metrics.corruption_error import CellResult, CorruptionErrors
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.runtime.device import DeviceChoice, choose_device
from ferd_eval.runtime.progress import ProgressReporter


def score_corruptions(
    checkpoint: Path, config: EvalConfig, *, command: Sequence[str], reporter: ProgressReporter
) -> CorruptionErrors:
    """Predict every cell of ``config.dataset`` into ``OUT/CORRUPTION-SEVERITY``, a run as of
    `score` without attacks.

    One cell is in memory at a time. What is finished is not done again.

    UserError: the data set has no corruptions, the checkpoint does not fit, or a folder holds
    another run.
    """
    name, folder, cells = _cells(require_dataset(config))
    assert config.out is not None
    named = load_named([checkpoint], config.key)
    device = choose_device(config.device)
    results: list[CellResult] = []
    class_names: tuple[str, ...] = ()
    warnings: list[str] = []
    reporter.start(named[0][0])
    for cell in cells:
        of_cell = replace(config, dataset=f"{name}:{folder / cell.place}", attacks="clean")
        inputs = read_inputs(of_cell)
        if class_names and inputs.data.class_names != class_names:
            raise UserError(
                f"{inputs.data.source} has other classes than {folder / cells[0].place}; every "
                "corruption and severity needs the same class folders."
            )
        (model,) = load_models(named, of_cell, inputs, device)
        if not class_names:
            class_names = inputs.data.class_names
            warnings = [*inputs.data.cautions, *_doubts(model, inputs.data, device)]
            for said in warnings:
                reporter.note(f"warning: {said}")
        outcomes = score(
            (model.classifier, model.facts),
            inputs.data,
            attack_plan=inputs.plan,
            batch_size=config.batch,
            device=device,
            out=config.out / str(cell),
            facts={
                "checkpoint": model.describe(),
                "command": list(command),
                "warnings": warnings,
            },
        )
        results.append(_counted(cell, outcomes))
        reporter.advance(str(cell), 1.0, len(cells) - len(results))
    return CorruptionErrors(named[0][0], name, class_names, tuple(results))


def _cells(dataset: str) -> tuple[str, Path, tuple[Cell, ...]]:
    """The set's name, its folder and what is in it."""
    info = dataset_info(dataset)
    if not isinstance(info, CorruptedDataset):
        raise UserError(
            f"--dataset {dataset} has no corruptions; give cifar10-c:DIR, cifar100-c:DIR or "
            "imagenet-c:DIR."
        )
    folder = Path(dataset.partition(":")[2]).expanduser()
    return info.name, folder, info.cells(folder)


def _doubts(model: LoadedModel, data: LabelledImages, device: DeviceChoice) -> list[str]:
    """Whether the network, or its normalisation, may be another than meant."""
    trial = try_readings(model.checkpoint, model.classifier, model.facts, data, device.device)
    hint = trial and trial.hint(model.facts)
    return [said for said in (model.checkpoint.choice, model.facts.caution, hint) if said]


def _counted(cell: Cell, outcomes: Outcomes) -> CellResult:
    """Images and right answers of each class."""
    table, K = outcomes.of("clean"), len(outcomes.class_names)
    label_N = table["label"].to_numpy()
    right_N = label_N[table["correct"].to_numpy()]
    return CellResult(
        cell,
        np.bincount(label_N, minlength=K).astype(np.int64),
        np.bincount(right_N, minlength=K).astype(np.int64),
    )
