"""What an attack's id and constants say of it: its family and its ε."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ferd_eval.quantity import exact


def eps_of(attack: str, constants: Mapping[str, Any]) -> float | None:
    """ε of an attack: from its constants, else from what follows the @ of its id."""
    if constants.get("eps") is not None:
        return float(constants["eps"])
    try:
        numerator, _, denominator = attack.rpartition("@")[2].partition("/")
        return float(exact(numerator) / exact(denominator or "1"))
    except (ValueError, ZeroDivisionError, OverflowError):
        return None


def preset_of(attack: str) -> str:
    """The id without its ε: ``pgd:rslad@2/255`` → ``pgd:rslad``."""
    return attack.partition("@")[0]


def family_of(attack: str, constants: Mapping[str, Any]) -> str:
    """The method that presets share: ``pgd:rslad@2/255`` → ``pgd``."""
    return str(constants.get("family") or preset_of(attack).partition(":")[0])
