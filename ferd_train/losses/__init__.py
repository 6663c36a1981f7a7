"""Distillation losses with their attacks, one file each; `registry` names them."""

from ferd_train.losses.registry import LOSSES as LOSSES
