"""Other tools' names of attacks, and of no attack. Needs no torch."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from ferd_eval.attacks.registry import PRESETS
from ferd_eval.io.epsilon import exact

#: Words for images that nobody attacked.
_CLEAN = frozenset({
    "clean", "natural", "nat", "benign", "standard", "std", "none", "original", "orig",
    "identity", "nominal", "unperturbed", "unattacked", "unmodified", "undisturbed",
    "nonadversarial", "noattack", "noattacks", "noadv", "noperturbation", "nonoise",
    "withoutattack", "woattack", "notattacked", "nonattacked", "beforeattack", "preattack",
})  # fmt: skip

#: Words that add nothing to another one.
_FILLERS = frozenset({
    "images", "image", "imgs", "img", "samples", "sample", "examples", "example", "inputs",
    "input", "data", "dataset", "test", "val", "validation", "eval", "set", "split", "acc",
    "accuracy", "pred", "preds", "prediction", "predictions", "results", "result", "output",
    "outputs", "only", "an", "the", "any",
})  # fmt: skip

#: Words that may mean either: a split, a default, a missing value, a yes or no.
_EITHER = frozenset({
    "id", "na", "nan", "nil", "null", "nul", "normal", "default", "raw", "plain", "base",
    "baseline", "reference", "ref", "vanilla", "control", "train", "training", "true", "false",
    "yes", "no", "on", "off", "x", "y", "z", "unknown", "unnamed", "untitled", "undefined",
    "tbd", "before", "pre", "eps", "epsilon", "eps0", "epsilon0", "attack", "attacks", "label",
    "labels", "class", "classes", "model", "net", "network",
})  # fmt: skip

#: Words of attacks: beside one, a word for clean says something else (``pgd-natural``).
_ATTACKS = re.compile(
    r"(i|mi|ni|di|ti|si|vmi|pi)?fgsm|[ae]?pgd(ce|t|dlr)?|bim|mim|cw|aa|autoattack|auto|fab|square|"
    r"deepfool|jsma|nes|spsa|targeted|adv|adversarial"
)


def attack_id(name: str) -> str | None:
    """What an attack that somebody named so is called here; ``clean`` where it is none.

    ``PGD-20`` is ``pgd``, ``No attack`` is ``clean``, what is not known stays as it is. An ε after
    an @ stays. None where the name may mean either: ``test``, ``0``, ``pgd@0``, ``clean-label``.
    """
    known = known_attack(name)
    if known is not None:
        return known
    words = _words(name.partition("@")[0])
    telling = [word for word in words if word not in _FILLERS]
    is_attack = any(_ATTACKS.fullmatch(word.rstrip("0123456789")) for word in telling)
    says_clean = _CLEAN.intersection(telling) or "".join(telling) in _CLEAN
    says_either = all(word in _EITHER or not word.strip("0123456789") for word in telling)
    if says_either or (says_clean and not is_attack) or _is_zero(name.partition("@")[2]):
        return None
    return name.strip()


def known_attack(name: str) -> str | None:
    """``clean``, or an attack of this package, however it is written; None for other names."""
    said, at, eps = name.partition("@")
    words = _words(said)
    telling = [word for word in words if word not in _FILLERS]
    is_clean = bool(telling) and (_CLEAN.issuperset(telling) or "".join(telling) in _CLEAN)
    if is_clean:
        return "clean" if not at or _is_zero(eps) else None
    key = "".join(word for word in words if word != "linf")
    found = next((each for each in PRESETS if key in _keys(each)), None)
    return None if found is None or _is_zero(eps) else f"{found}{at}{eps.strip()}"


def _keys(preset: str) -> set[str]:
    """The name of an attack and its aliases, letters and digits alone; none for ``clean``."""
    spellings = () if preset == "clean" else (preset, *PRESETS[preset].aliases)
    return {"".join(_words(each)) for each in spellings}


def spelling_key(name: str) -> str:
    """The same for all spellings of one attack."""
    said, at, eps = (attack_id(name) or name).partition("@")
    return "".join(_words(said)) + at + eps.strip()


def _words(name: str) -> list[str]:
    """Runs of letters and digits, and a plus sign (AutoAttack's plus is another attack)."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    return re.findall(r"[^\W_]+|\+", folded)


def _is_zero(eps: str) -> bool:
    """Whether an ε is written that is 0."""
    return re.fullmatch(r"\s*0*\.?0+(/\d+)?\s*", eps) is not None


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


def is_within_threat(
    attack: str, constants: Mapping[str, Any], manifest: Mapping[str, Any]
) -> bool:
    """Whether it is an attack, within the run's ε as far as both are known."""
    eps, budget = constants.get("eps"), (manifest.get("threat") or {}).get("eps")
    return attack != "clean" and (eps is None or budget is None or eps <= budget * (1 + 1e-9))
