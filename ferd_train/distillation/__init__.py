"""Distillation losses with their attacks, one file each, and what they are told."""

from collections.abc import Mapping

from ferd_train.distillation.absld import ABSLDRecipe
from ferd_train.distillation.base import LossRecipe, StudentObjective
from ferd_train.distillation.dafa import DAFARecipe
from ferd_train.distillation.dfhl import DFHLLossRecipe
from ferd_train.distillation.fair_ard import FairARDRecipe
from ferd_train.distillation.ferd import FERDLossRecipe
from ferd_train.distillation.ikl import IKLRecipe
from ferd_train.distillation.rslad import RSLADRecipe

#: Losses by name.
LOSSES: Mapping[str, type[LossRecipe]] = {
    "ferd": FERDLossRecipe,
    "rslad": RSLADRecipe,
    "ikl": IKLRecipe,
    "fair-ard": FairARDRecipe,
    "absld": ABSLDRecipe,
    "dafa": DAFARecipe,
    "dfhl": DFHLLossRecipe,
}

__all__ = [
    "LOSSES",
    "ABSLDRecipe",
    "DAFARecipe",
    "DFHLLossRecipe",
    "FERDLossRecipe",
    "FairARDRecipe",
    "IKLRecipe",
    "LossRecipe",
    "RSLADRecipe",
    "StudentObjective",
]
