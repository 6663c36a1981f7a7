"""Trials of a study on a Ray cluster whose machines share the study's folder."""

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
from ferd_train.study.trial import Event, Failed, TrialTask, run_trial
from ferd_train.study.validate import STUDY_RECORD

#: A trial that loses so many workers fails, until the next command.
_LOSSES = 3

#: Seconds between two looks at the events.
_LOOK = 1.0


def run_on_ray(tasks: Sequence[TrialTask], work: Path, address: str, watch: Watch) -> None:
    """Run trials in their order, as many at once as the cluster has room for.

    Each takes a GPU if the cluster has any, else a CPU with one thread. One that loses its worker
    continues elsewhere from its last epoch or shard. Arguments as of `run_in_processes`.

    Args:
        work: parent of the tasks' folders, with the study's record; shared by the machines.
        address: of the cluster, or ``auto``.

    Raises:
        UserError: Ray is missing, or nobody answers at the address.
    """
    if not tasks:
        return
    ray, joined = join(address)
    record = work.resolve() / STUDY_RECORD
    from ray.util.queue import Queue

    try:
        events, on_gpu = Queue(actor_options={"num_cpus": 0}), ray.cluster_resources().get("GPU", 0)
        run = ray.remote(_work).options(
            num_cpus=0 if on_gpu else 1, num_gpus=1 if on_gpu else 0, max_retries=0
        )
        here = [replace(task, folder=task.folder.resolve()) for task in tasks]
        under_way = {
            run.remote(number, task, record, events): number for number, task in enumerate(here)
        }
        losses: Counter[int] = Counter()
        while under_way:
            over, _ = ray.wait([*under_way], timeout=_LOOK)
            _pass_on(events, tasks, watch)
            for reference in over:
                number = under_way.pop(reference)
                try:
                    ray.get(reference)
                except ray.exceptions.RayError as loss:
                    losses[number] += 1
                    if losses[number] < _LOSSES:
                        under_way[run.remote(number, here[number], record, events)] = number
                    else:
                        why = f"its worker was lost {_LOSSES} times ({in_brief(loss)})"
                        watch(tasks[number], Failed(why))
        _pass_on(events, tasks, watch)
    finally:
        if joined:
            ray.shutdown()


def _pass_on(events: Any, tasks: Sequence[TrialTask], watch: Watch) -> None:
    for number, event in events.get_nowait_batch(events.qsize()):
        watch(tasks[number], event)


def _work(number: int, task: TrialTask, record: Path, events: Any) -> None:
    """On a worker's machine."""
    torch.set_num_threads(1)
    if record.is_file():
        run_trial(task, partial(_put, number, events))
    else:
        why = f"a worker does not see {record.parent}; put --work on a disk that all share."
        _put(number, events, Failed(why))


def _put(number: int, events: Any, event: Event) -> None:
    events.put((number, event))
