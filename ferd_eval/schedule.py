"""Hands out the work of one run or of many, so that nobody waits while anything can be done."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from ferd_eval.interruption import is_asked, stop_if_asked
from ferd_eval.worker import Bench
from ferd_eval.workforce import Task, Workforce


@dataclass(frozen=True, eq=False)
class Order:
    """A task at a bench, and who is told of the answer."""

    bench: Bench
    task: Task
    keep: Callable[[Any], None]


#: Work that comes in batches: the next batch is asked for once every order of the last one has been
#: kept, in whichever order that came about.
Errand = Iterator[Sequence[Order]]


def carry_out(errands: Sequence[Errand], workforce: Workforce) -> None:
    """Carry out all errands; whoever is free takes the next order of the earliest one.

    Raises:
        UserError: an order cannot be carried out. What was kept before stays kept.
        KeyboardInterrupt: somebody wants to stop; orders under way were kept first.
    """
    waiting: list[tuple[int, int, Order]] = []
    under_way: dict[int, tuple[int, Order]] = {}
    open_orders = [0] * len(errands)
    tickets = count()

    def call(number: int) -> None:
        """Ask an errand for its next batch that is not empty."""
        for orders in errands[number]:
            for order in orders:
                heapq.heappush(waiting, (number, next(tickets), order))
            if orders:
                open_orders[number] = len(orders)
                return

    for number in range(len(errands)):
        call(number)
    while waiting or under_way:
        while waiting and workforce.has_room and not is_asked():
            number, ticket, order = heapq.heappop(waiting)
            under_way[ticket] = number, order
            workforce.begin(ticket, order.bench, order.task)
        if not under_way:  # only because nothing more was to be begun
            stop_if_asked()
        for ticket, answer in workforce.wait():
            number, order = under_way.pop(ticket)
            order.keep(answer)
            open_orders[number] -= 1
            if not open_orders[number]:
                call(number)
