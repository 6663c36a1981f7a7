"""Methods of making images to distil with, one file each; `registry` names them."""

from ferd_train.synthesis.registry import METHODS as METHODS
