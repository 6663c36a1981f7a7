"""A checkpoint as one module, which knows the file that it is from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferd_eval.models.build import ModelFacts, build_classifier
from ferd_eval.models.checkpoint.load import Checkpoint, load_checkpoint
from ferd_eval.models.checkpoint.training_metadata import training_record
from ferd_eval.models.classifier import Classifier


class FileClassifier(Classifier):
    """A classifier from a file; `ferd_eval.score` puts both records into the run's manifest.

    Attributes:
        checkpoint: the manifest's entry on the file: name, path, SHA-256, …
        facts: what was decided about the network, and how.
    """

    checkpoint: Mapping[str, Any]
    facts: ModelFacts


def load_classifier(
    path: Path | str,
    *,
    key: str | None = None,
    arch: str | None = None,
    model_file: Path | str | None = None,
    normalize: str = "auto",
    num_classes: int | None = None,
) -> FileClassifier:
    """Read a checkpoint and build its network: a module from images in [0, 1] to logits.

    Nothing in the file is executed. The module is in eval mode, on the CPU.

    Args:
        path: the file.
        key: which network, where the file holds several.
        arch: architecture name; None takes the file's own metadata or detects it.
        model_file: ``FILE.py:FACTORY`` of the user, run instead of `arch`.
        normalize: ``auto``, ``none``, a name or ``M,M,M/S,S,S``, as for `build_classifier`.
        num_classes: K where the file does not tell.

    Raises:
        UserError: the file is no checkpoint, or its architecture cannot be decided.
    """
    checkpoint = load_checkpoint(path, key=key)
    classifier, facts = build_classifier(
        checkpoint,
        arch=arch,
        model_file=model_file,
        normalize=normalize,
        num_classes=num_classes,
    )
    loaded = FileClassifier(
        classifier.network,
        num_classes=classifier.num_classes,
        in_channels=classifier.in_channels,
        normalization=facts.normalization,
    )
    loaded.checkpoint, loaded.facts = checkpoint_record(checkpoint.name, checkpoint), facts
    return loaded


def checkpoint_record(name: str, checkpoint: Checkpoint) -> dict[str, Any]:
    """The entry of a run's manifest about the file, under the run's name for it."""
    return {
        "name": name,
        "path": str(checkpoint.path),
        "sha256": checkpoint.sha256,
        "format": checkpoint.format,
        "unwrapped": checkpoint.unwrapped,
        "ignored": list(checkpoint.ignored),
        "key": checkpoint.key,
        "choice": checkpoint.choice,
        **training_record(checkpoint.metadata),
    }
