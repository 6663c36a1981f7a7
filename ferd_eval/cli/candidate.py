"""A checkpoint that is to be scored, made into a network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ferd_eval.acceptance import check_network, need_gradient, wrong_class_count
from ferd_eval.attacks import PlannedAttack
from ferd_eval.checkpoint import Checkpoint, load_checkpoint
from ferd_eval.cli.settings import ScoreSettings
from ferd_eval.cli.training_record import training_record
from ferd_eval.datasets import LabelledImages
from ferd_eval.device import DeviceChoice
from ferd_eval.errors import UserError
from ferd_eval.models import Classifier, ModelFacts, build_classifier


@dataclass(frozen=True)
class Candidate:
    """A checkpoint ready to be scored, under a name of its own."""

    name: str
    checkpoint: Checkpoint
    classifier: Classifier
    facts: ModelFacts

    def describe(self) -> dict[str, Any]:
        """Facts of the file for the manifest."""
        return {
            "name": self.name,
            "path": str(self.checkpoint.path),
            "sha256": self.checkpoint.sha256,
            "format": self.checkpoint.format,
            "unwrapped": self.checkpoint.unwrapped,
            "ignored": list(self.checkpoint.ignored),
            "key": self.checkpoint.key,
            "choice": self.checkpoint.choice,
            **training_record(self.checkpoint.metadata),
        }


def load_named(files: Sequence[Path], key: str | None = None) -> list[tuple[str, Checkpoint]]:
    """Each file with a name of its own: the stem, with its folder where stems repeat.

    Args:
        files: checkpoints.
        key: the network to take from each.

    Raises:
        UserError: a file cannot be read, or two names are the same.
    """
    stems = [file.stem for file in files]
    names = [
        file.stem if stems.count(file.stem) == 1 else f"{file.resolve().parent.name}-{file.stem}"
        for file in files
    ]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"two checkpoints would both be called {name!r}. Rename one, or score them apart."
            )
    return [(name, load_checkpoint(file, key=key)) for file, name in zip(files, names, strict=True)]


def make_candidates(
    named: Sequence[tuple[str, Checkpoint]],
    settings: ScoreSettings,
    data: LabelledImages,
    plan: Sequence[PlannedAttack],
    device: DeviceChoice,
) -> list[Candidate]:
    """Make all networks, then look at each: on the device, in the precision asked for.

    Raises:
        UserError: one does not fit the data or the attacks; its file is named.
    """
    dtype = torch.float64 if settings.precision == "float64" else torch.float32
    candidates = [_candidate(checkpoint, name, settings, data) for name, checkpoint in named]
    for candidate in candidates:
        candidate.classifier.to(device.device, dtype)
        with _naming(candidate.checkpoint.path):
            by_gradient = need_gradient(plan, data)
            check_network(candidate.classifier, data, dtype, by_gradient=by_gradient)
    return candidates


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Put the checkpoint's name before what is wrong with its network: there may be several."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _candidate(
    checkpoint: Checkpoint, name: str, settings: ScoreSettings, data: LabelledImages
) -> Candidate:
    classifier, facts = build_classifier(
        checkpoint,
        arch=settings.arch,
        model_file=settings.model_file,
        normalize=settings.normalize,
        num_classes=data.num_classes,
    )
    if facts.num_classes is not None and facts.num_classes != data.num_classes:
        raise UserError(f"{checkpoint.path}: {wrong_class_count(facts.num_classes, data)}")
    return Candidate(name, checkpoint, classifier, facts)
