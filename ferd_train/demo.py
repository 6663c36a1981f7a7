"""The work of ``demo``: a short recipe, and how to read its result."""

from __future__ import annotations

from pathlib import Path

from ferd_train.pipeline import Distilling, distil

#: Figures of docs/why-ferd-falls-short.md, row F, and of reports/baselines-lab/README.md.
_OUTLOOK = (
    "ferd-demo stops after 8 of the 20 epochs of ferd-lab, so take this for a look at the method. "
    "A student of such images reached 58.6 % under PGD-10 after 10 epochs, its worst class 6 % "
    "(one seed, held-out training images: docs/why-ferd-falls-short.md); this teacher has 77.3 % "
    "and 34.5 % under PGD-20 (10 000 test images: reports/baselines-lab/README.md)."
)

_NEXT = (
    "Next: ferd-train student --teacher demo --recipe ferd-lab --out reports/runs/ferd-lab "
    "--score --dataset demo --attacks fast"
)


def demonstrate(out: Path) -> None:
    """Distil a student from the packaged teacher, score both, and print the next step."""
    job = Distilling(
        teacher="demo", recipe="ferd-demo", out=out, score=True, dataset="demo", attacks="fast"
    )
    distil(job, closing=(_OUTLOOK, _NEXT))
