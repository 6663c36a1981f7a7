"""From outcomes to a `Scorecard`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferd_eval.errors import UserError, require_kind
from ferd_eval.metrics.confusion.matrix import confusion_matrix, error_pattern
from ferd_eval.metrics.confusion.target_bias import toward
from ferd_eval.metrics.confusion.targeted import TargetedSuccess, targeted_success
from ferd_eval.metrics.dispersion import shares
from ferd_eval.metrics.figures import AVERAGE, FIGURES, WORST_CLASS
from ferd_eval.metrics.intervals import Interval, possibly_worst, simultaneous, wilson
from ferd_eval.metrics.per_class import by_class
from ferd_eval.metrics.sanity.audit import Audit, audit
from ferd_eval.metrics.sanity.panel import trust_panel
from ferd_eval.metrics.scorecard import Scorecard
from ferd_eval.metrics.scores import (
    AttackScores,
    ClassScore,
    Profile,
    Scores,
    TargetConfusion,
    WorstClass,
)
from ferd_eval.results.attack_id import eps_of, is_within_threat
from ferd_eval.results.outcomes import Outcomes

#: How the outcomes come about that every figure is made from.
_OUTCOMES_ASKED = "Outcomes: what ferd_eval.score returns, or Outcomes.load(DIR) reads"


def scorecard(outcomes: Outcomes, groups: Mapping[str, tuple[str, ...]] | None = None) -> Scorecard:
    """Compute every figure of a run.

    Args:
        outcomes: the run. A negative ``clean_pred`` means that it is unknown (imported results).
        groups: grouping name → K group names, one for each class in label order.

    Raises:
        UserError: a label, prediction or target is no class; rows contradict themselves or occur
            twice; a grouping does not name one group for each class.
    """
    require_kind(outcomes, Outcomes, "what is to be scored", _OUTCOMES_ASKED)
    require_kind(groups or {}, Mapping, "groups", "{grouping: one group name for each class}")
    manifest, names = outcomes.manifest, outcomes.class_names
    _check(outcomes.table, len(names))
    folds = {
        grouping: _fold(grouping, of_class, names) for grouping, of_class in (groups or {}).items()
    }
    audits = manifest.get("audits") or {}
    attacks: dict[str, AttackScores] = {}
    grouped: dict[str, dict[str, Scores]] = {grouping: {} for grouping in folds}
    for attack in outcomes.attacks:
        tally, target = _count(outcomes.of(attack), names, attack)
        sampled = audits.get(attack)
        left_open = None if sampled is None else audit(outcomes.of(attack), sampled, len(names))
        figures = tally.figures(names)
        if left_open is not None:
            figures |= _with_what_is_open(figures, left_open)
        attacks[attack] = AttackScores(
            **figures,
            target=target,
            toward=toward(outcomes.of(attack), names),
            constants=manifest["attacks"][attack] or {},
            audit=left_open,
        )
        for grouping, (group_names, of_class_K) in folds.items():
            folded = tally.fold(of_class_K, len(group_names)).figures(group_names)
            if left_open is not None and left_open.leaves_open:
                folded |= _without_limits(folded)
            grouped[grouping][attack] = Scores(**folded)
    trust = trust_panel(outcomes)
    return Scorecard(
        attacks=attacks,
        groups=grouped,
        profile=_profiles(attacks),
        dataset=manifest["dataset"],
        checkpoint=manifest.get("checkpoint") or {},
        model=manifest.get("model") or {},
        seed=manifest.get("seed"),
        precision=manifest.get("precision") or {},
        versions={
            **({"ferd_eval": manifest["ferd_eval"]} if manifest.get("ferd_eval") else {}),
            **(manifest.get("packages") or {}),
        },
        flags=trust.warnings,
        trust=trust,
        strongest=_strongest(attacks, manifest),
    )


def _strongest(attacks: Mapping[str, AttackScores], manifest: Mapping[str, Any]) -> str | None:
    averages = {
        attack: scores.average
        for attack, scores in attacks.items()
        if scores.average is not None and is_within_threat(attack, scores.constants, manifest)
    }
    return min(averages, key=averages.__getitem__, default=None)


def scores_of_counts(
    n_K: NDArray[np.int64], correct_K: NDArray[np.int64], names: Sequence[str]
) -> Scores:
    """Figures from the counts of each class alone: no drops, and an empty confusion matrix."""
    empty_KK = np.zeros((len(n_K), len(n_K)), dtype=np.int64)
    return Scores(**_Tally(n_K, correct_K, None, empty_KK).figures(names))


@dataclass(frozen=True, eq=False)
class _Tally:
    """Counts of one attack: three by class (clean is None where unknown), and K × K."""

    n: NDArray[np.int64]
    correct: NDArray[np.int64]
    clean_correct: NDArray[np.int64] | None
    confusion: NDArray[np.int64]

    def fold(self, group_K: NDArray[np.int64], num_groups: int) -> _Tally:
        member_KG = np.eye(num_groups, dtype=np.int64)[group_K]
        clean = self.clean_correct
        return _Tally(
            self.n @ member_KG,
            self.correct @ member_KG,
            None if clean is None else clean @ member_KG,
            member_KG.T @ self.confusion @ member_KG,
        )

    def figures(self, names: Sequence[str]) -> dict[str, Any]:
        n_K, correct_K = self.n, self.correct
        accuracy_K = shares(correct_K, n_K)
        clean_K = self.clean_correct
        lost_K = None if clean_K is None else clean_K - correct_K
        drop_K = accuracy_K * np.nan if lost_K is None else shares(lost_K, n_K)
        seen = bool(n_K.any())
        return {
            "n": int(n_K.sum()),
            "figures": {key: each.value(correct_K, n_K) for key, each in FIGURES.items()},
            "intervals": {
                each.interval_key: each.interval95(correct_K, n_K)
                for each in FIGURES.values()
                if each.interval
            },
            "per_class": by_class(
                ClassScore,
                names,
                n=n_K,
                accuracy=accuracy_K,
                wilson95=wilson(correct_K, n_K),
                simultaneous95=simultaneous(correct_K, n_K),
                drop=drop_K,
            ),
            "worst_class": _worst(accuracy_K, names) if seen else None,
            "possibly_worst": tuple(possibly_worst(correct_K, n_K).tolist()) if seen else None,
            "confusion": self.confusion,
        }


def _with_what_is_open(figures: Mapping[str, Any], left_open: Audit) -> dict[str, Any]:
    """Floor and intervals that reach down to what an audit may have missed.

    Upper ends stay: missed images can only lower the figures. No class is below the lowest of
    the classes' limits (intersection–union), and the mean of the lowest is not either. What has no
    limit that allows for what was missed is not given.
    """
    least = min((each.low95 for each in left_open.per_class if each.low95 is not None), default=0.0)
    ends = {
        "average": left_open.overall.low95, "lowest": least, "floor": left_open.floor95
    }  # fmt: skip
    changed = lowered(figures, ends)
    if not left_open.leaves_open:
        return {"figures": changed["figures"]}
    return {
        **changed,
        "per_class": tuple(
            replace(each, wilson95=_down_to(each.wilson95, bound.low95), simultaneous95=None)
            for each, bound in zip(figures["per_class"], left_open.per_class, strict=True)
        ),
    }


def lowered(figures: Mapping[str, Any], ends: Mapping[str, float | None]) -> dict[str, Any]:
    """Fields of `Scores` that change where part of the attack saw only a sample of the images.

    `figures` are the fields as if all of it had seen all images; `ends` maps `Figure.open_end` to
    the limit that allows for what was missed.
    """
    limits = {k: ends[f.open_end] for k, f in FIGURES.items() if f.limit and f.open_end}
    return {
        "figures": {**figures["figures"], **limits},
        "possibly_worst": None,
        "intervals": {
            f.interval_key: _down_to(figures["intervals"][f.interval_key], ends[f.open_end])
            if f.open_end
            else None
            for f in FIGURES.values()
            if f.interval
        },
    }


def _down_to(interval: Interval | None, low: float | None) -> Interval | None:
    return interval and (interval[0] if low is None else min(interval[0], low), interval[1])


def _without_limits(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures of groups under an attack that leaves something open: no audit was drawn for them."""
    return {
        "figures": {k: None if FIGURES[k].limit else v for k, v in figures["figures"].items()},
        "intervals": dict.fromkeys(figures["intervals"]),
        "possibly_worst": None,
        "per_class": tuple(
            replace(each, wilson95=None, simultaneous95=None) for each in figures["per_class"]
        ),
    }


