"""Figures of a run: pure functions of `ferd_eval.results.outcomes.Outcomes`, without torch."""

from ferd_eval.metrics.class_limits import class_drops, class_floors
from ferd_eval.metrics.comparison.checkpoints import ClassDelta, Comparison, compare
from ferd_eval.metrics.comparison.delta import Delta
from ferd_eval.metrics.comparison.methods import compare_methods
from ferd_eval.metrics.comparison.pairwise import (
    PairwiseTests,
    SeedMean,
    seed_mean,
)
from ferd_eval.metrics.comparison.verdict import Verdict
from ferd_eval.metrics.compute import scorecard
from ferd_eval.metrics.confusion.matrix import (
    ErrorPattern,
    confusion_matrix,
    error_pattern,
)
from ferd_eval.metrics.confusion.target_bias import (
    ErrorShift,
    TargetEffect,
    TargetExcess,
    error_shift,
    target_effect,
)
from ferd_eval.metrics.confusion.targeted import TargetedSuccess, targeted_success
from ferd_eval.metrics.dispersion import (
    gap,
    gini,
    lowest_percent,
    normalised_sd,
    standard_deviation,
)
from ferd_eval.metrics.figures import FIGURES, lowest_figure
from ferd_eval.metrics.intervals import (
    clopper_pearson_lower,
    clopper_pearson_upper,
    gap_interval,
    lowest_percent_interval,
    possibly_worst,
    simultaneous,
    wilson,
    worst_class_interval,
)
from ferd_eval.metrics.sanity.attack_gap import AttackGap
from ferd_eval.metrics.sanity.audit import Audit
from ferd_eval.metrics.sanity.check import Check
from ferd_eval.metrics.sanity.panel import trust_panel
from ferd_eval.metrics.scorecard import (
    AttackScores,
    ClassScore,
    Profile,
    Scorecard,
    Scores,
    TargetConfusion,
)
from ferd_eval.metrics.worst_case import WORST_CASE, worst_case

__all__ = [
    "FIGURES", "WORST_CASE", "AttackGap", "AttackScores", "Audit", "Check", "ClassDelta",
    "ClassScore", "Comparison", "Delta", "ErrorPattern", "ErrorShift", "PairwiseTests",
    "Profile", "Scorecard", "Scores", "SeedMean", "TargetConfusion", "TargetEffect",
    "TargetExcess", "TargetedSuccess", "Verdict", "class_drops", "class_floors",
    "clopper_pearson_lower", "clopper_pearson_upper", "compare", "compare_methods",
    "confusion_matrix", "error_pattern", "error_shift", "gap", "gap_interval", "gini",
    "lowest_figure", "lowest_percent", "lowest_percent_interval", "normalised_sd",
    "possibly_worst", "scorecard", "seed_mean", "simultaneous", "standard_deviation",
    "target_effect", "targeted_success", "trust_panel", "wilson", "worst_case",
    "worst_class_interval",
]  # fmt: skip
