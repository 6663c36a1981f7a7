"""The work of ``demo``: a short recipe, and how to read its result."""

from __future__ import annotations

from pathlib import Path

from ferd_train.pipeline import Distilling, distil

#: Figures of reports/ferd-lab/tables.md, row FERD, and of reports/baselines-lab/README.md.
_OUTLOOK = (
    "ferd-demo stops after 8 of the 20 epochs of ferd-lab, so take this for a look at the method. "
    "The whole recipe reached 50.4 % on average and 10.1 % in the lowest class under PGD-20, NSD "
    "0.483 (three seeds, 10 000 images: reports/ferd-lab/tables.md); this teacher has 77.3 % and "
    "34.5 % (reports/baselines-lab/README.md)."
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
