"""The commands that README.md and docs/ tell people to type."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")

#: First words of inline code that make it a command.
PROGRAMS = ("ferd-eval", "ferd-train", "torchrun", "pip", "python", "python3", "ray", "srun")


@dataclass(frozen=True)
class Command:
    """One command as a document has it.

    Attributes:
        words: program first, without what a shell would do itself.
        whole: whether it may be typed as it stands; else it is a mention, as in ``ferd-eval gate``
            or ``torchrun … ferd_train student …``, or options alone.
    """

    where: str
    words: tuple[str, ...]
    whole: bool

    def __str__(self) -> str:
        return f"{self.where}: {' '.join(self.words)}"


def commands(file: Path) -> list[Command]:
    """All of a document, each once."""
    text, where = file.read_text("utf-8"), file.relative_to(ROOT).as_posix()
    found = []
    for language, block in _FENCE.findall(text):
        if language in ("sh", "bash", "shell", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                found += [Command(where, words, True) for words in _split(line)]
    for code in _INLINE.findall(_FENCE.sub("", text)):
        words = tuple(shlex.split(code)) if code.count("'") % 2 == 0 else tuple(code.split())
        if words and (words[0] in PROGRAMS or words[0].startswith("--")):
            known = tuple(word for word in words if word not in ("…", "..."))
            mention = words[0].startswith("--") or known != words or len(words) < 3
            found.append(Command(where, known, not mention or words == ("ferd-eval", "publish")))
    return list(dict.fromkeys(found))


def _split(line: str) -> list[tuple[str, ...]]:
    """Simple commands of a line of shell; comments and assignments are none."""
    for substitution in (r"\$\(\([^()]*\)\)", r"\$\([^()]*\)"):
        line = re.sub(substitution, "VALUE", line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
    lexer.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= set("&|;"):
            parts.append([])
        else:
            parts[-1].append(word)
    return [tuple(part) for part in parts if part and "=" not in part[0]]


def code_block(file: Path, language: str, holding: str) -> str:
    """The fenced block of a language that holds a text."""
    (found,) = [
        block
        for kind, block in _FENCE.findall(file.read_text("utf-8"))
        if kind == language and holding in block
    ]
    return str(found)
