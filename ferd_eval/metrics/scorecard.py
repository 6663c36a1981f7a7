"""Every figure of a run, and what may be made of them: JSON, a table, charts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ferd_eval._lazy import ShownInNotebooks
from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.metrics import charts
from ferd_eval.metrics.per_class import finite
from ferd_eval.metrics.sanity.panel import TrustPanel
from ferd_eval.metrics.scores import AttackScores, Profile, Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Columns of `Scorecard.to_frame` after the name of the class or group.
_COLUMNS = (
    "n", "accuracy", "low", "high", "low_of_all", "high_of_all", "drop", "could_be_worst",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Scorecard(ShownInNotebooks):
    """All figures of one run, and the run's facts."""

    attacks: Mapping[str, AttackScores]  #: attack id → figures, in the order they were run
    #: Grouping → attack id → the same figures over groups of classes. An image is correct if its
    #: class is right; naming another class of its group is an error.
    groups: Mapping[str, Mapping[str, Scores]]
    profile: Mapping[str, Profile]  #: attack → its figures over ε, where it ran with several
    dataset: Mapping[str, Any]
    checkpoint: Mapping[str, Any]
    model: Mapping[str, Any]
    seed: int | None
    precision: Mapping[str, Any]
    versions: Mapping[str, str]  #: ferd_eval and the packages it ran with
    flags: tuple[str, ...]  #: warnings: the sentences of `trust` that warn
    trust: TrustPanel  #: every question about the attacks with its answer
    #: The attack that leaves the lowest average within the run's ε, the first among equals; None
    #: where no attack was run.
    strongest: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: dictionaries, lists, numbers, text and None."""
        plain: dict[str, Any] = _plain(self)
        del plain["strongest"]  # the JSON form has what it follows from
        return plain

    def to_frame(self, grouping: str | None = None) -> pd.DataFrame:
        """One row for each attack and class, fractions in full precision; NaN is no value.

        Columns: attack, class, n (images), accuracy, low and high (two-sided 95 % interval of the
        class on its own), low_of_all and high_of_all (of all classes at once), drop (from clean, on
        the same images), could_be_worst (not excluded as the lowest, with 95 % confidence).

        Args:
            grouping: of classes: one row for each attack and group, in a column ``group``.

        Raises:
            UserError: the run has no such grouping.
        """
        of: Mapping[str, Scores] = self.attacks
        if grouping is not None:
            if grouping not in self.groups:
                known = (
                    did_you_mean(grouping, self.groups)
                    if self.groups
                    else (" It has none; give groups to score or scorecard.")
                )
                raise UserError(f"no grouping of this run is called {grouping!r}.{known}")
            of = self.groups[grouping]
        rows = [
            (
                attack,
                each.name,
                each.n,
                each.accuracy,
                *(each.wilson95 or (None, None)),
                *(each.simultaneous95 or (None, None)),
                each.drop,
                None
                if scores.possibly_worst is None or not each.n
                else each.index in scores.possibly_worst,
            )
            for attack, scores in of.items()
            for each in scores.per_class
        ]
        frame = pd.DataFrame(rows, columns=["attack", "group" if grouping else "class", *_COLUMNS])
        fractions = dict.fromkeys(_COLUMNS[1:-1], "float64")
        return frame.astype({**fractions, "could_be_worst": "boolean"})

    def plot(
        self, attack: str | None = None, *, kind: str = "classes", ax: Axes | None = None
    ) -> Axes:
        """Draw a chart; ``ax.figure.savefig("chart.pdf")`` keeps it.

        Args:
            attack: default: the strongest of the run.
            kind: ``classes`` (each class's accuracy with its 95 % interval, the worst in red),
                ``clean`` (each class without and under the attack), ``confusion`` (shares of each
                true class by prediction) or ``profile`` (the attack over ε).
            ax: where to draw; a new figure by default.

        Raises:
            UserError: matplotlib is missing, no such attack was run, or there is no such chart.
        """
        if kind not in charts.KINDS:
            raise UserError(f"no chart is called {kind!r}.{did_you_mean(kind, charts.KINDS)}")
        attack = attack or self.strongest or next(iter(self.attacks))
        if attack not in self.attacks:
            known = did_you_mean(attack, self.attacks)
            raise UserError(f"no attack of this run is called {attack!r}.{known}")
        chart = charts.KINDS[kind]
        profile = next((of for of in self.profile.values() if attack in of.attacks), None)
        subject = charts.Subject(attack, self.attacks[attack], self.dataset, profile)
        ax = ax if ax is not None else charts.new_axes(chart.inches(subject))
        chart.draw(ax, subject)
        return ax

    def __repr__(self) -> str:
        whose = self.checkpoint.get("name") or self.model.get("architecture") or "a network"
        shown = self.strongest or next(iter(self.attacks), None)
        said = f"{shown}: {self.attacks[shown].in_brief}" if shown else "nothing scored"
        where = self.dataset.get("name") or "imported images"
        return f"Scorecard({whose} on {where}; {said})"


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        found = {field.name: getattr(value, field.name) for field in fields(value)}
        if isinstance(value, Scores):  # figures stand beside the rest; the worst class has a name
            found = {"n": value.n, **value.figures, **value.intervals, **found}
            del found["figures"], found["intervals"]
        return {name: _plain(item) for name, item in found.items()}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            return [[finite(cell) for cell in row] for row in value.tolist()]
        return value.tolist()
    return value
