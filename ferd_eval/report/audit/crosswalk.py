"""Which figure of a run is evidence for what frameworks ask about, and what it leaves open.

Sources: Regulation (EU) 2024/1689, Article 15; NIST AI 100-1 (January 2023), Table 3; ISO/IEC TS
4213:2022, clauses 5.3 and 6; ISO/IEC TR 24029-1:2021 and ISO/IEC 24029-2:2023, scope; Mitchell et
al. (FAT* 2019), sections 4.3 to 4.9. Their questions are put in our own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ferd_eval.metrics import AttackScores, Scorecard, TargetedSuccess
from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.format import percent, ratio, span, whole
from ferd_eval.report.run.sanity_tables import checks_summary

_NO_ATTACK = "no attack was run, so this run is no evidence for it"

#: Framework → item → its question, the evidence in this run, and what that leaves open.
#: `crosswalk` fills in the braces.
_ITEMS: Mapping[str, Mapping[str, tuple[str, str, str]]] = {
    "EU AI Act": {
        "Art. 15(1)": (
            "high-risk systems: an appropriate level of accuracy, robustness and cybersecurity, "
            "kept throughout the lifecycle",
            "on {images} images: {without}; {attacked}",
            "which level is appropriate; the system around the network; its lifecycle",
        ),
        "Art. 15(3)": (
            "levels of accuracy and the metrics used are declared in the instructions of use",
            "figures with their definitions and intervals that can be declared: {without}; "
            "{attacked}",
            "whether these images are like those of the intended use",
        ),
        "Art. 15(4)": (
            "as resilient as possible to errors, faults and inconsistencies; feedback loops of "
            "systems that go on learning",
            "little: how evenly classes keep their accuracy when inputs are changed ({spread})",
            "natural faults and corruptions, redundancy, feedback loops",
        ),
        "Art. 15(5)": (
            "resilience against third parties who exploit vulnerabilities, among them adversarial "
            "examples (model evasion), data and model poisoning, attacks on confidentiality",
            "on evasion by small changes of the input: {attacked}; {toward}",
            "evasion by other means, poisoning, confidentiality, organisational measures",
        ),
    },
    "NIST AI RMF 1.0": {
        "MEASURE 1.1": (
            "risks that will not or cannot be measured are documented",
            "{missing}",
            "risks of the use that no list of attacks can name",
        ),
        "MEASURE 2.1": (
            "test sets, metrics and the tools used are documented",
            "{recorded}; the constants of the attacks (table “Threat model”)",
            "why this test set suits the use",
        ),
        "MEASURE 2.3": (
            "performance is measured and shown for conditions like those of deployment",
            "{without}; {attacked}",
            "whether the conditions are like those of deployment",
        ),
        "MEASURE 2.5": (
            "the system is shown to be valid and reliable; limits of generalising are documented",
            "intervals of every figure; the checks of the attacks ({checks}); {missing}",
            "validity for the use; repeated trainings",
        ),
        "MEASURE 2.7": (
            "security and resilience are evaluated and documented",
            "{attacked}; {toward}",
            "other threats than small changes of the input",
        ),
        "MEASURE 2.11": (
            "fairness and bias are evaluated and documented",
            "differences between classes: {spread}; {toward}",
            "fairness to people: classes are not groups of people, and an uneven network is not by "
            "itself an unfair one",
        ),
        "MEASURE 2.13": (
            "how effective the metrics and processes of measurement are is evaluated",
            "the checks whether the attacks' figures can be trusted ({checks})",
            "whether a stronger attack exists",
        ),
    },
    "ISO/IEC TS 4213:2022": {
        "5.3 and 6": (
            "controls of an assessment (test data, preprocessing, leakage, baselines); confusion "
            "matrix, accuracy and measures by class",
            "confusion matrices and accuracy by class with intervals, with and without attacks "
            "(the report beside this); {recorded}",
            "leakage from training data; ROC curves, F scores and measures for several labels",
        ),
    },
    "ISO/IEC 24029": {
        "TR 24029-1:2021": (
            "an overview of statistical, formal and empirical ways to assess robustness",
            "statistical measures under attacks: {attacked}",
            "formal methods; field trials",
        ),
        "24029-2:2023": (
            "how to use formal methods to prove robustness properties",
            "none: attacks find failures and prove nothing about their absence",
            "all of it",
        ),
    },
    "Model cards (Mitchell et al. 2019)": {
        "Factors, Quantitative analyses": (
            "figures disaggregated by factor and by their combinations, with intervals",
            "figures by class ({spread})",
            "factors other than the class; combinations",
        ),
        "Metrics, Evaluation data": (
            "which measures, how their variation is estimated, on which data",
            "figures with 95 % intervals on {images} images; {recorded}",
            "motivation of the choice",
        ),
        "Caveats and recommendations": (
            "what else a reader must know",
            "{missing} and “Limits”",
            "intended use, ethical considerations",
        ),
    },
}


@dataclass(frozen=True)
class Crossing:
    """One item of a framework.

    Attributes:
        asks: its question, in our words.
        evidence: supports an answer, from this run.
        leaves_open: remains unanswered.
    """

    framework: str
    item: str
    asks: str
    evidence: str
    leaves_open: str


def crosswalk(
    card: Scorecard, headline: str | None, gaps: int, unknown: Sequence[str]
) -> tuple[Crossing, ...]:
    """Relate a run's figures to frameworks.

    Args:
        headline: the strongest attack within the threat model; None where none was run.
        gaps: length of the list of what was not measured.
        unknown: facts about the run that its record does not hold.
    """
    clean = card.attacks.get("clean")
    aimed = [a for a, scores in card.attacks.items() if isinstance(scores.target, TargetedSuccess)]
    facts = f"; {counted(len(unknown), 'fact', 'facts')} not recorded" if unknown else ""
    filled = {
        "images": whole(next(iter(card.attacks.values())).n),
        "without": f"average {percent(clean.average)} % without an attack"
        if clean
        else "accuracy without an attack not measured",
        **_evidence(headline, card.attacks[headline] if headline else None),
        "toward": f"success toward each class under {', '.join(aimed)}"
        if aimed
        else "no attack aimed at chosen classes",
        "checks": checks_summary(card.trust.checks),
        "recorded": f"how the run came about (table “Identity”){facts}",
        "missing": f"the list “What was not measured” ({gaps} entries)",
    }
    return tuple(
        Crossing(framework, item, asks, evidence.format_map(filled), leaves_open)
        for framework, items in _ITEMS.items()
        for item, (asks, evidence, leaves_open) in items.items()
    )


def _evidence(headline: str | None, shown: AttackScores | None) -> dict[str, str]:
    """Average and spread under the headline attack."""
    attacked = spread = _NO_ATTACK
    if shown is not None:
        ends = f" (95 % interval {span(shown.average95)})" if shown.average95 else ""
        attacked = f"average {percent(shown.average)} %{ends} under {headline}"
    if shown is not None and shown.worst_class is not None:
        spread = (
            f"under {headline} the lowest class of the sample has "
            f"{percent(shown.worst_class.accuracy)} %, every class at least "
            f"{percent(shown.floor95)} % with 95 % confidence, NSD {ratio(shown.nsd)}"
        )
    return {"attacked": attacked, "spread": spread}
