"""How evenly an image classifier resists adversarial attack across its classes.

``import ferd_eval`` is instant: torch and pandas are loaded by the first name that needs them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ferd_eval._version import __version__

if TYPE_CHECKING:
    from ferd_eval.attacks import Attack, Problem, Threat
    from ferd_eval.datasets import LabelledImages, load_dataset
    from ferd_eval.errors import UserError
    from ferd_eval.evaluation.evaluate import score
    from ferd_eval.metrics.compute import scorecard
    from ferd_eval.models import Classifier, build_classifier
    from ferd_eval.models.checkpoint.load import load_checkpoint
    from ferd_eval.report import write_report
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
    "load_checkpoint",
    "load_dataset",
    "score",
    "scorecard",
    "write_report",
]

_HOME = {
    "Attack": "attacks",
    "Classifier": "models",
    "LabelledImages": "datasets",
    "Outcomes": "results.outcomes",
    "Problem": "attacks",
    "Threat": "attacks",
    "UserError": "errors",
    "build_classifier": "models",
    "load_checkpoint": "models.checkpoint.load",
    "load_dataset": "datasets",
    "score": "evaluation.evaluate",
    "scorecard": "metrics",
    "write_report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
