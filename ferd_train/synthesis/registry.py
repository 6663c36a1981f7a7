"""The methods of making images by name; a new one is a file and a line here."""

from collections.abc import Mapping

from ferd_train.synthesis.base import SynthesisRecipe
from ferd_train.synthesis.methods.cmi import CMIRecipe
from ferd_train.synthesis.methods.deepinv import DeepInvRecipe
from ferd_train.synthesis.methods.dfhl import DFHLRecipe
from ferd_train.synthesis.methods.fast import FastRecipe
from ferd_train.synthesis.methods.ferd import FERDRecipe
from ferd_train.synthesis.methods.real import RealRecipe
from ferd_train.synthesis.methods.zskt import ZSKTRecipe

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
