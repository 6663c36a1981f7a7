"""Methods of making images to distil with, one file each, and what they are told."""

from collections.abc import Mapping

from ferd_train.synthesis.base import (
    Feed,
    RealImages,
    Setting,
    Synthesis,
    SynthesisRecipe,
    Synthetic,
)
from ferd_train.synthesis.dfhl import DFHLRecipe
from ferd_train.synthesis.ferd import FERDRecipe
from ferd_train.synthesis.real import RealRecipe
from ferd_train.synthesis.zskt import ZSKTRecipe

#: Methods by name.
METHODS: Mapping[str, type[SynthesisRecipe]] = {
    "ferd": FERDRecipe,
    "zskt": ZSKTRecipe,
    "dfhl": DFHLRecipe,
    "data": RealRecipe,
}

__all__ = [
    "METHODS",
    "DFHLRecipe",
    "FERDRecipe",
    "Feed",
    "RealImages",
    "RealRecipe",
    "Setting",
    "Synthesis",
    "SynthesisRecipe",
    "Synthetic",
    "ZSKTRecipe",
]
