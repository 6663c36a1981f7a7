"""The distillation losses by name; a new one is a file and a line here."""

from collections.abc import Mapping

from ferd_train.losses.absld import ABSLDRecipe
from ferd_train.losses.base import LossRecipe
from ferd_train.losses.dafa import DAFARecipe
from ferd_train.losses.dfhl import DFHLLossRecipe
from ferd_train.losses.fair_ard import FairARDRecipe
from ferd_train.losses.ferd import FERDLossRecipe
from ferd_train.losses.igdm import IGDMRecipe
from ferd_train.losses.ikl import IKLRecipe
from ferd_train.losses.rslad import RSLADRecipe
from ferd_train.losses.wat import WATRecipe

#: Losses by name.
LOSSES: Mapping[str, type[LossRecipe]] = {
    "ferd": FERDLossRecipe,
    "rslad": RSLADRecipe,
    "igdm": IGDMRecipe,
    "ikl": IKLRecipe,
    "fair-ard": FairARDRecipe,
    "absld": ABSLDRecipe,
    "dafa": DAFARecipe,
    "wat": WATRecipe,
    "dfhl": DFHLLossRecipe,
}
