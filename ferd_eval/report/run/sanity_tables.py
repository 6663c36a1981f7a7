"""Can these figures be trusted? The checks, the part an audit leaves open, and gaps by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ferd_eval.errors import listed
from ferd_eval.metrics import AttackGap, Audit, Check
from ferd_eval.report.format import NOTHING, Table, percent, span, whole

#: A reader's eye goes to warnings first.
_ORDER = ("warning", "ok", "not measured")


def in_order(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Warnings first, checks not measured last, else as asked."""
    return tuple(sorted(checks, key=lambda check: _ORDER.index(check.status)))


def checks_summary(checks: Sequence[Check]) -> str:
    """``1 warning, 9 without a finding, 3 not measured``."""
    count = Counter(check.status for check in checks)
    warnings = f"{count['warning']} warning{'' if count['warning'] == 1 else 's'}"
    return f"{warnings}, {count['ok']} without a finding, {count['not measured']} not measured"


def trust_table(checks: Sequence[Check]) -> Table:
    """One row for each check; the last column names the classes a warning is about."""
    return Table.of(
        "Can these figures be trusted?",
        (
            {
                "Check": check.name,
                "Result": check.status,
                "Found": check.statement,
                "Classes": (listed(check.classes) or "all")
                if check.status == "warning"
                else NOTHING,
            }
            for check in in_order(checks)
        ),
        f"{checks_summary(checks)}. A check without a finding is no proof: it means that this sign "
        "of a misleading attack was not seen. Tests are one-sided at 1 %, over classes with "
        "Bonferroni's correction.",
    )


def gap_table(gap: AttackGap) -> Table:
    """One row for each class, the widest gap first, those without images last."""
    at = f" at ε = {gap.eps_text}" if gap.eps_text else ""
    overall = gap.overall
    return Table.of(
        f"Gap by class: {gap.first} − {gap.second}",
        (
            {
                "Class": each.name,
                "Images": whole(each.n),
                gap.first: percent(each.first),
                gap.second: percent(each.second),
                "Gap": percent(each.gap),
                "95 % interval": str(span(each.interval95)),
            }
            for each in sorted(gap.per_class, key=lambda each: (each.gap is None, -(each.gap or 0)))
        ),
        f"What {gap.second} takes from each class beyond {gap.first}{at}, in points, widest first. "
        f"Over all images the gap is {percent(overall.gap)} points ({span(overall.interval95)}). "
        "The interval is that of one class on its own, paired by image (Tango 1998).",
    )


def audit_table(attack: str, audit: Audit | None, names: Sequence[str]) -> Table | None:
    """One row over all images and one for each class that has survivors; None if all were seen."""
    if audit is None or not audit.leaves_open:
        return None
    bounds = [("all", audit.overall), *zip(names, audit.per_class, strict=True)]
    return Table.of(
        f"What {attack} leaves open",
        (
            {
                "Class": name,
                "Survivors": whole(bound.survivors),
                "Audited": whole(bound.sampled),
                "Fell": whole(bound.broken),
                "May hide": whole(bound.most_hidden),
                "Accuracy": percent(bound.accuracy),
                "At least": percent(bound.lower),
            }
            for name, bound in bounds
            if bound.survivors
        ),
        "FAB and Square attacked only a random sample of what both APGDs left standing. With 95 % "
        "confidence no more of the others would have fallen than May hide says, so AutoAttack's "
        "own figure for these images lies between At least and Accuracy. Each row holds by itself.",
    )
