"""Can the attacks be believed, and are they fair to every class?

Signs that figures say more of the attack than of the model, after Carlini et al., "On evaluating
adversarial robustness" (2019), §5, and Croce & Hein (ICML 2020). Attacks are compared at one ε at a
time. K classes, N images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ferd_eval.errors import listed
from ferd_eval.metrics.comparison.paired import Paired
from ferd_eval.metrics.sanity.attack_gap import AttackGap, attack_gap
from ferd_eval.metrics.sanity.check import (
    LEVEL,
    Check,
    Counts,
    Finding,
    classes,
    excess,
    excess_p,
    images,
    less_p,
    pick,
)
from ferd_eval.results.attack_id import eps_of, family_of, preset_of
from ferd_eval.results.outcomes import Outcomes

#: A gap between PGD and AutoAttack from which PGD alone is misleading, on average and in a class.
_WIDE_GAP, _WIDE_GAP_OF_CLASS = 0.05, 0.1

#: Share of images that Square may break after gradient attacks (as in AutoAttack's own check).
_SQUARE_SHARE = 0.002

#: Families that count as AutoAttack, the most thorough first.
_AUTOATTACK = ("aa", "aa-audited")


@dataclass(frozen=True)
class Ball:
    """The attacks that a run made at one ε."""

    outcomes: Outcomes  #: of the run
    eps_text: str | None  #: ε as printed, None where it is unknown
    suffix: str  #: what names and sentences add where a run has several ε
    ids: Mapping[str, str]  #: family → attack; of several presets the plain one, else the first
    _pairs: dict[tuple[str, str], Paired] = field(default_factory=dict, compare=False, repr=False)

    @property
    def pgd(self) -> str | None:
        """PGD, where it ran."""
        return self.ids.get("pgd")

    @property
    def autoattack(self) -> str | None:
        """The most thorough AutoAttack run."""
        return next((self.ids[family] for family in _AUTOATTACK if family in self.ids), None)

    def pair(self, first: str | None, second: str | None) -> Paired | None:
        """Two attacks, where both were made on some of the same images; counted once."""
        if first is None or second is None:
            return None
        if (first, second) not in self._pairs:
            self._pairs[first, second] = Paired.of(self.outcomes, first, second)
        pair = self._pairs[first, second]
        return pair if pair.n_K.any() else None


def attack_checks(balls: Sequence[Ball]) -> Iterator[Check]:
    """Compare the attacks of each ball, "not measured" where none has what it takes."""
    for name, (question, needed, answer) in _QUESTIONS.items():
        found = [
            finding.answers(name + ball.suffix, question)
            for ball in balls
            if (finding := answer(ball))
        ]
        missing = Finding(None, f"This takes {needed} at one ε.")
        yield from found or [missing.answers(name, question)]


def balls_of(outcomes: Outcomes) -> list[Ball]:
    """The untargeted attacks by ε, in the order of the run."""
    found: dict[str, dict[str, str]] = {}
    texts: dict[str, str | None] = {}
    aimed = set(outcomes.table.loc[outcomes.table["target"].notna(), "attack"])
    for attack, constants in outcomes.manifest["attacks"].items():
        constants = constants or {}
        if attack == "clean" or attack in aimed:
            continue
        eps, family = eps_of(attack, constants), family_of(attack, constants)
        key = "" if eps is None else f"{eps:.6g}"
        texts[key] = str(constants.get("eps_text") or key) or None
        ids = found.setdefault(key, {})
        if family not in ids or (preset_of(attack) == family != preset_of(ids[family])):
            ids[family] = attack
    several = len(found) > 1
    return [
        Ball(outcomes, texts[key], f" at ε = {texts[key]}" if several and texts[key] else "", ids)
        for key, ids in found.items()
    ]


def _masking(ball: Ball) -> Finding | None:
    """Whether one step breaks images that twenty leave."""
    return _upside_down(
        ball,
        {"FGSM": ball.ids.get("fgsm"), "PGD": ball.pgd},
        "gradients are probably masked, and robust accuracy is overstated.",
        "gradients are probably masked there, and the comparison of classes is not fair to them.",
    )


def _failing(ball: Ball) -> Finding | None:
    """Whether PGD breaks images that AutoAttack leaves."""
    return _upside_down(
        ball,
        {"PGD": ball.pgd, "AutoAttack": ball.autoattack},
        "AutoAttack got no hold on this network, and its figure is no worst case.",
        "AutoAttack got no hold there, and its figures for these classes are no worst case.",
    )


def _upside_down(
    ball: Ball, attacks: Mapping[str, str | None], means: str, means_there: str
) -> Finding | None:
    """McNemar: of the images that one of two breaks, at most half should be the weaker's."""
    pair, (weak, strong) = ball.pair(*attacks.values()), attacks
    if pair is None:
        return None
    weak_K, either_K = pair.second_only_K, pair.second_only_K + pair.first_only_K
    overall, inverted = excess(weak_K, either_K, 0.5)
    those = pick(ball.outcomes.class_names, inverted)
    weaker, either = int(weak_K.sum()), int(either_K.sum())
    found = (
        f"{weak} breaks {images(weaker)} that {strong} does not, {strong} "
        f"{images(either - weaker)} that {weak} does not{ball.suffix}"
    )
    if overall:
        found += f" (p = {float(excess_p(weaker, either, 0.5)):.1g}): {means}"
    elif those:
        found = f"{weak} breaks more images than {strong} in {classes(those)}{ball.suffix}: "
        found += means_there
    else:
        found += "."
    per_class = Counts.of(
        f"broken by {weak} alone, of those one of the two breaks", weak_K, either_K
    )
    return Finding(overall or len(those) > 0, found, those, per_class)