def _worst(accuracy_K: NDArray[np.float64], names: Sequence[str]) -> WorstClass:
    lowest = np.nanmin(accuracy_K)
    index, *tied = (int(i) for i in np.flatnonzero(accuracy_K == lowest))
    return WorstClass(index, names[index], float(lowest), tuple(tied))


def _count(
    rows: pd.DataFrame, names: Sequence[str], attack: str
) -> tuple[_Tally, TargetConfusion | TargetedSuccess]:
    """Count the rows of one attack by class, and say where its errors go."""
    K, aimed_N = len(names), rows["target"].notna()
    keys = ["index", "target"] if aimed_N.any() else ["index"]
    twice = int(rows.duplicated(keys).sum())
    if aimed_N.any() and (twice or not aimed_N.all()):
        raise UserError(
            f"attack {attack} mixes rows with and without a target, or aims twice at the same "
            "one. Give these rows attack names of their own."
        )
    if twice:
        raise UserError(
            f"attack {attack} has {twice} images more than once. Keep one row for each image and "
            "attack, or give the class aimed at."
        )
    labels_N, clean_N = rows["label"].to_numpy(), rows["clean_pred"].to_numpy()
    adversarial_N = rows["adv_pred"].to_numpy()
    clean_known = bool((clean_N >= 0).all())
    confusion_KK = confusion_matrix(labels_N, adversarial_N, K)
    # An image stands if it stands whatever class is aimed at.
    marked = rows.assign(stands=adversarial_N == labels_N, clean=clean_N == labels_N)
    images = marked.groupby("index").agg(
        label=("label", "first"), stands=("stands", "all"), clean=("clean", "first")
    )
    label_N = images["label"].to_numpy()

    def count(column: str) -> NDArray[np.int64]:
        return np.bincount(label_N[images[column].to_numpy()], minlength=K)

    tally = _Tally(
        n=np.bincount(label_N, minlength=K),
        correct=count("stands"),
        clean_correct=count("clean") if clean_known else None,
        confusion=confusion_KK,
    )
    if aimed_N.any():
        targets_N = rows["target"].to_numpy(dtype=np.int64)
        return tally, targeted_success(labels_N, targets_N, adversarial_N, names)
    pattern = error_pattern(confusion_KK, names)
    clean = error_pattern(confusion_matrix(labels_N, clean_N, K), names) if clean_known else None
    return tally, TargetConfusion(
        **{field.name: getattr(pattern, field.name) for field in fields(pattern)}, clean=clean
    )


