"""The network to distil: any checkpoint that `ferd_eval` loads. It is never changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ferd_eval.datasets import LabelledImages, dataset_info, list_datasets
from ferd_eval.datasets.info import DatasetInfo
from ferd_eval.errors import UserError
from ferd_eval.evaluation.config import EvalConfig
from ferd_eval.evaluation.model_checks import probe, wrong_class_count
from ferd_eval.io.epsilon import parse_quantity
from ferd_eval.models import Classifier, build_classifier
from ferd_eval.models.architectures.registry import guess_in_channels
from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_eval.models.checkpoint.training_metadata import training_record
from ferd_eval.models.demo import demo_checkpoints
from ferd_train.config.unfit import UnfitError

#: Sides of the images of public data sets, and of ImageNet's usual crops.
COMMON_SIZES = tuple(
    sorted({224, *(info.image_shape[1] for info in list_datasets() if info.image_shape)})
)


@dataclass(frozen=True)
class TeacherRecord:
    """A checkpoint's metadata on the teacher's training; empty or None where it says nothing.

    Attributes:
        dataset: as the file spells it.
        image_size: height and width.
        eps: radius it was trained to resist.
    """

    dataset: str = ""
    image_size: int | None = None
    eps: Fraction | None = None

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> TeacherRecord:
        """Read whatever is well formed; checkpoints come from anybody."""
        dataset = str(metadata.get("ferd.dataset", ""))
        recipe = training_record(metadata).get("recipe", {})
        size, eps = recipe.get("image_size"), None
        with suppress(UserError):
            eps = parse_quantity(str(recipe.get("eps")), "eps")
        info = public_set(dataset)
        if info is not None and info.image_shape is not None:
            size = info.image_shape[1]
        return cls(dataset, size if type(size) is int and size > 0 else None, eps)

    @property
    def info(self) -> DatasetInfo | None:
        """Facts of the data set, if it is a public one."""
        return public_set(self.dataset)


def public_set(name: str) -> DatasetInfo | None:
    """Facts of a data set whose images are known without its files; else None."""
    with suppress(UserError):
        info = dataset_info(name)
        if info.image_shape is not None and info.class_names:
            return info
    return None


@dataclass(frozen=True)
class TeacherReading:
    """How a teacher's file is read, by the options of ``ferd-eval score``.

    Of a file with several networks, no key takes the teacher.
    """

    key: str | None = None
    arch: str | None = None
    model_file: str | None = None
    normalize: str = "auto"

    def load(self, file: Path, image_size: int) -> FrozenTeacher:
        return load_teacher(file, image_size, **vars(self))

    def settings(self, settings: EvalConfig, key: str | None) -> EvalConfig:
        """Those that score this teacher, which is called `key` in its file."""
        return replace(settings, **{**vars(self), "key": key})


@dataclass(frozen=True, eq=False)
class FrozenTeacher:
    """A teacher with its facts for a run's record.

    Attributes:
        classifier: in evaluation mode, without gradients of parameters, on the CPU at first.
        image_shape: C, H, W of the images it is distilled with.
        num_classes: K.
        record: of its training, from its file.
        description: facts for a run's record.
    """

    classifier: Classifier
    image_shape: tuple[int, int, int]
    num_classes: int
    record: TeacherRecord
    description: Mapping[str, Any]

    @property
    def dataset(self) -> str:
        """Name of its training data, or empty if its file does not say."""
        return self.record.dataset

    @property
    def key(self) -> str | None:
        """Which network of its file it is; None if there is only one."""
        return str(self.description.get("key") or "") or None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Those of its training data if known, else numbers."""
        names: tuple[str, ...] = ()
        if self.dataset:
            with suppress(UserError):  # someone's own data set, under any name
                names = dataset_info(self.dataset).class_names
        if len(names) != self.num_classes:
            return tuple(str(label) for label in range(self.num_classes))
        return names

    def require_same_kind(self, images: LabelledImages, setting: str) -> None:
        """Require real images like those the teacher is distilled with; `setting` named them.

        Raises:
            UnfitError: they have other classes, or another shape.
        """
        if images.num_classes != self.num_classes:
            raise UnfitError([f"{setting}: {wrong_class_count(self.num_classes, images)[:-1]}"])
        own, theirs = self.record.info, public_set(images.name)
        if own is not None and theirs is not None and own.class_names != theirs.class_names:
            raise UnfitError(
                [
                    f"{setting}: the teacher's file says that it was trained on {own.name}, whose "
                    f"classes are not those of {images.name}"
                ],
                others=[f"choose {own.name}, or the teacher that belongs to {images.name}."],
            )
        if images.image_shape != self.image_shape:
            channels, height, width = images.image_shape
            shapes = ("×".join(map(str, s)) for s in (images.image_shape, self.image_shape))
            reason = "{}: {} has images of {}, but the student's are {}"
            mends = channels == self.image_shape[0] and height == width and height % 4 == 0
            raise UnfitError(
                [reason.format(setting, images.name, *shapes)],
                {"image_size": str(height)} if mends else {},
                ["choose other images"] if mends else ["choose other images, or another teacher."],
            )


@contextmanager
def teacher_file(teacher: str) -> Iterator[Path]:
    """The file of a teacher by its path; ``demo`` is the packaged one."""
    if teacher != "demo":
        yield Path(teacher)
        return
    with demo_checkpoints() as files:
        yield files[0]


def load_teacher(
    file: Path,
    image_size: int,
    *,
    key: str | None = None,
    arch: str | None = None,
    model_file: str | None = None,
    normalize: str = "auto",
) -> FrozenTeacher:
    """Load a checkpoint and check that it takes images of this height and width.

    Further arguments as of `TeacherReading`.

    Raises:
        UnfitError: it does not take the images.
        UserError: it cannot be loaded.
    """
    checkpoint = load_checkpoint(file, role="teacher", key=key)
    classifier, facts = build_classifier(
        checkpoint, arch=arch, model_file=model_file, normalize=normalize
    )
    # A user's factory does not say, but its first convolution does.
    channels = facts.in_channels or guess_in_channels(checkpoint.tensors)
    if channels is None:
        raise UserError(
            f"{file}: the network does not say how many channels its images have; take a teacher "
            "that begins with a convolution."
        )
    shape = (channels, image_size, image_size)
    classifier.requires_grad_(False).eval()
    try:
        logits_BK = probe(
            classifier,
            shape,
            f"image_size {image_size}",
            by_gradient=True,
            advice="Set the size it was trained at with --set image_size=N.",
        )
    except UserError as reason:
        size = accepted_size(classifier, shape)
        if size is not None:
            raise UnfitError(
                [
                    f"{file} takes images of {size}×{size}, but image_size is {image_size} "
                    f"({image_size}×{image_size})"
                ],
                {"image_size": str(size)},
            ) from reason
        raise UserError(f"{file}: {reason}") from reason
    assert torch.is_floating_point(logits_BK)
    description = {
        "name": checkpoint.name,
        "path": str(file),
        "sha256": checkpoint.sha256,
        "key": checkpoint.key,
        "choice": checkpoint.choice,
        **facts.to_json(),
    }
    record = TeacherRecord.of(checkpoint.metadata)
    return FrozenTeacher(classifier, shape, logits_BK.shape[1], record, description)


def accepted_size(network: nn.Module, image_shape: tuple[int, int, int]) -> int | None:
    """Another common image size that the network takes, or None."""
    for size in COMMON_SIZES:
        if size != image_shape[1]:
            with suppress(UserError):
                probe(network, (image_shape[0], size, size), "", by_gradient=False)
                return size
    return None
