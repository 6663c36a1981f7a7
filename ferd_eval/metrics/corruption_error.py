"""Errors under common corruptions, and the mean corruption error (mCE).

Hendrycks and Dietterich, ICLR 2019, section 4: CE_c = Σ_s E_{s,c} / Σ_s E^base_{s,c}, and the mCE
is the mean of CE_c over the fifteen corruptions c; s is the severity. K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferd_eval.datasets.corruptions import BENCHMARK, SEVERITIES, Cell
from ferd_eval.errors import UserError, listed
from ferd_eval.metrics.intervals import Interval, worst_class_interval

#: Mean error of AlexNet over the severities of each corruption of ImageNet-C, in `BENCHMARK`'s
#: order, by the authors: ``ALEXNET_ERR`` in imagenet.py of github.com/google-research/augmix.
_ALEXNET = (
    0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816, 0.826572,
    0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500,
)  # fmt: skip


# Means of whole numbers of images add up to whole numbers.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Baseline:
    """The network that errors are divided by."""

    name: str
    errors: Mapping[str, float]  #: mean over the severities, by corruption


@dataclass(frozen=True)
class CellResult:
    """What a network made of one corruption in one severity."""

    cell: Cell
    images_K: NDArray[np.int64]
    right_K: NDArray[np.int64]

    @property
    def error(self) -> float:
        """Share of all images that it got wrong."""
        return 1 - float(self.right_K.sum() / self.images_K.sum())

    @property
    def class_accuracy(self) -> NDArray[np.float64]:
        """K accuracies; NaN without images."""
        with np.errstate(invalid="ignore"):
            return self.right_K / self.images_K


@dataclass(frozen=True)
class CorruptionErrors:
    """Results of one network on every cell that is there.

    In a mean each corruption counts the same, and so does each severity of it.
    """

    network: str
    dataset: str  #: as ``cifar10-c``
    class_names: tuple[str, ...]
    results: tuple[CellResult, ...]
    baseline: Baseline | None = None

    @property
    def corruptions(self) -> tuple[str, ...]:
        """Names, in the order of the results."""
        return tuple(dict.fromkeys(each.cell.corruption for each in self.results))

    @property
    def counted(self) -> tuple[str, ...]:
        """The corruptions of the benchmark; all of them where none is of it. The means are over
        these: the four others are for tuning, by the paper."""
        return tuple(name for name in self.corruptions if name in BENCHMARK) or self.corruptions

    @property
    def is_whole(self) -> bool:
        """Whether the fifteen corruptions are there in five severities."""
        cells = {each.cell for each in self.results}
        return all(Cell(name, s) in cells for name in BENCHMARK for s in SEVERITIES)

    def of(self, corruption: str) -> list[CellResult]:
        """By severity."""
        return [each for each in self.results if each.cell.corruption == corruption]

    def error(self, corruption: str) -> float:
        """Mean over the severities."""
        return float(np.mean([each.error for each in self.of(corruption)]))

    def corruption_error(self, corruption: str) -> float | None:
        """CE: the error over the baseline's; None without one, or beyond the benchmark."""
        if self.baseline is None or corruption not in self.counted:
            return None
        return self.error(corruption) / self.baseline.errors[corruption]

    @property
    def mean_error(self) -> float:
        """Mean of `error`, not normalised."""
        return float(np.mean([self.error(name) for name in self.counted]))

    @property
    def mce(self) -> float | None:
        """Mean of `corruption_error`; None without a baseline."""
        ratios = [self.corruption_error(name) for name in self.counted]
        return None if None in ratios else float(np.mean(np.array(ratios, dtype=float)))

    def class_accuracy(self, corruption: str | None = None) -> NDArray[np.float64]:
        """K mean accuracies over the cells of one corruption, else of all that count."""
        names = self.counted if corruption is None else (corruption,)
        by_corruption = [
            np.mean([each.class_accuracy for each in self.of(name)], axis=0) for name in names
        ]
        mean_K: NDArray[np.float64] = np.mean(by_corruption, axis=0)
        return mean_K

    def worst_class(self, corruption: str | None = None) -> int:
        """Index of the class with the lowest mean accuracy among those with images."""
        return int(np.nanargmin(self.class_accuracy(corruption)))

    def worst_class_interval(self, corruption: str | None = None) -> Interval | None:
        """95 % interval of the lowest true mean accuracy, whichever class has it; None without one.

        The same images come back in each cell, so a class has as many independent values as images,
        each a mean in [0, 1], rounded outwards to whole images: of sums of such values the
        binomial's tails are the widest (Hoeffding, Annals of Mathematical Statistics 27, 1956).
        """
        n_K = np.min([each.images_K for each in self.results], axis=0)
        right_K = np.nan_to_num(self.class_accuracy(corruption)) * n_K
        least = worst_class_interval(np.floor(right_K + _ROUNDING), n_K)
        most = worst_class_interval(np.ceil(right_K - _ROUNDING), n_K)
        return (least[0], most[1]) if least and most else None

    def to_dict(self) -> dict[str, Any]:
        """For JSON; fractions."""
        accuracy_K = self.class_accuracy()
        return {
            "network": self.network,
            "dataset": self.dataset,
            "images": int(self.results[0].images_K.sum()),
            "class_names": list(self.class_names),
            "complete": self.is_whole,
            "counted": list(self.counted),
            "mean_error": self.mean_error,
            "mce": self.mce,
            "baseline": self.baseline and self.baseline.name,
            "errors": {
                name: {str(each.cell.severity): each.error for each in self.of(name)}
                for name in self.corruptions
            },
            "corruption_errors": {name: self.corruption_error(name) for name in self.counted},
            "class_accuracy": {
                name: None if np.isnan(value) else float(value)
                for name, value in zip(self.class_names, accuracy_K, strict=True)
            },
            "worst_class": self.class_names[self.worst_class()],
            "worst_class95": self.worst_class_interval(),
        }