def _check(table: pd.DataFrame, K: int) -> None:
    for column in ("label", "adv_pred", "clean_pred", "target"):
        values = table[column].dropna()
        low = -1 if column == "clean_pred" else 0
        strange = values[(values < low) | (values >= K)]
        if len(strange):
            raise UserError(
                f"outcomes hold {column} {int(strange.iloc[0])}, but there are {K} classes "
                f"(0 to {K - 1}). Score or import the run with the data set it was made on."
            )
    contradicting = int((table["correct"] != (table["adv_pred"] == table["label"])).sum())
    if contradicting:
        raise UserError(
            f"in {contradicting} rows of the outcomes `correct` contradicts `adv_pred` and "
            "`label`. Import the predictions again."
        )


def _fold(
    grouping: str, of_class: Sequence[str], names: Sequence[str]
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return group names in order of appearance and each class's group."""
    if len(of_class) != len(names):
        raise UserError(
            f"grouping {grouping} names {len(of_class)} groups for {len(names)} classes. "
            "Give one group name for each class, in label order."
        )
    group_names = tuple(dict.fromkeys(of_class))
    position = {name: i for i, name in enumerate(group_names)}
    return group_names, np.array([position[name] for name in of_class], dtype=np.int64)


def _profiles(attacks: Mapping[str, AttackScores]) -> dict[str, Profile]:
    """Collect ids like ``pgd@2/255`` by the part before the @, with the plain id beside them."""
    families: dict[str, dict[float, str]] = {}
    for attack in attacks:
        base, at, _ = attack.rpartition("@")
        eps = eps_of(attack, attacks[attack].constants)
        if at and eps is not None:
            families.setdefault(base, {}).setdefault(eps, attack)
    for base, points in families.items():
        eps = eps_of(base, attacks[base].constants) if base in attacks else None
        if eps is not None and not any(np.isclose(eps, other, rtol=1e-6) for other in points):
            points[eps] = base
    return {
        base: _profile(dict(sorted(points.items())), attacks)
        for base, points in families.items()
        if len(points) > 1
    }


def _profile(points: Mapping[float, str], attacks: Mapping[str, AttackScores]) -> Profile:
    scores = [attacks[attack] for attack in points.values()]
    return Profile(
        attacks=tuple(points.values()),
        eps=tuple(points),
        eps_text=tuple(
            str(attacks[attack].constants.get("eps_text") or f"{eps:.4g}")
            for eps, attack in points.items()
        ),
        average=tuple(score.figures[AVERAGE.key] for score in scores),
        worst_class=tuple(score.figures[WORST_CLASS.key] for score in scores),
        average95=tuple(score.intervals[AVERAGE.interval_key] for score in scores),
        worst_class95=tuple(score.intervals[WORST_CLASS.interval_key] for score in scores),
        per_class=tuple(tuple(each.accuracy for each in score.per_class) for score in scores),
    )
