"""The console for results and progress."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook
from rich.segment import Segment

from ferd_eval.io.escape import shown
from ferd_eval.io.json import to_json


def console(*, stderr: bool = False) -> Console:
    """One that shows names from files as they are: no markup, no escape sequence."""
    made = Console(stderr=stderr, markup=False, emoji=False)
    made.push_render_hook(_Shown())
    return made


def show(
    table: Callable[[], RenderableType], record: Callable[[], object], *pages: Path, as_json: bool
) -> None:
    """Print a result as a table, or as JSON; the paths of its pages come last.

    Args:
        table, record: make its two forms; only the one asked for is made.
    """
    if as_json:
        print(to_json(record()), end="")
    else:
        console().print(table())
    for page in pages:
        print(page, file=sys.stderr if as_json else sys.stdout)


class _Shown(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_OnlyText(each) for each in renderables]


@dataclass(frozen=True)
class _OnlyText:
    """Its content without control characters in the text; the console's own pass."""

    inside: RenderableType

    def __rich_console__(self, on: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for segment in on.render(self.inside, options):
            if segment.control:
                yield segment
            else:
                yield Segment(shown(segment.text), segment.style)
