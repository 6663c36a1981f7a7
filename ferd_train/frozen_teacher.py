"""The network that is distilled: any checkpoint that `ferd_eval` loads. It is never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ferd_eval.acceptance import probe
from ferd_eval.checkpoint import load_checkpoint
from ferd_eval.errors import UserError
from ferd_eval.models import Classifier, build_classifier


@dataclass(frozen=True, eq=False)
class FrozenTeacher:
    """A teacher with what a run's record says of it.

    Attributes:
        classifier: in evaluation mode, without gradients of parameters, on the CPU at first.
        image_shape: C, H, W of the images it is distilled with.
        num_classes: K.
        dataset: what it was trained on, where its file tells; else empty.
        description: facts for the record.
    """

    classifier: Classifier
    image_shape: tuple[int, int, int]
    num_classes: int
    dataset: str
    description: Mapping[str, Any]


def load_teacher(
    file: Path,
    image_size: int,
    *,
    arch: str | None = None,
    model_file: str | None = None,
    normalize: str = "auto",
) -> FrozenTeacher:
    """Load a checkpoint and see that it takes images of this size.

    Args:
        file: the checkpoint.
        image_size: height and width of the images to make.
        arch: as ``ferd-eval score --arch``.
        model_file: as ``--model-file``.
        normalize: as ``--normalize``.

    Raises:
        UserError: it cannot be loaded, or does not take the images.
    """
    checkpoint = load_checkpoint(file)
    classifier, facts = build_classifier(
        checkpoint, arch=arch, model_file=model_file, normalize=normalize
    )
    if facts.in_channels is None:
        raise UserError(f"{file}: the network does not say how many channels its images have.")
    shape = (facts.in_channels, image_size, image_size)
    classifier.requires_grad_(False).eval()
    try:
        logits_BK = probe(
            classifier, shape, f"synthesis at image_size {image_size}", by_gradient=True
        )
    except UserError as reason:
        raise UserError(f"{file}: {reason} Set the right one with --set image_size=N.") from reason
    assert torch.is_floating_point(logits_BK)
    description = {
        "name": checkpoint.name,
        "path": str(file),
        "sha256": checkpoint.sha256,
        **facts.to_json(),
    }
    dataset = str(checkpoint.metadata.get("ferd.dataset", ""))
    return FrozenTeacher(classifier, shape, logits_BK.shape[1], dataset, description)