def _weakness(ball: Ball) -> Finding | None:
    """A gap that the sample shows to be wide, overall or in a class."""
    pair, names = ball.pair(ball.pgd, ball.autoattack), ball.outcomes.class_names
    if pair is None:
        return None
    gap_K, total = pair.gap(), pair.total()
    overall = float(total.gap_at_least(LEVEL)[0]) > _WIDE_GAP
    level = LEVEL / len(names)
    weak = np.flatnonzero(np.nan_to_num(pair.gap_at_least(level)) > _WIDE_GAP_OF_CLASS)
    largest = int(np.nanargmax(gap_K))
    found = (
        f"{_title(ball)} lies {100 * float(total.gap()[0]):.1f} points below PGD on average"
        f"{ball.suffix} and {100 * gap_K[largest]:.1f} in class {names[largest]}"
    )
    those = pick(names, weak)
    if overall:
        found += ": PGD alone is too weak here"
    elif those:
        found += (
            f", and more than {100 * _WIDE_GAP_OF_CLASS:.0f} in {classes(those)} beyond chance: "
            "PGD alone flatters them"
        )
    per_class = Counts.of("broken by AutoAttack alone", pair.first_only_K, pair.n_K)
    return Finding(overall or len(those) > 0, f"{found}.", those, per_class)


def _lowest(ball: Ball) -> Finding | None:
    """Whether another class is lowest, and whether more than chance turned the order round."""
    pair, names = ball.pair(ball.pgd, ball.autoattack), ball.outcomes.class_names
    if pair is None:
        return None
    first_K, second_K = pair.first_right, pair.second_right
    lowest_1, lowest_2 = (_minima(each, pair.n_K) for each in (first_K, second_K))
    shared = [k for k in lowest_1 if k in lowest_2]
    if shared:
        verb = "class is" if len(shared) == 1 else "classes are"
        lowest = listed(pick(names, shared))
        return Finding(False, f"The lowest {verb} {lowest} under both attacks{ball.suffix}.")
    before, after = lowest_1[0], lowest_2[0]
    found = (
        f"The lowest class is {names[before]} under PGD and {names[after]} under AutoAttack"
        f"{ball.suffix}"
    )
    # One ordered pair is picked out of all, and both orders must hold (intersection–union).
    present = np.count_nonzero(pair.n_K)
    level = LEVEL / (present * (present - 1))
    turned = _below(first_K, pair.n_K, before, after, level) and _below(
        second_K, pair.n_K, after, before, level
    )
    if not turned:
        return Finding(False, f"{found}, a difference that chance can explain.")
    return Finding(
        True,
        f"{found}, beyond chance: by PGD alone the wrong class would be called the weakest.",
        pick(names, (before, after)),
    )


