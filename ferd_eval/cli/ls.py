"""``ferd-eval ls``: architectures, attacks and data sets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated

import typer

from ferd_eval.errors import UserError, did_you_mean


def ls(
    what: Annotated[str, typer.Argument(metavar="models|attacks|datasets")],
    json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """List architectures, attacks or data sets."""
    if what not in _LISTINGS:
        raise UserError(f"there is no list of {what!r}.{did_you_mean(what, _LISTINGS)}")
    rows = list(_LISTINGS[what]())
    if json:
        from ferd_eval.io.json import to_json

        print(to_json(rows), end="")
    else:
        _print_table(rows)


def _models() -> Iterator[Mapping[str, str]]:
    from ferd_eval.models import list_architectures

    for row in list_architectures():
        facts = {"key layout": row.source, "input": row.input, "notes": row.notes}
        yield {"name": row.name, "family": row.family, **facts}


def _attacks() -> Iterator[Mapping[str, str]]:
    from ferd_eval.attacks import GROUPS, PRESETS

    for name, preset in PRESETS.items():
        yield {"name": name, "what": preset.summary, "constants from": preset.source}
    for name, members in GROUPS.items():
        yield {"name": name, "what": ",".join(members), "constants from": ""}


def _datasets() -> Iterator[Mapping[str, str]]:
    from ferd_eval.datasets import list_datasets
    from ferd_eval.io.epsilon import format_quantity

    for info in list_datasets():
        yield {
            "name": info.name,
            "what": info.title,
            "classes": "" if info.num_classes is None else str(info.num_classes),
            "ε": format_quantity(info.default_eps),
            "files": info.layout,
            "licence": info.licence,
        }


_LISTINGS: Mapping[str, Callable[[], Iterator[Mapping[str, str]]]] = {
    "models": _models,
    "attacks": _attacks,
    "datasets": _datasets,
}


def _print_table(rows: Sequence[Mapping[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:  # for grep and cut: a line for each row, however long
        lines = [tuple(rows[0]), *(tuple(row.values()) for row in rows)]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        for line in lines:
            cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            print("  ".join(cells).rstrip())
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for i, column in enumerate(rows[0]):
        table.add_column(column, no_wrap=i == 0, overflow="fold")
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