def alexnet(errors: CorruptionErrors) -> Baseline:
    """The paper's baseline; UserError where the results are not of ImageNet-C as published."""
    images = int(errors.results[0].images_K.sum())
    if errors.dataset != "imagenet-c" or len(errors.class_names) != 1000 or images != 50_000:
        raise UserError(
            "--baseline alexnet has errors on the 50000 images and 1000 classes of ImageNet-C, but "
            f"these are {images} images and {len(errors.class_names)} classes of {errors.dataset}. "
            "Score a baseline with ferd-eval corruptions too, and give --baseline its folder."
        )
    means = zip(BENCHMARK, _ALEXNET, strict=True)
    by_severity = {name: {str(s): mean for s in SEVERITIES} for name, mean in means}
    return _of_same_cells(errors, "AlexNet", by_severity)


def measured(errors: CorruptionErrors, record: Mapping[str, Any], source: str) -> Baseline:
    """A baseline from the record of another network's results.

    UserError: the record is none, or of other images, classes, corruptions or severities.
    """
    ours = errors.to_dict()
    try:
        for key in ("dataset", "images", "class_names"):
            if record[key] != ours[key]:
                said = f"{key} {str(record[key])[:80]}, these have {str(ours[key])[:80]}"
                raise UserError(f"{source} has {said}. Give a baseline on the same images.")
        by_severity = {
            str(name): {str(s): float(value) for s, value in of.items()}
            for name, of in record["errors"].items()
        }
        name = str(record["network"])
    except (KeyError, TypeError, ValueError, AttributeError) as reason:
        raise UserError(
            f"{source} is no record of ferd-eval corruptions; give --baseline a folder it wrote."
        ) from reason
    return _of_same_cells(errors, name, by_severity)


def _of_same_cells(
    errors: CorruptionErrors, name: str, by_severity: Mapping[str, Mapping[str, float]]
) -> Baseline:
    """Means over the cells that the results have; UserError where the baseline has others."""
    other = [
        corruption
        for corruption in errors.counted
        if {*by_severity.get(corruption, ())}
        != {str(each.cell.severity) for each in errors.of(corruption)}
    ]
    if other:
        raise UserError(
            f"baseline {name} has other severities than these results, or none, of "
            f"{listed(other)}. Score both on the same corruptions and severities."
        )
    means = {
        corruption: float(np.mean([*by_severity[corruption].values()]))
        for corruption in errors.counted
    }
    faultless = [corruption for corruption, mean in means.items() if not mean > 0]
    if faultless:
        raise UserError(
            f"baseline {name} makes no error under {listed(faultless)}, so there is nothing to "
            "divide by. Leave --baseline out, or give a weaker one."
        )
    return Baseline(name, means)
