"""``--cite``: the literature of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def print_citations(manifests: Sequence[Mapping[str, Any]]) -> None:
    """Print BibTeX of what these runs used."""
    from ferd_eval.datasets import list_datasets
    from ferd_eval.report.citations import bibtex

    print(bibtex(manifests, {info.name: info.cite for info in list_datasets()}), end="")
