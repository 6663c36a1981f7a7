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
from ferd_train.synthesis.cmi import CMIRecipe
from ferd_train.synthesis.deepinv import DeepInvRecipe
from ferd_train.synthesis.dfhl import DFHLRecipe
from ferd_train.synthesis.fast import FastRecipe
from ferd_train.synthesis.ferd import FERDRecipe
from ferd_train.synthesis.real import RealRecipe
from ferd_train.synthesis.zskt import ZSKTRecipe

#: Methods by name.
METHODS: Mapping[str, type[SynthesisRecipe]] = {
    "ferd": FERDRecipe,
    "cmi": CMIRecipe,
    "deepinv": DeepInvRecipe,
    "fast": FastRecipe,
    "zskt": ZSKTRecipe,
    "dfhl": DFHLRecipe,
    "data": RealRecipe,
}

__all__ = [
    "METHODS",
    "CMIRecipe",
    "DFHLRecipe",
    "DeepInvRecipe",
    "FERDRecipe",
    "FastRecipe",
    "Feed",
    "RealImages",
    "RealRecipe",
    "Setting",
    "Synthesis",
    "SynthesisRecipe",
    "Synthetic",
    "ZSKTRecipe",
]
