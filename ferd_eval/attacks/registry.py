"""Every attack by name: where its class is, its constants, access and other spellings.

Needs no torch, so that reports can read it; `ferd_eval.attacks.plan.make_attack` makes the attack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

#: The attacker knows the network and its weights; the attacker sees only its outputs.
WHITE_BOX, BLACK_BOX = "white box", "black box"


@dataclass(frozen=True)
class Preset:
    """A named attack with the constants of a source."""

    #: ``module:name`` of an attack, a search or a function that makes one; a module that begins
    #: with a dot is in this package.
    target: str
    summary: str  #: one line for ``ferd-eval ls attacks``
    source: str = ""  #: whose constants these are
    access: tuple[str, ...] = (WHITE_BOX,)  #: what the attacker sees; both for mixed cascades
    #: How others write the name. Case, spaces and punctuation do not count, nor does ``linf``, the
    #: only norm here.
    aliases: tuple[str, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)  #: arguments of the target
    cite: tuple[str, ...] = ()  #: keys in ``ferd_eval/report/references.bib``


_BOTH = (WHITE_BOX, BLACK_BOX)
_RSLAD_STEP = Fraction("0.003")
_AUTOATTACK = ("croce2020reliable", "croce2020minimally", "andriushchenko2020square")

#: Every attack that ships with the package; a new one is one entry. What stands before a colon in
#: the name is the family, whose presets share their access.
PRESETS: dict[str, Preset] = {
    "clean": Preset(".clean:Clean", "no perturbation", access=()),
    "fgsm": Preset(
        ".gradient:FGSM", "one step of ε on cross-entropy, no random start", "DFHL",
        aliases=("fast gradient sign method",),
        cite=("goodfellow2015explaining",),
    ),
    "pgd": Preset(
        ".gradient:PGD", "20 steps of ε/4 on cross-entropy, uniform start, last iterate",
        "Fair-ARD, DFHL", aliases=("pgd 20",),
        cite=("madry2018towards",),
    ),
    "pgd:rslad": Preset(
        ".gradient:PGD", "as pgd with steps of 0.003", "RSLAD, ABSLD",
        constants={"step_size": _RSLAD_STEP},
        cite=("madry2018towards", "zi2021revisiting"),
    ),
    "cw": Preset(
        ".gradient:CW", "20 steps of ε/4 on the margin, uniform start, last iterate",
        "Fair-ARD, DFHL", aliases=("cw inf", "cw 20"),
        cite=("carlini2017towards", "madry2018towards"),
    ),
    "cw:fair-ard": Preset(
        ".gradient:CW", "as cw, margin clamped at κ = 50", "Fair-ARD", constants={"kappa": 50.0},
        cite=("carlini2017towards", "madry2018towards", "yue2023revisiting"),
    ),
    "cw:dfhl": Preset(
        ".gradient:CW", "as cw with 100 steps", "DFHL", constants={"steps": 100},
        cite=("carlini2017towards", "madry2018towards", "yuan2024data"),
    ),
    "cw:rslad": Preset(
        ".gradient:CW", "as cw with 30 steps of 0.003", "RSLAD",
        constants={"steps": 30, "step_size": _RSLAD_STEP},
        cite=("carlini2017towards", "madry2018towards", "zi2021revisiting"),
    ),
    "aa": Preset(
        ".autoattack.ensemble:standard",
        "AutoAttack standard: APGD-CE, APGD-T, FAB-T, Square, each on survivors",
        "AutoAttack", _BOTH,
        ("auto attack", "aa standard", "standard aa", "auto attack standard",
         "standard auto attack"),
        cite=_AUTOATTACK,
    ),
    "aa:reference": Preset(
        ".autoattack.ensemble:standard",
        "as aa, on the reference's own stream of random numbers: depends on the batch size",
        "AutoAttack", _BOTH, constants={"reference_stream": True},
        cite=_AUTOATTACK,
    ),
    "aa-audited": Preset(
        ".autoattack.ensemble:audited",
        "as aa, with FAB and Square on 256 of the survivors: an interval at a third of the cost",
        "AutoAttack", _BOTH,
        cite=_AUTOATTACK,
    ),
    "apgd-ce": Preset(
        ".autoattack.apgd:APGDCE", "Auto-PGD on cross-entropy, 100 iterations", "AutoAttack",
        aliases=("auto pgd ce",),
        cite=("croce2020reliable",),
    ),
    "apgd-t": Preset(
        ".autoattack.apgd:APGDT", "Auto-PGD on the targeted DLR, 9 targets", "AutoAttack",
        aliases=("auto pgd t", "apgd targeted", "apgd dlr t"),
        cite=("croce2020reliable",),
    ),
    "fab-t": Preset(
        ".autoattack.fab:FABT", "FAB toward 9 targets, 100 iterations", "AutoAttack",
        aliases=("fab targeted",),
        cite=("croce2020minimally",),
    ),
    "square": Preset(
        ".autoattack.square:Square", "Square, black-box, 5000 queries", "AutoAttack",
        (BLACK_BOX,), ("square attack",),
        cite=("andriushchenko2020square",),
    ),
    "aa-torchattacks": Preset(
        ".autoattack.ensemble:as_in_torchattacks",
        "weaker: what torchattacks 3.3 and later call AutoAttack (10 iterations, not 100)",
        "torchattacks", _BOTH,
        cite=(*_AUTOATTACK, "kim2020torchattacks"),
    ),
    "targeted": Preset(
        ".gradient:TargetedPGD", "PGD toward every other class: who can be turned into whom",
        cite=("madry2018towards",),
    ),
}  # fmt: skip

#: Whose code runs the attacks → its own literature.
ENGINES: Mapping[str, tuple[str, ...]] = {
    "native": (),
    "autoattack": ("croce2020reliable",),
    "torchattacks": ("kim2020torchattacks",),
}

#: Names that stand for several attacks.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "paper": ("clean", "fgsm", "pgd", "cw", "aa"),
    "fast": ("clean", "fgsm", "pgd", "cw"),
}

DEFAULT_ATTACKS = "paper"


def access_of(family: str) -> tuple[str, ...]:
    """What an attacker of this family sees; empty where the family is not of this package."""
    return PRESETS[family].access if family in PRESETS else ()
