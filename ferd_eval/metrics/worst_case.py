"""The fold over attacks: an image stands only if it stands under every attack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ferd_eval.errors import UserError
from ferd_eval.results.outcomes import Outcomes

#: Id of the folded attack in tables and manifests.
WORST_CASE = "worst-case"


def worst_case(outcomes: Outcomes) -> Outcomes:
    """Add the attack ``worst-case``: correct only if correct under each untargeted attack run.

    Attacks with a budget above the run's threat model (from an ε profile) are left out, and audited
    ones, which did not see every image; clean images count as the weakest attack. Each image keeps
    the row of the attack with the lowest margin among those that broke it, or among all where none
    did; ``stage`` names that attack.

    Raises:
        UserError: there is no untargeted attack, or the attacks did not see the same images.
    """
    budget = (outcomes.manifest.get("threat") or {}).get("eps")
    audits = outcomes.manifest.get("audits") or {}
    folded = [
        attack
        for attack in outcomes.attacks
        if attack != WORST_CASE
        and not outcomes.of(attack)["target"].notna().any()
        and attack not in audits
        and not _above(outcomes.manifest["attacks"][attack].get("eps"), budget)
    ]
    table = outcomes.table[outcomes.table["attack"].isin(folded)]
    if table.empty:
        raise UserError(
            "the worst case needs at least one untargeted attack, but the run holds "
            f"{', '.join(outcomes.attacks) or 'none'}. Score with --attacks clean,pgd first."
        )
    met = table.groupby("index")["attack"].nunique()
    if (met < len(folded)).any():
        raise UserError(
            f"{int((met < len(folded)).sum())} of {len(met)} images did not meet all of "
            f"{', '.join(folded)}. Finish the run, then fold it."
        )
    order = np.lexsort(
        (table["margin"].to_numpy(), table["correct"].to_numpy(), table["index"].to_numpy())
    )
    rows = table.iloc[order].drop_duplicates("index").copy()
    rows["stage"] = rows["attack"]
    rows["attack"] = pd.array([WORST_CASE] * len(rows), dtype="string")
    constants: dict[str, Any] = {"family": WORST_CASE, "attacks": folded}
    constants |= {
        key: value
        for key, value in (outcomes.manifest.get("threat") or {}).items()
        if key in ("eps", "eps_text")
    }
    kept = outcomes.table[outcomes.table["attack"] != WORST_CASE]
    return Outcomes(
        pd.concat([kept, rows], ignore_index=True),
        {**outcomes.manifest, "attacks": {**outcomes.manifest["attacks"], WORST_CASE: constants}},
    )


def _above(eps: float | None, budget: float | None) -> bool:
    return eps is not None and budget is not None and eps > budget * (1 + 1e-9)
