"""The one exception a user sees, and the wording of near misses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from types import UnionType


class UserError(Exception):
    """Something the user can mend.

    The message is one line: what is wrong, with which values, and the next step. The command line
    prints it after ``error:`` and exits with status 2; a traceback appears only with ``--debug``.
    """

    def __str__(self) -> str:
        # A name from a file may hold line breaks.
        return " ".join(super().__str__().splitlines())


def require_kind(value: object, kinds: type | UnionType, what: str, wanted: str) -> None:
    """Refuse an argument of another type than a function takes.

    Raises:
        UserError: ``what`` is none of the types; give ``wanted``.
    """
    if not isinstance(value, kinds):
        raise UserError(f"{what} is of type {type(value).__name__}; give {wanted}.")


def message_of(error: BaseException, most: int | None = None) -> str:
    """What an exception of other code says, on one line; its type where it says nothing.

    Args:
        most: characters; None for all.
    """
    return " ".join(str(error).split())[:most] or type(error).__name__


def brief(error: BaseException, most: int = 160) -> str:
    """Type and message of an exception of other code, on one line."""
    text = " ".join(str(error).split())[:most]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean X?"`` for the closest known name, else the list of known names."""
    names = list(known)
    by_lower = {name.lower(): name for name in names}
    close = get_close_matches(value.lower(), by_lower, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {by_lower[close[0]]}?"
    return f" There are: {', '.join(names)}."


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
