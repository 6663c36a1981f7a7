"""Figures of a run: pure functions of `ferd_eval.outcomes.Outcomes`, without torch."""

from ferd_eval.metrics.attack_gap import AttackGap, ClassGap
from ferd_eval.metrics.audit import Audit, AuditBound, audit
from ferd_eval.metrics.check import Check
from ferd_eval.metrics.class_drop import ClassDrop, class_drops
from ferd_eval.metrics.class_floor import class_floors
from ferd_eval.metrics.comparison import ClassDelta, Comparison, Split, compare
from ferd_eval.metrics.confusion import (
    ErrorPattern,
    Pair,
    SourceErrors,
    TargetErrors,
    confusion_matrix,
    error_pattern,
)
from ferd_eval.metrics.delta import Delta
from ferd_eval.metrics.extremes import (
    gap_interval,
    lowest_percent_interval,
    possibly_worst,
    worst_class_interval,
)
from ferd_eval.metrics.interval import (
    clopper_pearson_lower,
    clopper_pearson_upper,
    simultaneous,
    wilson,
)
from ferd_eval.metrics.method_comparison import compare_methods
from ferd_eval.metrics.scorecard import (
    AttackScores,
    ClassScore,
    Profile,
    Scorecard,
    Scores,
    TargetConfusion,
    WorstClass,
    scorecard,
)
from ferd_eval.metrics.spread import gap, gini, lowest_percent, normalised_sd, standard_deviation
from ferd_eval.metrics.standing import (
    Contestant,
    SeedMean,
    Standing,
    lowest_figure,
    seed_mean,
)
from ferd_eval.metrics.target_test import (
    ErrorShift,
    ShareChange,
    TargetEffect,
    TargetExcess,
    error_shift,
    target_effect,
)
from ferd_eval.metrics.targeted import Aimed, TargetedSuccess, targeted_success
from ferd_eval.metrics.trust import TrustPanel, trust_panel
from ferd_eval.metrics.verdict import Verdict
from ferd_eval.metrics.worst_case import WORST_CASE, worst_case

__all__ = [
    "WORST_CASE",
    "Aimed",
    "AttackGap",
    "AttackScores",
    "Audit",
    "AuditBound",
    "Check",
    "ClassDelta",
    "ClassDrop",
    "ClassGap",
    "ClassScore",
    "Comparison",
    "Contestant",
    "Delta",
    "ErrorPattern",
    "ErrorShift",
    "Pair",
    "Profile",
    "Scorecard",
    "Scores",
    "SeedMean",
    "ShareChange",
    "SourceErrors",
    "Split",
    "Standing",
    "TargetConfusion",
    "TargetEffect",
    "TargetErrors",
    "TargetExcess",
    "TargetedSuccess",
    "TrustPanel",
    "Verdict",
    "WorstClass",
    "audit",
    "class_drops",
    "class_floors",
    "clopper_pearson_lower",
    "clopper_pearson_upper",
    "compare",
    "compare_methods",
    "confusion_matrix",
    "error_pattern",
    "error_shift",
    "gap",
    "gap_interval",
    "gini",
    "lowest_figure",
    "lowest_percent",
    "lowest_percent_interval",
    "normalised_sd",
    "possibly_worst",
    "scorecard",
    "seed_mean",
    "simultaneous",
    "standard_deviation",
    "target_effect",
    "targeted_success",
    "trust_panel",
    "wilson",
    "worst_case",
    "worst_class_interval",
]
