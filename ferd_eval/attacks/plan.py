"""The attacks of a run, from the list it is asked for: ``clean,fgsm,pgd:rslad,cw``."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from typing import Any

from ferd_eval.attacks.autoattack.batched_search import Search
from ferd_eval.attacks.autoattack.cascade import Cascade
from ferd_eval.attacks.autoattack.ensemble import alone
from ferd_eval.attacks.base import Attack
from ferd_eval.attacks.clean import Clean
from ferd_eval.attacks.gradient import IteratedSignedGradient
from ferd_eval.attacks.registry import GROUPS, PRESETS
from ferd_eval.attacks.threat import Threat
from ferd_eval.errors import UserError, did_you_mean, require_kind
from ferd_eval.io.epsilon import format_quantity


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


def make_attack(name: str) -> Attack | Cascade:
    """The attack of a name in the registry; a search runs alone, as a cascade of one."""
    preset = PRESETS[name]
    module, _, target = preset.target.partition(":")
    made = getattr(import_module(module, __package__), target)(**preset.constants)
    assert isinstance(made, Attack | Cascade | Search), f"{preset.target} made no attack"
    return alone(made) if isinstance(made, Search) else made


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
        step_size: overrides the step of every iterated attack, in units of the pixel range [0, 1].

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
        return [(member, make_attack(member)) for member in GROUPS[name]]
    if name not in PRESETS:
        raise UserError(f"no attack is called {item!r}.{did_you_mean(name, [*PRESETS, *GROUPS])}")
    return [(name, make_attack(name))]
