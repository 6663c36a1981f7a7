"""Figures of a run: pure functions of `ferd_eval.results.outcomes.Outcomes`, without torch."""

from ferd_eval.metrics.class_limits import class_drops, class_floors
from ferd_eval.metrics.comparison.checkpoints import ClassDelta, Comparison, compare
from ferd_eval.metrics.comparison.delta import Delta
from ferd_eval.metrics.comparison.methods import compare_methods
from ferd_eval.metrics.comparison.pairwise import PairwiseTests, SeedMean, seed_mean
from ferd_eval.metrics.comparison.verdict import Verdict
from ferd_eval.metrics.compute import scorecard
from ferd_eval.metrics.confusion.matrix import ErrorPattern
from ferd_eval.metrics.confusion.target_bias import ErrorShift, TargetEffect, TargetExcess
from ferd_eval.metrics.confusion.targeted import TargetedSuccess
from ferd_eval.metrics.sanity.attack_gap import AttackGap
from ferd_eval.metrics.sanity.audit import Audit
from ferd_eval.metrics.sanity.check import Check
from ferd_eval.metrics.sanity.panel import trust_panel
from ferd_eval.metrics.scorecard import Scorecard
from ferd_eval.metrics.scores import (
    AttackScores,
    ClassScore,
    Profile,
    Scores,
    TargetConfusion,
)
from ferd_eval.metrics.worst_case import worst_case

__all__ = [
    "AttackGap", "AttackScores", "Audit", "Check", "ClassDelta", "ClassScore", "Comparison",
    "Delta", "ErrorPattern", "ErrorShift", "PairwiseTests", "Profile", "Scorecard", "Scores",
    "SeedMean", "TargetConfusion", "TargetEffect", "TargetExcess", "TargetedSuccess", "Verdict",
    "class_drops", "class_floors", "compare", "compare_methods", "scorecard", "seed_mean",
    "trust_panel", "worst_case",
]  # fmt: skip
