"""How evenly an image classifier resists adversarial attack across its classes.

``import ferd_eval`` is instant: torch and pandas are loaded by the first name that needs them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ferd_eval._lazy import lazily
from ferd_eval._version import __version__

if TYPE_CHECKING:
    from ferd_eval.attacks import Attack, Problem, Threat
    from ferd_eval.commands import compare, gate, import_predictions, leaderboard
    from ferd_eval.datasets import LabelledImages, load_dataset
    from ferd_eval.errors import UserError
    from ferd_eval.evaluation.evaluate import score
    from ferd_eval.metrics.compute import scorecard
    from ferd_eval.models import Classifier, build_classifier
    from ferd_eval.models.checkpoint.load import load_checkpoint
    from ferd_eval.models.file_classifier import load_classifier
    from ferd_eval.report import write_report
    from ferd_eval.report.api import report
    from ferd_eval.results.outcomes import Outcomes

__all__ = [
    "Attack",
    "Classifier",
    "LabelledImages",
    "Outcomes",
    "Problem",
    "Threat",
    "UserError",
    "__version__",
    "build_classifier",
    "compare",
    "gate",
    "import_predictions",
    "leaderboard",
    "load_checkpoint",
    "load_classifier",
    "load_dataset",
    "report",
    "score",
    "scorecard",
    "write_report",
]

__getattr__ = lazily(
    __name__,
    {
        "attacks": "Attack Problem Threat",
        "commands": "compare gate import_predictions leaderboard",
        "datasets": "LabelledImages load_dataset",
        "errors": "UserError",
        "evaluation.evaluate": "score",
        "metrics": "scorecard",
        "models": "Classifier build_classifier",
        "models.checkpoint.load": "load_checkpoint",
        "models.file_classifier": "load_classifier",
        "report": "write_report",
        "report.api": "report",
        "results.outcomes": "Outcomes",
    },
)


def __dir__() -> list[str]:
    return __all__
