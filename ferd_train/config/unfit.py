"""A recipe that does not fit its teacher, and the recipe that would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ferd_eval.errors import UserError

#: Writes fields and their values as a user gives them.
Words = Callable[[Mapping[str, str]], str]


def as_options(changes: Mapping[str, str]) -> str:
    """Fields as the command line takes them: ``--set eps=8/255 --set image_size=32``."""
    return " ".join(f"--set {name}={value}" for name, value in changes.items())


class UnfitError(UserError):
    """Differences between recipe and teacher, with fields that would fit.

    Attributes:
        reasons: a clause for each thing that is wrong or not known.
        changes: dotted field → value that fits; empty if not known.
        others: other remedies, a clause each.
        is_refused: whether the user cannot have meant it: a field differs from what is known and
            was not set by hand.
    """

    def __init__(
        self,
        reasons: Iterable[str],
        changes: Mapping[str, str] | None = None,
        others: Iterable[str] = (),
        *,
        is_refused: bool = True,
    ) -> None:
        self.reasons, self.others = tuple(reasons), tuple(others)
        self.changes, self.is_refused = dict(changes or {}), is_refused
        super().__init__(self.advise("give ", as_options))

    @classmethod
    def joined(cls, found: Iterable[UnfitError]) -> UnfitError:
        """Several in one, without repetitions."""
        found = [*found]
        return cls(
            dict.fromkeys(reason for each in found for reason in each.reasons),
            {name: value for each in found for name, value in each.changes.items()},
            dict.fromkeys(other for each in found for other in each.others),
        )

    def below(self, section: str, inner: str) -> UnfitError:
        """The same of a section's part that has the section's fields: ``synthesis.inversion``."""
        start = f"{section}."
        changes = {
            f"{start}{inner}.{name.removeprefix(start)}" if name.startswith(start) else name: value
            for name, value in self.changes.items()
        }
        return UnfitError(self.reasons, changes, self.others, is_refused=self.is_refused)

    def advise(self, verb: str, words: Words) -> str:
        """One line: reasons, other remedies, and last the text to copy and type."""
        ways = [*self.others, *([verb + words(self.changes)] if self.changes else [])]
        advice = ", or ".join(ways)
        return f"{'; '.join(self.reasons)}. {advice[:1].upper()}{advice[1:]}".strip()
