"""Reads the tables of ``leaderboard.tex`` back, and finds whatever LaTeX would trip over."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

#: Printed figure, best or second or nothing, whether it is tied with the best, and its interval.
Cell = tuple[str, str, bool, str]

_ENVIRONMENT = re.compile(r"\\begin\{(table\*?)\}(.*?)\\end\{\1\}", re.DOTALL)
_COLUMN = re.compile(r"[lr]|S\[table-format=\{(?:\{\$\\approx\$\})?\d\.\d\}\]")
_HEADINGS = {"Avg": "average", "Worst": "worst", "Worst 10 %": "worst", "NSD": "nsd"}
_HEADINGS["Floor"] = "floor"


@dataclass
class Table:
    environment: str
    caption: str
    label: str
    groups: list[str]
    header: list[str]
    #: Title of a block → its rows, each a list of cells.
    blocks: list[tuple[str, list[list[str]]]] = field(default_factory=list)

    def cells(self) -> dict[str, dict[tuple[str, str], Cell]]:
        """Network → (attack, figure) → what the table prints, whatever its layout."""
        found: dict[str, dict[tuple[str, str], Cell]] = {}
        for title, rows in self.blocks:
            for i, (first, *cells) in enumerate(rows):
                if not first:
                    continue
                after = rows[i + 1] if i + 1 < len(rows) else ["-"]
                small = after[1:] if not after[0] else [""] * len(cells)
                for j, (cell, interval) in enumerate(zip(cells, small, strict=True)):
                    name, key = self._place(title, first, j)
                    assert key not in found.setdefault(name, {}), (name, key)
                    found[name][key] = read_cell(cell, interval)
        return found

    def _place(self, title: str, first: str, j: int) -> tuple[str, tuple[str, str]]:
        if self.groups:
            return first, (self.groups[j], _HEADINGS[self.header[j]])
        if first in _HEADINGS:
            return self.header[j], (title, _HEADINGS[first])
        return first, (title, _HEADINGS[self.header[j]])


def read_cell(cell: str, interval: str) -> Cell:
    cell = re.sub(r"\\phantom\{(\$\\approx\$)?0*\}", "", cell)
    bare = re.sub(r"\\num\{([\d.]+)\}", r"\1", cell)
    tied = bare.count(r"$\approx$")
    bare = bare.replace(r"$\approx$", "").replace("{}", "").strip()
    while bare.startswith("{") and bare.endswith("}"):
        bare = bare[1:-1]
    matched = re.fullmatch(r"(?:\\(textbf|underline)\{|(\\bfseries) )?(\d+\.\d+|--)\}?", bare)
    assert matched, cell
    mark, bold, text = matched.groups()
    place = "best" if bold or mark == "textbf" else "second" if mark else ""
    sure = interval.strip()
    if sure:
        assert sure.startswith(r"{\tiny ")
        assert sure.endswith("}")
        sure = sure[len(r"{\tiny ") : -1].replace(r"$\pm$", "±")
    return text.replace("--", "–"), place, bool(tied), sure


def read_tables(text: str) -> list[Table]:
    body = "".join(line + "\n" for line in text.splitlines() if not line.startswith("%"))
    require_sound(body)
    tables = [_table(kind, inside) for kind, inside in _ENVIRONMENT.findall(body)]
    assert _ENVIRONMENT.sub("", body).strip() == ""
    return tables


def require_sound(body: str) -> None:
    """Braces, dollars and environments in pairs; no comment, and no & outside a table's row."""
    plain = re.sub(r"\\[\\{}$%&#_]", "", body)
    depth = 0
    for character in plain:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    assert plain.count("$") % 2 == 0
    assert not re.search('[%#~"<>|]', plain)
    outside_maths = re.sub(r"\$[^$]*\$", "", re.sub(r"\\(input|label|sisetup)\{[^}]*\}", "", plain))
    assert "_" not in outside_maths
    assert "^" not in outside_maths
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end)\{([\w*]+)\}", plain):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert opened == []


def _table(kind: str, inside: str) -> Table:
    caption = re.search(r"\\caption\{(.*)\}\n", inside)
    label = re.search(r"\\label\{(.*)\}\n", inside)
    found = re.search(r"\\begin\{tabular\}\{([^\n]*)\}\n(.*)\\end\{tabular\}", inside, re.DOTALL)
    assert caption
    assert found
    columns = _COLUMN.findall(found[1])
    assert _COLUMN.sub("", found[1]) == ""
    top, *parts, end = re.split(r"\\(?:mid|bottom)rule\n", found[2])
    assert end == ""
    assert top.startswith("\\toprule\n")
    *groups, header = _rows(top.removeprefix("\\toprule\n"), len(columns))
    made = Table(kind, caption[1], label[1] if label else "", [], header[1:])
    made.header = [_plain(name.strip("{}")) for name in made.header]
    made.groups = [_plain(name) for row in groups for name in row[1:]]
    for part in parts:
        rows = _rows(part, len(columns))
        title = ""
        if rows[0][0].startswith(r"\textit{"):
            title = _plain(rows.pop(0)[0].removeprefix(r"\textit{").removesuffix("}"))
        made.blocks.append((title, [[_plain(row[0]), *row[1:]] for row in rows]))
    return made


def _rows(text: str, width: int) -> list[list[str]]:
    """Rows of as many cells as the table has columns; a wide cell fills all that it spans."""
    text = re.sub(r"(\\cmidrule\(lr\)\{\d+-\d+\})+\n", "", text)
    found = []
    for line in text.splitlines():
        assert line.endswith(r" \\"), line
        row: list[str] = []
        for cell in re.split(r"(?<!\\)&", line.removesuffix(r" \\")):
            wide = re.fullmatch(r"\\multicolumn\{(\d+)\}\{[lc]\}\{(.*)\}", cell.strip())
            row += [wide[2]] * int(wide[1]) if wide else [cell.strip()]
        assert len(row) == width, line
        found.append(row)
    return found


def _plain(text: str) -> str:
    return text.replace(r"$_\infty$", "∞").replace(r"\%", "%").replace(r"\_", "_")
