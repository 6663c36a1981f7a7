"""Attacks by name, and the list a run is asked for: ``clean,fgsm,pgd:rslad,cw``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from ferd_eval.attacks.autoattack.apgd import APGDCE, APGDT
from ferd_eval.attacks.autoattack.cascade import Cascade
from ferd_eval.attacks.autoattack.ensemble import alone, as_in_torchattacks, audited, autoattack
from ferd_eval.attacks.autoattack.fab import FABT
from ferd_eval.attacks.autoattack.square import Square
from ferd_eval.attacks.base import Attack
from ferd_eval.attacks.clean import Clean
from ferd_eval.attacks.gradient import CW, FGSM, PGD, IteratedSignedGradient, TargetedPGD
from ferd_eval.attacks.threat import Threat
from ferd_eval.errors import UserError, did_you_mean, require_kind
from ferd_eval.io.epsilon import format_quantity


@dataclass(frozen=True)
class Preset:
    """A named attack with the constants of a source."""

    make: Callable[[], Attack | Cascade]
    summary: str
    source: str


_RSLAD_STEP = Fraction("0.003")

#: Every attack that ships with the package.
PRESETS: Mapping[str, Preset] = {
    "clean": Preset(Clean, "no perturbation", ""),
    "fgsm": Preset(FGSM, "one step of ε on cross-entropy, no random start", "DFHL"),
    "pgd": Preset(
        PGD, "20 steps of ε/4 on cross-entropy, uniform start, last iterate", "Fair-ARD, DFHL"
    ),
    "pgd:rslad": Preset(
        lambda: PGD(step_size=_RSLAD_STEP), "as pgd with steps of 0.003", "RSLAD, ABSLD"
    ),
    "cw": Preset(
        CW, "20 steps of ε/4 on the margin, uniform start, last iterate", "Fair-ARD, DFHL"
    ),
    "cw:fair-ard": Preset(lambda: CW(kappa=50.0), "as cw, margin clamped at κ = 50", "Fair-ARD"),
    "cw:dfhl": Preset(lambda: CW(steps=100), "as cw with 100 steps", "DFHL"),
    "cw:rslad": Preset(
        lambda: CW(steps=30, step_size=_RSLAD_STEP), "as cw with 30 steps of 0.003", "RSLAD"
    ),
    "aa": Preset(
        autoattack,
        "AutoAttack standard: APGD-CE, APGD-T, FAB-T, Square, each on survivors",
        "AutoAttack",
    ),
    "aa:reference": Preset(
        lambda: autoattack(reference_stream=True),
        "as aa, on the reference's own stream of random numbers: depends on the batch size",
        "AutoAttack",
    ),
    "aa-audited": Preset(
        audited,
        "as aa, with FAB and Square on 256 of the survivors: an interval at a third of the cost",
        "AutoAttack",
    ),
    "apgd-ce": Preset(
        lambda: alone(APGDCE()), "Auto-PGD on cross-entropy, 100 iterations", "AutoAttack"
    ),
    "apgd-t": Preset(
        lambda: alone(APGDT()), "Auto-PGD on the targeted DLR, 9 targets", "AutoAttack"
    ),
    "fab-t": Preset(lambda: alone(FABT()), "FAB toward 9 targets, 100 iterations", "AutoAttack"),
    "square": Preset(lambda: alone(Square()), "Square, black-box, 5000 queries", "AutoAttack"),
    "aa-torchattacks": Preset(
        as_in_torchattacks,
        "weaker: what torchattacks 3.3 and later call AutoAttack (10 iterations, not 100)",
        "torchattacks",
    ),
    "targeted": Preset(
        TargetedPGD, "PGD toward every other class: who can be turned into whom", ""
    ),
}

#: Names that stand for several attacks.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "paper": ("clean", "fgsm", "pgd", "cw", "aa"),
    "fast": ("clean", "fgsm", "pgd", "cw"),
}

DEFAULT_ATTACKS = "paper"


@dataclass(frozen=True)
class PlannedAttack:
    """An attack with the ball it works in, under the id that reports use.

    The id is the preset's name; where a run has several ε it carries its own: ``pgd@2/255``.
    """

    id: str
    attack: Attack | Cascade
    threat: Threat

    @property
    def attacks(self) -> tuple[Attack, ...]:
        """The attack itself, or those of the cascade."""
        return self.attack.attacks if isinstance(self.attack, Cascade) else (self.attack,)

    def describe(self) -> dict[str, Any]:
        """Constants for the manifest."""
        return {
            "family": self.attack.family,
            "norm": self.threat.norm,
            "eps": 0.0 if self.attack.family == "clean" else self.threat.radius,
            "eps_text": "0" if self.attack.family == "clean" else format_quantity(self.threat.eps),
            **self.attack.constants(self.threat),
        }


def plan_attacks(
    names: str | Sequence[str | Attack | Cascade],
    threats: Sequence[Threat],
    *,
    steps: int | None = None,
    step_size: Fraction | None = None,
) -> tuple[PlannedAttack, ...]:
    """Resolve names to attacks, each in each ball; ``clean`` always comes first.

    Clean predictions are what every other figure is read beside, so they are always made.

    Args:
        names: comma-separated preset names, or a sequence of names, `Attack` and `Cascade` objects.
        threats: one ball, or several for an ε profile.
        steps: overrides the number of steps of every iterated attack.
        step_size: overrides the step of every iterated attack.

    Raises:
        UserError: an unknown or repeated name.
    """
    require_kind(names, str | Sequence, "attacks", "names, or a list of names and Attack objects")
    wanted = names.split(",") if isinstance(names, str) else list(names)
    attacks: dict[str, Attack | Cascade] = {"clean": Clean()}
    for item in wanted:
        for name, attack in _resolve(item):
            if isinstance(attack, IteratedSignedGradient):
                attack = dataclasses.replace(
                    attack,
                    steps=attack.steps if steps is None else steps,
                    step_size=attack.step_size if step_size is None else step_size,
                )
            if name in attacks and name != "clean" and attacks[name] != attack:
                raise UserError(f"two attacks are called {name!r}; rename one of them.")
            attacks[name] = attack
    adjustable = any(isinstance(attack, IteratedSignedGradient) for attack in attacks.values())
    if not adjustable and (steps is not None or step_size is not None):
        raise UserError(
            f"--steps and --step-size change pgd, cw and targeted; {', '.join(attacks)} have "
            "constants of their own. Leave them out."
        )
    return tuple(
        PlannedAttack(
            name if len(threats) == 1 or name == "clean" else f"{name}@{threat_text}",
            attack,
            threat,
        )
        for name, attack in attacks.items()
        for threat in (threats[:1] if name == "clean" else threats)
        for threat_text in [format_quantity(threat.eps)]
    )


def _resolve(item: str | Attack | Cascade) -> list[tuple[str, Attack | Cascade]]:
    if isinstance(item, type):
        raise UserError(
            f"{item.__name__} is a class; give an attack made of it: {item.__name__}()."
        )
    if isinstance(item, Attack | Cascade):
        return [(str(getattr(item, "name", getattr(item, "family", type(item).__name__))), item)]
    require_kind(item, str, "an attack", "a name such as 'pgd', or an Attack object")
    name = item.strip().lower()
    if name in GROUPS:
        return [(member, PRESETS[member].make()) for member in GROUPS[name]]
    if name not in PRESETS:
        raise UserError(f"no attack is called {item!r}.{did_you_mean(name, [*PRESETS, *GROUPS])}")
    return [(name, PRESETS[name].make())]
