"""What a teacher's file says of the images that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ferd_eval.datasets import dataset_info
from ferd_eval.datasets.info import DatasetInfo
from ferd_eval.errors import UserError
from ferd_eval.io.epsilon import parse_quantity
from ferd_eval.models.checkpoint.training_metadata import training_record


@dataclass(frozen=True)
class TeacherRecord:
    """Facts of a file's metadata; what it does not say is empty or None.

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
        """Read what is well formed; a checkpoint is whatever somebody sent."""
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
        """The data set's facts, where it is a public one."""
        return public_set(self.dataset)


def public_set(name: str) -> DatasetInfo | None:
    """Facts of a data set whose images are known without its files; None of any other."""
    with suppress(UserError):
        info = dataset_info(name)
        if info.image_shape is not None and info.class_names:
            return info
    return None
