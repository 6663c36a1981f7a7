"""Links from the pages to what is published; nothing leads out of the folder of reports."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Link:
    """Text that leads to a file or folder.

    Attributes:
        path: below the folder of reports; empty where there is nothing to lead to.
    """

    text: str
    path: str

    def __str__(self) -> str:
        return self.text

    @property
    def href(self) -> str:
        """As the page, in a folder of its own below the reports, has it; empty without a path."""
        return href(self.path) if self.path else ""


def href(path: str) -> str:
    """A path below the folder of reports, seen from the page; no name can lead elsewhere."""
    parts = path.split("/")
    assert not {"", ".", ".."} & {*parts}, f"{path} is no path below the reports"
    return "../" + "/".join(quote(part, safe="") for part in parts)
