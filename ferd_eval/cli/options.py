"""Command-line options that several commands take: those of the run, and `EvalConfig`'s fields."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection
from functools import partial
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from ferd_eval.evaluation.config import RUN, EvalConfig, flag

#: An option in the panel of the help that is about the run.
run_option = partial(typer.Option, rich_help_panel=RUN)

Command = TypeVar("Command", bound=Callable[..., None])


def config_options(
    names: Collection[str] = (), panel: str | None = None
) -> Callable[[Command], Command]:
    """Let a command take fields of `EvalConfig` as options, in its ``**flags``; None if not given.

    Args:
        names: fields; all by default.
        panel: of the help, in place of their own.
    """

    def add(command: Command) -> Command:
        kinds = get_type_hints(EvalConfig)
        *own, _ = inspect.signature(command, eval_str=True).parameters.values()
        options = [
            inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[kinds[field.name] | None, _option(field, panel)],
            )
            for field in dataclasses.fields(EvalConfig)
            if not names or field.name in names
        ]
        own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        required = [each for each in own if each.default is inspect.Parameter.empty]
        parameters = required + options + [each for each in own if each not in required]
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {each.name: each.annotation for each in parameters}
        return command

    return add


def _option(field: dataclasses.Field[Any], panel: str | None) -> Any:
    off = f"/--no-{flag(field.name)[2:]}" if field.default is True else ""
    return typer.Option(
        f"{flag(field.name)}{off}",
        help=field.metadata["help"],
        metavar=field.metadata["metavar"],
        rich_help_panel=panel or field.metadata["panel"],
    )
