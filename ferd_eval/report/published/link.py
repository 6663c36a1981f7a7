"""Links from the pages to what is published; nothing leads out of the folder of reports."""

from __future__ import annotations

from typing import Self
from urllib.parse import quote


class Link(str):
    """Text that leads to a file or folder.

    Attributes:
        href: as seen from the pages, in their folder below the reports; empty without a target.
    """

    __slots__ = ("href",)
    href: str

    def __new__(cls, text: str, path: str) -> Self:
        """Link to a path below the folder of reports; an empty one leads nowhere."""
        link = super().__new__(cls, text)
        link.href = href(path) if path else ""
        return link


def href(path: str) -> str:
    """A path below the folder of reports, seen from the page; no name can lead elsewhere."""
    parts = path.split("/")
    assert not {"", ".", ".."} & {*parts}, f"{path} is no path below the reports"
    return "../" + "/".join(quote(part, safe="") for part in parts)
