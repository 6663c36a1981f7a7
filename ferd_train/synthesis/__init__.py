"""Methods of making images to distil with, one file each, and what they are told."""

from collections.abc import Mapping

from ferd_train.synthesis.base import Feed, Setting, Synthesis, SynthesisRecipe, Synthetic
from ferd_train.synthesis.ferd import FERDRecipe

#: Methods by name.
METHODS: Mapping[str, type[SynthesisRecipe]] = {
    "ferd": FERDRecipe,
}

__all__ = ["METHODS", "FERDRecipe", "Feed", "Setting", "Synthesis", "SynthesisRecipe", "Synthetic"]
