"""Which figure of a run is evidence for what frameworks ask about, and what it leaves open.

Sources: Regulation (EU) 2024/1689, Article 15; NIST AI 100-1 (January 2023), Table 3; ISO/IEC TS
4213:2022, clauses 5.3 and 6; ISO/IEC TR 24029-1:2021 and ISO/IEC 24029-2:2023, scope; Mitchell et
al. (FAT* 2019), sections 4.3 to 4.9. What they ask is put in our own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ferd_eval.metrics import AttackScores, Scorecard, TargetedSuccess
from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.format import percent, ratio, whole

_EU = "EU AI Act"
_NIST = "NIST AI RMF 1.0"
_TS4213 = "ISO/IEC TS 4213:2022"
_24029 = "ISO/IEC 24029"
_CARDS = "Model cards (Mitchell et al. 2019)"

_NO_ATTACK = "no attack was run, so this run is no evidence for it"


@dataclass(frozen=True)
class Crossing:
    """One item of a framework.

    Attributes:
        asks: in our words.
        evidence: what in this run supports an answer.
        leaves_open: what it does not answer.
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
        unknown: facts of how the run came about that its record does not tell.
    """
    clean = card.attacks.get("clean")
    shown = card.attacks[headline] if headline else None
    without = (
        f"average {percent(clean.average)} % without an attack"
        if clean
        else "accuracy without an attack not measured"
    )
    attacked = _attacked(headline, shown)
    spread = _spread(headline, shown)
    toward = _toward(card.attacks)
    checks = _checks(card)
    images = whole(next(iter(card.attacks.values())).n)
    recorded = "how the run came about (table “Identity”)"
    if unknown:
        recorded += f"; {counted(len(unknown), 'fact', 'facts')} not recorded"
    missing = f"the list “What was not measured” ({gaps} entries)"
    return (
        Crossing(
            _EU, "Art. 15(1)",
            "high-risk systems: an appropriate level of accuracy, robustness and cybersecurity, "
            "kept throughout the lifecycle",
            f"on {images} images: {without}; {attacked}",
            "which level is appropriate; the system around the network; its lifecycle",
        ),
        Crossing(
            _EU, "Art. 15(3)",
            "levels of accuracy and the metrics used are declared in the instructions of use",
            f"figures with their definitions and intervals that can be declared: {without}; "
            f"{attacked}",
            "whether these images are like those of the intended use",
        ),
        Crossing(
            _EU, "Art. 15(4)",
            "as resilient as possible to errors, faults and inconsistencies; feedback loops of "
            "systems that go on learning",
            "little: how evenly classes keep their accuracy when inputs are changed "
            f"({spread})",
            "natural faults and corruptions, redundancy, feedback loops",
        ),
        Crossing(
            _EU, "Art. 15(5)",
            "resilience against third parties who exploit vulnerabilities, among them adversarial "
            "examples (model evasion), data and model poisoning, attacks on confidentiality",
            f"on evasion by small changes of the input: {attacked}; {toward}",
            "evasion by other means, poisoning, confidentiality, organisational measures",
        ),
        Crossing(
            _NIST, "MEASURE 1.1",
            "risks that will not or cannot be measured are documented",
            missing, "risks of the use that no list of attacks can name",
        ),
        Crossing(
            _NIST, "MEASURE 2.1",
            "test sets, metrics and the tools used are documented",
            f"{recorded}; the constants of the attacks (table “Threat model”)",
            "why this test set suits the use",
        ),
        Crossing(
            _NIST, "MEASURE 2.3",
            "performance is measured and shown for conditions like those of deployment",
            f"{without}; {attacked}",
            "whether the conditions are like those of deployment",
        ),
        Crossing(
            _NIST, "MEASURE 2.5",
            "the system is shown to be valid and reliable; limits of generalising are documented",
            f"intervals of every figure; the checks of the attacks ({checks}); {missing}",
            "validity for the use; repeated trainings",
        ),
        Crossing(
            _NIST, "MEASURE 2.7",
            "security and resilience are evaluated and documented",
            f"{attacked}; {toward}", "other threats than small changes of the input",
        ),
        Crossing(
            _NIST, "MEASURE 2.11",
            "fairness and bias are evaluated and documented",
            f"differences between classes: {spread}; {toward}",
            "fairness to people: classes are not groups of people, and an uneven network is not by "
            "itself an unfair one",
        ),
        Crossing(
            _NIST, "MEASURE 2.13",
            "how effective the metrics and processes of measurement are is evaluated",
            f"the checks whether the attacks' figures can be trusted ({checks})",
            "whether a stronger attack exists",
        ),
        Crossing(
            _TS4213, "5.3 and 6",
            "controls of an assessment (test data, preprocessing, leakage, baselines); confusion "
            "matrix, accuracy and measures by class",
            "confusion matrices and accuracy by class with intervals, with and without attacks "
            f"(the report beside this); {recorded}",
            "leakage from training data; ROC curves, F scores and measures for several labels",
        ),
        Crossing(
            _24029, "TR 24029-1:2021",
            "an overview of statistical, formal and empirical ways to assess robustness",
            f"statistical measures under attacks: {attacked}",
            "formal methods; field trials",
        ),
        Crossing(
            _24029, "24029-2:2023",
            "how to use formal methods to prove robustness properties",
            "none: attacks find failures and prove nothing about their absence",
            "all of it",
        ),
        Crossing(
            _CARDS, "Factors, Quantitative analyses",
            "figures disaggregated by factor and by their combinations, with intervals",
            f"figures by class ({spread})",
            "factors other than the class; combinations",
        ),
        Crossing(
            _CARDS, "Metrics, Evaluation data",
            "which measures, how their variation is estimated, on which data",
            f"figures with 95 % intervals on {images} images; {recorded}",
            "motivation of the choice",
        ),
        Crossing(
            _CARDS, "Caveats and recommendations",
            "what else a reader must know",
            f"{missing} and “Limits”", "intended use, ethical considerations",
        ),
    )  # fmt: skip


def _attacked(headline: str | None, shown: AttackScores | None) -> str:
    if shown is None:
        return _NO_ATTACK
    interval = shown.average95
    ends = f" (95 % interval {percent(interval[0])} to {percent(interval[1])})" if interval else ""
    return f"average {percent(shown.average)} %{ends} under {headline}"


def _spread(headline: str | None, shown: AttackScores | None) -> str:
    if shown is None or shown.worst_class is None:
        return _NO_ATTACK
    return (
        f"under {headline} the lowest class of the sample has "
        f"{percent(shown.worst_class.accuracy)} %, every class at least {percent(shown.floor95)} % "
        f"with 95 % confidence, NSD {ratio(shown.nsd)}"
    )


def _toward(attacks: Mapping[str, AttackScores]) -> str:
    aimed = [a for a, scores in attacks.items() if isinstance(scores.target, TargetedSuccess)]
    if aimed:
        return f"success toward each class under {', '.join(aimed)}"
    return "no attack aimed at chosen classes"


def _checks(card: Scorecard) -> str:
    counts = {
        status: sum(check.status == status for check in card.trust.checks)
        for status in ("warning", "ok", "not measured")
    }
    plural = "" if counts["warning"] == 1 else "s"
    return (
        f"{counts['warning']} warning{plural}, {counts['ok']} without a finding, "
        f"{counts['not measured']} not measured"
    )
