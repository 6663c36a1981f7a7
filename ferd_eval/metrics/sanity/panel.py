"""Is the attack itself to be believed, and is it fair to every class?

Signs that figures say more of the attack than of the model, after Carlini et al., "On evaluating
adversarial robustness" (2019), §5, and Croce & Hein (ICML 2020). Attacks are compared at one ε at a
time. K classes, N images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ferd_eval.errors import listed
from ferd_eval.metrics.comparison.paired import Paired
from ferd_eval.metrics.sanity.attack_gap import AttackGap, attack_gap
from ferd_eval.metrics.sanity.check import (
    LEVEL,
    Check,
    Counts,
    classes,
    excess,
    excess_p,
    images,
    less_p,
    pick,
)
from ferd_eval.metrics.sanity.clean import clean_checks
from ferd_eval.metrics.sanity.network_checks import network_checks
from ferd_eval.results.attack_id import eps_of, family_of, preset_of
from ferd_eval.results.outcomes import Outcomes

#: A gap between PGD and AutoAttack from which PGD alone is misleading, on average and in a class.
_WIDE_GAP, _WIDE_GAP_OF_CLASS = 0.05, 0.1

#: Share of images that Square may break after gradient attacks (as in AutoAttack's own check).
_SQUARE_SHARE = 0.002

#: Families that count as AutoAttack, the most thorough first.
_AUTOATTACK = ("aa", "aa-audited")

_MASKED = "FGSM against PGD"
_FAILED = "AutoAttack against PGD"
_WEAK = "PGD against AutoAttack"
_LOWEST = "Lowest class under AutoAttack"
_SQUARE = "Square after gradients"

_QUESTIONS = {
    _MASKED: "Does one step break images that twenty steps leave? Then gradients mislead.",
    _FAILED: "Does the weaker attack break what the stronger one leaves?",
    _WEAK: "Would PGD alone flatter the model, or some of its classes?",
    _LOWEST: "Does the stronger attack point at another class?",
    _SQUARE: "Does a search without gradients break what searches with gradients left?",
}


@dataclass(frozen=True)
class TrustPanel:
    """Every question about the attacks of a run, with its answer, and the gap PGD − AutoAttack."""

    checks: tuple[Check, ...]
    gaps: tuple[AttackGap, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentences of the checks that warn."""
        return tuple(check.statement for check in self.checks if check.status == "warning")


@dataclass(frozen=True)
class _Ball:
    """The attacks that a run made at one ε.

    Attributes:
        eps_text: ε as printed, None where it is unknown.
        suffix: what names and sentences add where a run has several ε.
        ids: family → attack; of several presets the plain one, else the first.
    """

    eps_text: str | None
    suffix: str
    ids: Mapping[str, str]

    @property
    def pgd(self) -> str | None:
        """PGD, where it ran."""
        return self.ids.get("pgd")

    @property
    def autoattack(self) -> str | None:
        """The most thorough AutoAttack run."""
        return next((self.ids[family] for family in _AUTOATTACK if family in self.ids), None)


def trust_flags(outcomes: Outcomes) -> tuple[str, ...]:
    """Sentences on what is suspicious in a run; empty when nothing is."""
    return trust_panel(outcomes).warnings


def trust_panel(outcomes: Outcomes) -> TrustPanel:
    """Answer every question that the run's attacks and its look at the network can answer."""
    balls = _balls(outcomes)
    compared = [check for name in _COMPARISONS for check in _at_each_eps(name, outcomes, balls)]
    network = network_checks(outcomes.manifest.get("diagnosis"), outcomes.class_names)
    gaps = [gap for ball in balls if (gap := _gap(outcomes, ball))]
    return TrustPanel((*clean_checks(outcomes), *compared, *network), tuple(gaps))


def _balls(outcomes: Outcomes) -> list[_Ball]:
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
        _Ball(texts[key], f" at ε = {texts[key]}" if several and texts[key] else "", ids)
        for key, ids in found.items()
    ]


def _at_each_eps(name: str, outcomes: Outcomes, balls: Sequence[_Ball]) -> list[Check]:
    answer, needed = _COMPARISONS[name]
    found = [check for ball in balls if (check := answer(outcomes, ball))]
    nothing = Check(name, _QUESTIONS[name], "not measured", f"This takes {needed} at one ε.")
    return found or [nothing]


def _pair(outcomes: Outcomes, first: str | None, second: str | None) -> Paired | None:
    """Two attacks, where both were made on some of the same images."""
    if first is None or second is None:
        return None
    pair = Paired.of(outcomes, first, second)
    return pair if pair.n_K.any() else None


def _masking(outcomes: Outcomes, ball: _Ball) -> Check | None:
    """Whether one step breaks what twenty leave."""
    return _upside_down(
        outcomes,
        ball,
        _MASKED,
        (ball.ids.get("fgsm"), ball.pgd),
        ("FGSM", "PGD"),
        "gradients are probably masked, and robust accuracy is overstated.",
        "gradients are probably masked there, and the comparison of classes is not fair to them.",
    )


def _failing(outcomes: Outcomes, ball: _Ball) -> Check | None:
    """Whether PGD breaks what AutoAttack leaves."""
    return _upside_down(
        outcomes,
        ball,
        _FAILED,
        (ball.pgd, ball.autoattack),
        ("PGD", "AutoAttack"),
        "AutoAttack got no hold on this network, and its figure is no worst case.",
        "AutoAttack got no hold there, and its figures for these classes are no worst case.",
    )


