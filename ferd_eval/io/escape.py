"""Text from files, escaped so that the program which shows it prints it and never obeys it."""

from __future__ import annotations

import json
import re
import unicodedata

#: Controls but the line break; marks that turn the order of letters around; half characters.
_STEERING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

#: What begins a formula, or may be skipped before one; programs for East Asia take wide forms, too.
_FORMULA = (*"=+-@\t\n", *"\uff1d\uff0b\uff0d\uff20")

#: What LaTeX would act on, and signs that its text fonts lack.
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "_": r"\_",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "$": r"\$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\N{MINUS SIGN}": "$-$",
    "–": "--",
    "—": "---",
    "≈": r"$\approx$",
    "±": r"$\pm$",
    "ε": r"$\varepsilon$",
    "∞": r"$_\infty$",
    "†": r"$^\dagger$",
    "×": r"$\times$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "…": r"\ldots{}",
}


def shown(text: str) -> str:
    """Put � where a terminal would move, colour, rename or turn round what it shows."""
    return _STEERING.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """As `shown`, on one line."""
    return shown(" ".join(text.split()))


def escape_markdown(cell: object) -> str:
    """Neutralise what Markdown or the HTML inside it would act on; a line break becomes a space."""
    text = one_line(str(cell))
    text = re.sub(r"([\\`*|\[\]~])", r"\\\1", text)
    text = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", text)
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text)
    # GitHub makes links of bare addresses.
    text = re.sub(r"(?<=\w):(?=//)|(?<=\w)@(?=[\w.-]*\.[A-Za-z])", r"\\\g<0>", text)
    text = re.sub(r"(?i)(?<=\bwww)\.", r"\\.", text)
    return text.replace("<", "&lt;")


def escape_latex(text: str) -> str:
    """Text that LaTeX prints and does not obey; a line break becomes a space.

    Letters outside ASCII stay as they are: LaTeX reads UTF-8 since 2018, as far as its fonts go.
    """
    words = " ".join(text.split())
    spaced = "".join(c for c in words if c == " " or unicodedata.category(c)[0] != "C")
    # No ligature (-- and ?`), and at the start no argument of a \\ before it.
    apart = re.sub(r"-(?=-)|[?!](?=`)", "\\g<0>\0", spaced)
    escaped = "".join(_SPECIAL.get(c, c) for c in apart).replace("\0", "{}")
    return re.sub(r"^([\[*])", r"{\1}", escaped)


def escape_formula(text: str) -> str:
    """Keep a spreadsheet from taking text, or a line of it, for a formula."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")  # a lone \r is written without quotes
    return f"'{text}" if text.startswith(_FORMULA) else text


def script_json(value: object) -> str:
    """JSON that may stand inside ``<script>``: no name can end the element or start another."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
