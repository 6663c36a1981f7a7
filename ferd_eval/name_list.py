"""Names in a sentence: all of them, or the first and how many more."""

from __future__ import annotations

from collections.abc import Sequence


def listed(names: Sequence[str], most: int = 5, last: str = "and") -> str:
    """``cat``, ``cat and dog``, ``a, b, c, d, e and 2 more``, ``a, b or one of 2 more``.

    Args:
        most: names given, and one more where that is all; the rest are counted.
        last: what stands before the last: "and" or "or".
    """
    hidden = len(names) - most
    shown = list(names)
    if hidden > 1:
        shown[most:] = [f"one of {hidden} more" if last == "or" else f"{hidden} more"]
    return f" {last} ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
