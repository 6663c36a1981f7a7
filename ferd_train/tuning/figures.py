"""What trials are ranked by: a figure of a student's last epoch, higher is better.

Never of test images: constants chosen on those could not be judged by them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ferd_eval.errors import UserError
from ferd_train.monitoring.epoch_log import StudentLog
from ferd_train.recipes.student import StudentRecipe


@dataclass(frozen=True)
class Figure:
    """A way of ranking.

    Attributes:
        of: from a finished run's last epoch to the figure.
        require: refuses recipes whose runs will not have it, by a `UserError`.
        about: what it is, for reports; ``{}`` stands for the recipe's validation images.
    """

    of: Callable[[StudentLog], float]
    require: Callable[[StudentRecipe], None]
    about: str


def average_and_worst_class(log: StudentLog) -> float:
    """Half PGD-10 accuracy, half that of the class with the lowest; a fraction."""
    assert log.validation is not None
    return (log.validation["pgd"] + log.validation["pgd_worst_class"]) / 2


def _require_validation(recipe: StudentRecipe) -> None:
    if not recipe.validation.dataset:
        raise UserError(
            "--by validation ranks by held-out training images; name their data set, e.g. "
            "--validate fashion-mnist."
        )


#: By its name on the command line.
FIGURES: Mapping[str, Figure] = {
    "validation": Figure(
        average_and_worst_class,
        _require_validation,
        "the mean of PGD-10 accuracy and that of its worst class, on {}",
    ),
}
