"""Text from files as a terminal may show it: shown, never obeyed."""

from __future__ import annotations

import re

#: Controls but the line break; marks that turn the order of letters around; half characters.
_STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def shown(text: str) -> str:
    """Put � where a terminal would move, colour, rename or turn round what it shows."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """As `shown`, on one line."""
    return shown(" ".join(text.split()))
