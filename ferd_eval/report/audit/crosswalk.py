"""Figures of a run as evidence for the questions of risk frameworks, and the questions left open.

The frameworks' questions, with their sources, are in ``crosswalk.toml``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from importlib import resources

from ferd_eval.metrics import Scorecard, TargetedSuccess
from ferd_eval.metrics.sanity.check import counted
from ferd_eval.report.format import percent, ratio, span, whole
from ferd_eval.report.run.sanity_tables import checks_summary

_NO_ATTACK = "no attack was run, so this run is no evidence for it"


def crosswalk(
    card: Scorecard, headline: str | None, gaps: int, unknown: Sequence[str]
) -> list[dict[str, str]]:
    """Relate a run's figures to frameworks.

    Args:
        headline: the strongest attack within the threat model; None where none was run.
        gaps: length of the list of what was not measured.
        unknown: facts about the run that its record does not hold.

    Returns:
        A row for each item: framework, item, asks, evidence (from this run) and leaves_open.
    """
    clean = card.attacks.get("clean")
    attacked = spread = _NO_ATTACK
    if headline:
        shown = card.attacks[headline]
        ends = f" (95 % interval {span(shown.average95)})" if shown.average95 else ""
        attacked = f"average {percent(shown.average)} %{ends} under {headline}"
        if shown.worst_class is not None:
            spread = (
                f"under {headline} the lowest class of the sample has "
                f"{percent(shown.worst_class.accuracy)} %, every class at least "
                f"{percent(shown.floor95)} % with 95 % confidence, NSD {ratio(shown.nsd)}"
            )
    aimed = [a for a, scores in card.attacks.items() if isinstance(scores.target, TargetedSuccess)]
    facts = f"; {counted(len(unknown), 'fact', 'facts')} not recorded" if unknown else ""
    filled = {
        "images": whole(next(iter(card.attacks.values())).n),
        "without": f"average {percent(clean.average)} % without an attack"
        if clean
        else "accuracy without an attack not measured",
        "attacked": attacked,
        "spread": spread,
        "toward": f"success toward each class under {', '.join(aimed)}"
        if aimed
        else "no attack aimed at chosen classes",
        "checks": checks_summary(card.trust.checks),
        "recorded": f"how the run came about (table “Identity”){facts}",
        "missing": f"the list “What was not measured” ({gaps} entries)",
    }
    table = (resources.files(__package__) / "crosswalk.toml").read_text(encoding="utf-8")
    return [
        {"framework": name, "item": item, **{key: of[key].format_map(filled) for key in of}}
        for name, items in tomllib.loads(table).items()
        for item, of in items.items()
    ]
