"""Distillation losses with their attacks, one file each, and what they are told."""

from collections.abc import Mapping

from ferd_train.distillation.base import LossRecipe, StudentObjective
from ferd_train.distillation.dfhl import DFHLLossRecipe
from ferd_train.distillation.ferd import FERDLossRecipe
from ferd_train.distillation.rslad import RSLADRecipe

#: Losses by name.
LOSSES: Mapping[str, type[LossRecipe]] = {
    "ferd": FERDLossRecipe,
    "rslad": RSLADRecipe,
    "dfhl": DFHLLossRecipe,
}

__all__ = [
    "LOSSES",
    "DFHLLossRecipe",
    "FERDLossRecipe",
    "LossRecipe",
    "RSLADRecipe",
    "StudentObjective",
]
