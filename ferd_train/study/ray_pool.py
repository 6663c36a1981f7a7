"""Cells of a study on a cluster of Ray, whose machines all see the study's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ferd_eval.evaluation.execution.ray_executor import in_brief, join
from ferd_train.study.process_pool import Watch
from ferd_train.study.trial import Event, Failed, Task, carry_out
from ferd_train.study.validate import STUDY_RECORD

#: A cell that costs so many workers is given up until the next command.
_LOSSES = 3

#: Seconds between two looks at what has been told.
_LOOK = 1.0


def carry_out_on_cluster(tasks: Sequence[Task], work: Path, address: str, watch: Watch) -> None:
    """Carry out tasks, in their order as far as it goes, as many at once as there is room for.

    Each takes a GPU where the cluster has any, else a CPU with one thread. One whose worker is lost
    goes on elsewhere from its last epoch or unit.

    Args:
        tasks: each of another folder.
        work: that all of these are in, with the study's record; the machines share it.
        address: of the cluster, or ``auto``.
        watch: told of everything that happens, by the calling thread.

    Raises:
        UserError: Ray is missing, or nobody answers at the address.
    """
    if not tasks:
        return
    ray, joined = join(address)
    record = work.resolve() / STUDY_RECORD
    from ray.util.queue import Queue

    try:
        told, on_gpu = Queue(actor_options={"num_cpus": 0}), ray.cluster_resources().get("GPU", 0)
        cell = ray.remote(_work).options(
            num_cpus=0 if on_gpu else 1, num_gpus=1 if on_gpu else 0, max_retries=0
        )
        here = [replace(task, folder=task.folder.resolve()) for task in tasks]
        under_way = {
            cell.remote(number, task, record, told): number for number, task in enumerate(here)
        }
        losses: Counter[int] = Counter()
        while under_way:
            over, _ = ray.wait([*under_way], timeout=_LOOK)
            _pass_on(told, tasks, watch)
            for reference in over:
                number = under_way.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as loss:
                    losses[number] += 1
                    if losses[number] < _LOSSES:
                        under_way[cell.remote(number, here[number], record, told)] = number
                    else:
                        why = f"its worker was lost {_LOSSES} times ({in_brief(loss)})"
                        watch(tasks[number], Failed(why))
        _pass_on(told, tasks, watch)
    finally:
        if joined:
            ray.shutdown()


def _pass_on(told: Any, tasks: Sequence[Task], watch: Watch) -> None:
    for number, event in told.get_nowait_batch(told.qsize()):
        watch(tasks[number], event)


def _work(number: int, task: Task, record: Path, told: Any) -> None:
    """A task on a worker's machine."""
    torch.set_num_threads(1)
    if record.is_file():
        carry_out(task, partial(_tell, number, told))
    else:
        why = f"a worker does not see {record.parent}; put --work on a disk that all share."
        _tell(number, told, Failed(why))


def _tell(number: int, told: Any, event: Event) -> None:
    told.put((number, event))
