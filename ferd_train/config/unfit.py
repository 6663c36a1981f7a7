"""A recipe that does not go with its teacher, and the recipe that would."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ferd_eval.errors import UserError

#: From fields and their values to how a user gives them.
Words = Callable[[Mapping[str, str]], str]


def as_options(changes: Mapping[str, str]) -> str:
    """Fields as the command line takes them: ``--set eps=8/255 --set image_size=32``."""
    return " ".join(f"--set {name}={value}" for name, value in changes.items())


class UnfitError(UserError):
    """What does not fit, with fields that would.

    Attributes:
        reasons: what is wrong, a clause each.
        changes: dotted field → value with which it is right; empty where that is not known.
        others: what else could be done, a clause each.
    """

    def __init__(
        self,
        reasons: Iterable[str],
        changes: Mapping[str, str] | None = None,
        others: Iterable[str] = (),
    ) -> None:
        self.reasons, self.others = tuple(reasons), tuple(others)
        self.changes = dict(changes or {})
        super().__init__(self.told("give ", as_options))

    @classmethod
    def joined(cls, found: Iterable[UnfitError]) -> UnfitError:
        """All that several say, each thing once."""
        found = [*found]
        changes = {name: value for each in found for name, value in each.changes.items()}
        return cls(
            dict.fromkeys(reason for each in found for reason in each.reasons),
            changes,
            dict.fromkeys(other for each in found for other in each.others),
        )

    def told(self, verb: str, words: Words) -> str:
        """One line: the reasons, what else could be done, and last what to type, to be copied."""
        ways = [*self.others, *([verb + words(self.changes)] if self.changes else [])]
        advice = ", or ".join(ways)
        return f"{'; '.join(self.reasons)}. {advice[:1].upper()}{advice[1:]}".strip()