def _upside_down(
    outcomes: Outcomes,
    ball: _Ball,
    name: str,
    attacks: tuple[str | None, str | None],
    called: tuple[str, str],
    means: str,
    means_there: str,
) -> Check | None:
    """McNemar: of the images that one of two breaks, at most half should be the weaker's."""
    pair = _pair(outcomes, *attacks)
    if pair is None:
        return None
    weak_K, strong_K = pair.second_only_K, pair.first_only_K
    overall, inverted = excess(weak_K, weak_K + strong_K, 0.5)
    those = pick(outcomes.class_names, inverted)
    weaker, stronger = int(weak_K.sum()), int(strong_K.sum())
    found = (
        f"{called[0]} breaks {images(weaker)} that {called[1]} does not, {called[1]} "
        f"{images(stronger)} that {called[0]} does not"
    )
    if overall:
        p = float(excess_p(weaker, weaker + stronger, 0.5))
        statement = f"{found}{ball.suffix} (p = {p:.1g}): {means}"
    elif len(inverted):
        statement = (
            f"{called[0]} breaks more images than {called[1]} in {classes(those)}{ball.suffix}: "
            f"{means_there}"
        )
    else:
        statement = f"{found}{ball.suffix}."
    return Check(
        name + ball.suffix,
        _QUESTIONS[name],
        "warning" if overall or len(inverted) else "ok",
        statement,
        those,
        Counts.of(
            f"broken by {called[0]} alone, of those one of the two breaks",
            weak_K,
            weak_K + strong_K,
        ),
    )


def _weakness(outcomes: Outcomes, ball: _Ball) -> Check | None:
    """A gap that the sample shows to be wide, overall or in a class."""
    pair, names = _pair(outcomes, ball.pgd, ball.autoattack), outcomes.class_names
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
        statement = f"{found}: PGD alone is too weak here."
    elif len(weak):
        statement = (
            f"{found}, and more than {100 * _WIDE_GAP_OF_CLASS:.0f} in {classes(those)} beyond "
            "chance: PGD alone flatters them."
        )
    else:
        statement = f"{found}."
    return Check(
        _WEAK + ball.suffix,
        _QUESTIONS[_WEAK],
        "warning" if overall or len(weak) else "ok",
        statement,
        those,
        Counts.of("broken by AutoAttack alone", pair.first_only_K, pair.n_K),
    )


def _lowest(outcomes: Outcomes, ball: _Ball) -> Check | None:
    """Whether another class is lowest, and whether more than chance turned the order round."""
    pair, names = _pair(outcomes, ball.pgd, ball.autoattack), outcomes.class_names
    if pair is None:
        return None
    first_K, second_K = pair.first_right, pair.second_right
    lowest_1, lowest_2 = (_minima(each, pair.n_K) for each in (first_K, second_K))
    shared = [k for k in lowest_1 if k in lowest_2]
    if shared:
        verb = "class is" if len(shared) == 1 else "classes are"
        statement = (
            f"The lowest {verb} {listed(pick(names, shared))} under both attacks{ball.suffix}."
        )
        return Check(_LOWEST + ball.suffix, _QUESTIONS[_LOWEST], "ok", statement)
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
        statement = f"{found}, a difference that chance can explain."
        return Check(_LOWEST + ball.suffix, _QUESTIONS[_LOWEST], "ok", statement)
    return Check(
        _LOWEST + ball.suffix,
        _QUESTIONS[_LOWEST],
        "warning",
        f"{found}, beyond chance: by PGD alone the wrong class would be called the weakest.",
        pick(names, (before, after)),
    )


def _title(ball: _Ball) -> str:
    """AutoAttack, or by its id what stands in for it."""
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


def _square(outcomes: Outcomes, ball: _Ball) -> Check | None:
    """Images that Square broke, of those that it was shown."""
    attack = ball.autoattack
    if attack is None:
        return None
    rows, names = outcomes.of(attack), outcomes.class_names
    stage_N = rows["stage"].str.partition(">")[0]
    at_first = rows["clean_pred"]  # negative where it is unknown
    fell_N = ~rows["correct"] & ((at_first == rows["label"]) | (at_first < 0))
    imported = outcomes.manifest.get("engine") == "imported"
    if rows.empty or ((fell_N.any() or imported) and stage_N[fell_N].isna().all()):
        unsaid = "The record does not say which search broke an image."
        return Check(_SQUARE + ball.suffix, _QUESTIONS[_SQUARE], "not measured", unsaid)
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
    return Check(
        _SQUARE + ball.suffix,
        _QUESTIONS[_SQUARE],
        "warning" if warn else "ok",
        f"{found}: gradients may be masked." if warn else f"{found}.",
        those,
        Counts.of("broken by Square, of those left to it", broken_K, shown_K),
    )


def _gap(outcomes: Outcomes, ball: _Ball) -> AttackGap | None:
    pgd, strong = ball.pgd, ball.autoattack
    pair = _pair(outcomes, pgd, strong)
    if pair is None or pgd is None or strong is None:
        return None
    return attack_gap(pair, pgd, strong, ball.eps_text, outcomes.class_names)


#: Name → who answers, and what it takes.
_COMPARISONS: Mapping[str, tuple[Callable[[Outcomes, _Ball], Check | None], str]] = {
    _MASKED: (_masking, "fgsm and pgd"),
    _FAILED: (_failing, "pgd and aa"),
    _WEAK: (_weakness, "pgd and aa"),
    _LOWEST: (_lowest, "pgd and aa"),
    _SQUARE: (_square, "aa"),
}
