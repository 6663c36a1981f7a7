"""What the images that an audit did not look at may hide.

`aa-audited` shows FAB and Square only a random sample of the images that both APGDs left standing.
Each class gives at least the share m/S of its survivors. Of the S survivors an unknown number D
would fall; f of them were in the sample and fell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from scipy.special import bdtr

from ferd_eval.metrics.intervals import clopper_pearson_lower, hypergeometric


@dataclass(frozen=True)
class AuditBound:
    """An audited accuracy as an interval: not below `lower` with 95 % confidence."""

    n: int  #: images
    survivors: int  #: images that the stages before the audit left standing
    sampled: int  #: how many of them the audit attacked
    broken: int  #: how many of those fell; they count as not robust
    most_hidden: int  #: with 95 % confidence, at most so many of the others would have fallen
    accuracy: float | None  #: as measured; what is hidden counts as robust
    lower: float | None  #: accuracy if all of `most_hidden` fell
    #: With 95 % confidence the accuracy over all images like these, had all been attacked: what is
    #: hidden and the sample of images each at 97.5 %.
    floor95: float | None
    low95: float | None  #: lower end of a two-sided 95 % interval for it: each at 98.75 %


@dataclass(frozen=True)
class Audit:
    """The bound over all images, and for each class by itself (each at 95 %, not jointly)."""

    overall: AuditBound
    per_class: tuple[AuditBound, ...]

    @property
    def leaves_open(self) -> bool:
        """Whether any survivor was not attacked by the audit."""
        return self.overall.sampled < self.overall.survivors

    @property
    def floor95(self) -> float | None:
        """With 95 % confidence every class is at least this accurate, had all been attacked.

        The lowest limit of a class, each at 95 % (intersection–union, Berger 1982).
        """
        return min((c.floor95 for c in self.per_class if c.floor95 is not None), default=None)


def audit(rows: pd.DataFrame, audited: Sequence[int], num_classes: int) -> Audit:
    """The bounds of one audited attack.

    `rows` are its outcomes, one row an image; `audited` are the data-set places of the images in
    the sample.
    """
    in_sample_N = rows["index"].isin(np.asarray(audited, dtype=np.int64)).to_numpy()
    correct_N = rows["correct"].to_numpy()
    counts = pd.DataFrame(
        {
            "n": 1,
            "survivors": correct_N | in_sample_N,
            "sampled": in_sample_N,
            "broken": in_sample_N & ~correct_N,
        }
    ).astype("int64")
    by_class = counts.groupby(rows["label"].to_numpy()).sum().reindex(range(num_classes))
    by_class = by_class.fillna(0).astype("int64")
    per_class = tuple(
        _bound(
            n, survivors, sampled, broken, partial(most_hidden_simple, survivors, sampled, broken)
        )
        for n, survivors, sampled, broken in by_class.to_numpy().tolist()
    )
    n, survivors, sampled, broken = map(int, counts.sum())
    seen = by_class[by_class["survivors"] > 0]
    share = float((seen["sampled"] / seen["survivors"]).min()) if len(seen) else 1.0
    hidden = partial(most_hidden_stratified, survivors, sampled, broken, share)
    return Audit(_bound(n, survivors, sampled, broken, hidden), per_class)


def most_hidden_simple(survivors: int, sampled: int, broken: int, level: float = 0.05) -> int:
    """Upper bound on D − f for a simple random sample: the one-sided hypergeometric bound.

    The largest D under which f or fewer in the sample have a probability above `level`.
    """
    fallen_D = np.arange(broken, survivors - (sampled - broken) + 1)
    hits_DH = hypergeometric(np.arange(broken + 1), sampled, fallen_D[:, None], survivors)
    unlikely_D = hits_DH.sum(axis=1) <= level
    return int(fallen_D[~unlikely_D].max()) - broken


def most_hidden_stratified(
    survivors: int, sampled: int, broken: int, share: float, level: float = 0.05
) -> int:
    """Upper bound on D − f when every class gave at least `share` of its survivors.

    The number that falls in the sample is a sum of hypergeometric variables, hence of independent
    coins (Vatutin & Mikhailov 1982), D of them with a mean of at least D · share. At most f < mean
    − 1 then happens no more often than for a binomial of that share (Hoeffding, "On the
    distribution of the number of successes in independent trials", 1956, Theorem 4); for f = 0 the
    same follows from independence alone. A plain hypergeometric bound would not hold: the classes
    may hide what they hide in other proportions than they were drawn.
    """
    fallen_D = np.arange(broken, survivors - (sampled - broken) + 1)
    unlikely_D = bdtr(broken, fallen_D, share) <= level
    if broken > 0:
        unlikely_D &= broken <= fallen_D * share - 1
    return int(fallen_D[~unlikely_D].max()) - broken


def _bound(
    n: int, survivors: int, sampled: int, broken: int, hidden: Callable[..., int]
) -> AuditBound:
    """`hidden` gives the bound at a level."""
    stood = survivors - broken

    def limit(level: float) -> float | None:
        surely_stood = stood - hidden(level=level)
        return float(clopper_pearson_lower(surely_stood, n, 1 - level)) if n else None

    return AuditBound(
        n=n,
        survivors=survivors,
        sampled=sampled,
        broken=broken,
        most_hidden=hidden(level=0.05),
        accuracy=stood / n if n else None,
        lower=(stood - hidden(level=0.05)) / n if n else None,
        floor95=limit(0.025),
        low95=limit(0.0125),
    )
