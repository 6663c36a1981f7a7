"""What ``leaderboard`` does: read runs, rank, write. No torch on this path."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ferd_eval.datasets import list_datasets
from ferd_eval.errors import UserError
from ferd_eval.io.json import to_json
from ferd_eval.report.leaderboard import (
    leaderboard,
    read_reported,
    record,
    render_terminal,
    write_leaderboard,
)
from ferd_eval.report.leaderboard.read import read_entries
from ferd_eval.results.run_folder import say_left_out
from ferd_eval.runtime.console import console


def rank_runs(
    arguments: Sequence[str],
    *,
    reported: str | None,
    attacks: str | None,
    sort: str | None,
    group_seeds: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Write the leaderboard and show it; the path of the page is the last line."""
    published = None if reported is None else read_reported(reported)
    entries, unfinished = read_entries(arguments, group_seeds=group_seeds)
    for folder in unfinished:
        say_left_out(folder, "is an unfinished run")
    board = leaderboard(
        entries,
        published,
        attacks=None if attacks is None else _names(attacks),
        sort=sort,
        num_classes=_num_classes(),
    )
    page = write_leaderboard(out, board)[-1]
    if as_json:
        print(to_json(record(board)), end="")
        print(page, file=sys.stderr)
    else:
        console().print(render_terminal(board))
        print(page)


def _names(attacks: str) -> list[str]:
    names = list(dict.fromkeys(name.strip() for name in attacks.split(",") if name.strip()))
    if not names:
        raise UserError("--attacks names no attack. Give some with commas, such as clean,pgd,aa.")
    return names


def _num_classes() -> Mapping[str, int]:
    return {info.name: info.num_classes for info in list_datasets() if info.num_classes}
