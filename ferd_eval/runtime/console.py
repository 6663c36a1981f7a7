"""The console for results and progress."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook
from rich.segment import Segment

from ferd_eval.io.escape import shown


def console(*, stderr: bool = False) -> Console:
    """One that shows names from files as they are: no markup, no escape sequence."""
    made = Console(stderr=stderr, markup=False, emoji=False)
    made.push_render_hook(_Shown())
    return made


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
