"""Distillation losses with their attacks, one file each, and what they are told."""

from collections.abc import Mapping

from ferd_train.losses.absld import ABSLDRecipe
from ferd_train.losses.base import LossRecipe, StudentObjective
from ferd_train.losses.dafa import DAFARecipe
from ferd_train.losses.dfhl import DFHLLossRecipe
from ferd_train.losses.fair_ard import FairARDRecipe
from ferd_train.losses.ferd import FERDLossRecipe
from ferd_train.losses.ikl import IKLRecipe
from ferd_train.losses.rslad import RSLADRecipe

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
