"""Tables by class, by group of classes, and over ε."""

from __future__ import annotations

from collections.abc import Mapping

from ferd_eval.metrics import AttackScores, Profile, Scores
from ferd_eval.report.format import NOTHING, Cell, Table, percent, span, whole
from ferd_eval.report.run.model import AttackView


def class_table(attacks: Mapping[str, AttackView], shown: str) -> Table:
    """One row for each class: the attack shown, with interval and drop, then the others."""
    others = [attack for attack in attacks if attack != shown]
    of = attacks[shown]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            each.name,
            whole(each.n),
            percent(each.accuracy),
            span(each.wilson95),
            span(each.simultaneous95),
            {True: "yes", False: "no", None: NOTHING}[of.is_suspect(each)],
            percent(each.drop),
            *(percent(attacks[other].scores.per_class[each.index].accuracy) for other in others),
        )
        for each in of.lowest_first
    )
    return Table(
        "Classes",
        (
            "Class", "Images", shown, "95 % interval", "All at once", "Could be worst", "Drop",
            *others,
        ),
        rows,
        f"Accuracy in per cent, lowest under {shown} first. The 95 % interval is that of one class "
        "on its own (Wilson); those under All at once hold for all classes together. Could be "
        "worst: no other class is shown to be lower (95 % confidence over all comparisons). The "
        f"drop is in points from clean. All four are under {shown}.",
    )  # fmt: skip


def group_table(
    grouping: str, of: Mapping[str, Scores], attacks: Mapping[str, AttackScores]
) -> Table:
    """One row for each group, one column for each attack."""
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (same[0].name, whole(same[0].n), *(percent(each.accuracy) for each in same))
        for same in zip(*(scores.per_class for scores in of.values()), strict=True)
    )
    return Table(
        f"Groups: {grouping}",
        ("Group", "Images", *attacks),
        rows,
        "Accuracy in per cent; an image counts as right only if its class is right.",
    )


def profile_table(attack: str, profile: Profile) -> Table:
    """One row for each ε."""
    return Table(
        f"{attack} over ε",
        ("ε", "Average", "95 % interval", "Worst class", "95 % interval"),
        tuple(
            (text, percent(average), span(average95), percent(worst), span(worst95))
            for text, average, average95, worst, worst95 in zip(
                profile.eps_text,
                profile.average,
                profile.average95,
                profile.worst_class,
                profile.worst_class95,
                strict=True,
            )
        ),
        "Accuracy in per cent. The interval beside the worst class is that of the class that "
        "truly is lowest at this ε, whichever it is.",
    )
