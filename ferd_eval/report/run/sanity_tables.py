"""Can these figures be trusted? The checks, what an audit leaves open, and gaps by class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ferd_eval.errors import listed
from ferd_eval.metrics import AttackGap, Audit, AuditBound, Check, ClassGap
from ferd_eval.report.format import NOTHING, Cell, Table, percent, whole

#: What needs a reader's eye comes first.
_ORDER = ("warning", "ok", "not measured")


def in_order(checks: Sequence[Check]) -> tuple[Check, ...]:
    """Warnings first, what was not measured last, else as asked."""
    return tuple(sorted(checks, key=lambda check: _ORDER.index(check.status)))


def trust_table(checks: Sequence[Check]) -> Table:
    """One row for each check."""
    count = Counter(check.status for check in checks)
    warnings = f"{count['warning']} warning{'' if count['warning'] == 1 else 's'}"
    return Table(
        "Can these figures be trusted?",
        ("Check", "Result", "Found", "Classes"),
        tuple(
            (check.name, check.status, check.statement, _concerned(check))
            for check in in_order(checks)
        ),
        f"{warnings}, {count['ok']} without a finding, {count['not measured']} not measured. A "
        "check without a finding is no proof: it means that this sign of a misleading attack was "
        "not seen. Tests are one-sided at 1 %, over classes with Bonferroni's correction.",
    )


def _concerned(check: Check) -> str:
    """The classes that a warning is about."""
    if check.status != "warning":
        return NOTHING
    return listed(check.classes) or "all"


def gap_table(gap: AttackGap) -> Table:
    """One row for each class, the widest gap first, those without images last."""
    present = sorted(gap.per_class, key=lambda each: (each.gap is None, -(each.gap or 0)))
    at = f" at ε = {gap.eps_text}" if gap.eps_text else ""
    return Table(
        f"Gap by class: {gap.first} − {gap.second}",
        ("Class", "Images", gap.first, gap.second, "Gap", "95 % interval"),
        tuple(_row(each) for each in present),
        f"What {gap.second} takes from each class beyond {gap.first}{at}, in points, widest first. "
        f"Over all images the gap is {percent(gap.overall.gap)} points ({_interval(gap.overall)}). "
        "The interval is that of one class on its own, paired by image (Tango 1998).",
    )


def audit_table(attack: str, audit: Audit, names: Sequence[str]) -> Table:
    """One row over all images and one for each class that has survivors."""
    lines = [("all", audit.overall), *zip(names, audit.per_class, strict=True)]
    return Table(
        f"What {attack} leaves open",
        ("Class", "Survivors", "Audited", "Fell", "May hide", "Accuracy", "At least"),
        tuple(_audit_row(name, bound) for name, bound in lines if bound.survivors),
        "FAB and Square attacked only a random sample of what both APGDs left standing. With 95 % "
        "confidence no more of the others would have fallen than May hide says, so AutoAttack's "
        "own figure for these images lies between At least and Accuracy. Each row holds by itself.",
    )


def _audit_row(name: str, bound: AuditBound) -> tuple[Cell, ...]:
    return (
        name,
        whole(bound.survivors),
        whole(bound.sampled),
        whole(bound.broken),
        whole(bound.most_hidden),
        percent(bound.accuracy),
        percent(bound.lower),
    )


def _row(each: ClassGap) -> tuple[Cell, ...]:
    return (
        each.name,
        whole(each.n),
        percent(each.first),
        percent(each.second),
        percent(each.gap),
        _interval(each),
    )


def _interval(each: ClassGap) -> str:
    if each.interval95 is None:
        return NOTHING
    low, high = each.interval95
    return f"{percent(low)} to {percent(high)}"