def _title(ball: Ball) -> str:
    """AutoAttack, or the id of its substitute."""
    whole = ball.autoattack is not None and preset_of(ball.autoattack) == "aa"
    return "AutoAttack" if whole else str(ball.autoattack)


def _minima(right_K: NDArray[np.int64], n_K: NDArray[np.int64]) -> list[int]:
    accuracy_K = np.where(n_K > 0, right_K / np.maximum(n_K, 1), np.inf)
    return np.flatnonzero(accuracy_K == accuracy_K.min()).tolist()


def _below(
    right_K: NDArray[np.int64], n_K: NDArray[np.int64], low: int, high: int, level: float
) -> bool:
    """Whether class `low` is less accurate than class `high` beyond chance."""
    p = less_p(int(right_K[low]), int(n_K[low]), int(right_K[high]), int(n_K[high]))
    return p < level


def _square(ball: Ball) -> Finding | None:
    """Images that Square broke, of those that it was shown."""
    attack = ball.autoattack
    if attack is None:
        return None
    outcomes = ball.outcomes
    rows, names = outcomes.of(attack), outcomes.class_names
    stage_N = rows["stage"].str.partition(">")[0]
    at_first = rows["clean_pred"]  # negative where it is unknown
    fell_N = ~rows["correct"] & ((at_first == rows["label"]) | (at_first < 0))
    imported = outcomes.manifest.get("engine") == "imported"
    if rows.empty or ((fell_N.any() or imported) and stage_N[fell_N].isna().all()):
        return Finding(None, "The record does not say which search broke an image.")
    square_N = stage_N.eq("square").fillna(False).to_numpy(dtype=bool)
    shown_N = square_N | rows["correct"].to_numpy()
    if attack in (audits := outcomes.manifest.get("audits") or {}):
        shown_N &= rows["index"].isin(audits[attack]).to_numpy()
    broken_K = np.bincount(rows["label"][square_N], minlength=len(names))
    shown_K = np.bincount(rows["label"][shown_N], minlength=len(names))
    overall, many = excess(broken_K, shown_K, _SQUARE_SHARE)
    those, warn = pick(names, many), overall or len(many) > 0
    found = (
        f"Black-box Square broke {int(broken_K.sum())} of {images(int(shown_K.sum()))} that the "
        f"searches before it had left{ball.suffix}"
    )
    if those:
        found += f", more than a few in {classes(those)}"
    per_class = Counts.of("broken by Square, of those left to it", broken_K, shown_K)
    return Finding(warn, found + (": gradients may be masked." if warn else "."), those, per_class)


def gap_in(ball: Ball) -> AttackGap | None:
    """The gap PGD − AutoAttack; None where one of them did not run."""
    pgd, strong = ball.pgd, ball.autoattack
    pair = ball.pair(pgd, strong)
    if pair is None or pgd is None or strong is None:
        return None
    return attack_gap(pair, pgd, strong, ball.eps_text, ball.outcomes.class_names)


#: Name → question, the attacks it takes, and who answers.
_QUESTIONS: Mapping[str, tuple[str, str, Callable[[Ball], Finding | None]]] = {
    "FGSM against PGD": (
        "Does one step break images that twenty steps leave? Then gradients mislead.",
        "fgsm and pgd", _masking,
    ),
    "AutoAttack against PGD": (
        "Does the weaker attack break what the stronger one leaves?", "pgd and aa", _failing,
    ),
    "PGD against AutoAttack": (
        "Would PGD alone flatter the model, or some of its classes?", "pgd and aa", _weakness,
    ),
    "Lowest class under AutoAttack": (
        "Does the stronger attack point at another class?", "pgd and aa", _lowest,
    ),
    "Square after gradients": (
        "Does a search without gradients break what searches with gradients left?", "aa", _square,
    ),
}  # fmt: skip
