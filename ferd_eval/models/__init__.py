"""Networks: their architectures, how files are recognised, and the `Classifier` around them."""

from ferd_eval.models.architectures.registry import build_architecture, detect, list_architectures
from ferd_eval.models.build import ModelFacts, build_classifier
from ferd_eval.models.classifier import Classifier
from ferd_eval.models.normalization import NORMALIZATIONS, Normalization, parse_normalization
from ferd_eval.models.save import save_network

__all__ = [
    "NORMALIZATIONS", "Classifier", "ModelFacts", "Normalization", "build_architecture",
    "build_classifier", "detect", "list_architectures", "parse_normalization", "save_network",
]  # fmt: skip
