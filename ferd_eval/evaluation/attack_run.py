"""One attack of a run with its stages, shard by shard. S images that no stage has broken yet."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferd_eval.attacks import Cascade, PlannedAttack, draw_sample
from ferd_eval.evaluation.cost.eta import Remaining
from ferd_eval.evaluation.execution.executor import ScheduledTask
from ferd_eval.evaluation.execution.rows import concatenate, finalize, merge_stages
from ferd_eval.evaluation.execution.worker import EvalContext, Worker
from ferd_eval.evaluation.shards import FolderShards, Shard, split_shards
from ferd_eval.runtime.progress import ProgressReporter, duration

Tasks = Sequence[ScheduledTask]


@dataclass(eq=False)
class AttackRun:
    """One attack of the plan with its stages, one after the other."""

    planned: PlannedAttack
    context: EvalContext
    store: FolderShards | None  #: None keeps nothing
    shard_images: int  #: images in a shard
    precision: str  #: to search in, see `ferd_eval.evaluation.execution.likenesses`
    images_file: Path | None  #: for the adversarial images, None where they are not wanted
    remaining: Remaining
    reporter: ProgressReporter
    title: str = ""  #: put before each line of progress
    table: pd.DataFrame | None = None  #: all rows in order, once the tasks are done
    stages: list[list[Shard]] = field(default_factory=list)
    costs: list[dict[str, Any]] = field(default_factory=list)
    audited: NDArray[np.int64] | None = None  #: images that audits attacked, None without any

    @property
    def batch_sizes(self) -> set[int]:
        """Batch sizes that fitted into memory."""
        return {cost["batch_size"] for cost in self.costs}

    def tasks(self) -> Generator[Tasks, None, None]:
        attack = self.planned.attack
        everyone = np.arange(len(self.context.data))
        if isinstance(attack, Cascade):
            self.table, source_N = merge_stages((yield from self._stages(attack, everyone)))
        else:
            self.table = yield from self._stage(0, everyone)
            source_N = np.zeros(len(self.table), dtype=np.int64)
        if self.images_file is not None:
            assert self.store is not None
            self.store.collect_images(self.stages, source_N, self.images_file)

    def cost(self) -> dict[str, Any]:
        """Seconds and passes, over all shards and, in a cascade, of each stage."""
        stages = dict.fromkeys(cost["stage"] for cost in self.costs)
        by_stage = {stage: _total(c for c in self.costs if c["stage"] == stage) for stage in stages}
        return {**_total(self.costs), **({"stages": by_stage} if stages != {"": None} else {})}

    def clean_cost(self) -> dict[str, float]:
        """Cost of the clean logits that were made on the way."""
        return _total(self.costs, before="clean_")

    def _stages(
        self, cascade: Cascade, survivors_S: NDArray[np.int64]
    ) -> Generator[Tasks, None, list[pd.DataFrame]]:
        """Rows of each stage that had any images; the first one sees all."""
        data, tables = self.context.data, list[pd.DataFrame]()
        for number in range(len(cascade.attacks)):
            if number == len(cascade.stages) + 1:
                labels_S, indices_S = data.labels_N[survivors_S], data.indices_N[survivors_S]
                chosen = draw_sample(labels_S, indices_S, cascade.sample, self.context.seed)
                survivors_S = self.audited = survivors_S[chosen]
            if tables and len(survivors_S) == 0:
                self.remaining.begin(self.planned, number, 0)
                continue
            tables.append((yield from self._stage(number, survivors_S)))
            survivors_S = survivors_S[tables[-1]["correct"].to_numpy()]
        return tables

    def _stage(
        self, number: int, positions_S: NDArray[np.int64]
    ) -> Generator[Tasks, None, pd.DataFrame]:
        """All rows of one of the attack's stages, by its place."""
        attack = self.planned.attacks[number]
        name = attack.family if isinstance(self.planned.attack, Cascade) else ""
        shards = split_shards(self.planned.id, name, positions_S.tolist(), self.shard_images)
        self.stages.append(shards)
        self.remaining.begin(self.planned, number, len(positions_S))
        gathered = GatheredRows()
        keep_images = self.images_file is not None

        def keep(shard: Shard, answer: tuple[pd.DataFrame, NDArray[np.float32] | None]) -> None:
            rows, images_RCHW = answer
            rows = finalize(rows, shard.stage) if shard.stage else rows
            gathered.add(shard.number, rows)
            if self.store is not None:
                self.store.put(shard, rows, images_RCHW)
            cost, left = self._count(number, shard, rows)
            self.reporter.advance(self._summary(shard, len(shards), rows), cost, left)

        tasks = []
        for shard in shards:
            indices = self.context.data.indices_N[list(shard.positions)]
            done = None
            if self.store is not None:
                done = self.store.get(shard, indices, images=keep_images)
            if done is None:
                task = partial(
                    Worker.attack,
                    shard=shard,
                    attack=attack,
                    threat=self.planned.threat,
                    precision=self.precision,
                    keep_images=keep_images,
                )
                tasks.append(ScheduledTask(self.context, task, partial(keep, shard)))
            else:
                gathered.add(shard.number, done)
                self.reporter.skip(*self._count(number, shard, done))
        yield tasks
        return gathered.in_order()

    def _count(self, number: int, shard: Shard, rows: pd.DataFrame) -> tuple[float, float]:
        """Note the cost of a shard; its passes and those that are left."""
        self.costs.append({**{str(key): v for key, v in rows.attrs.items()}, "stage": shard.stage})
        standing = int(rows.groupby("index")["correct"].all().sum())
        return self.remaining.spend(self.planned, number, len(shard), standing)

    def _summary(self, shard: Shard, of: int, rows: pd.DataFrame) -> str:
        right = rows.groupby("index")["correct"].all().mean()
        stage = shard.stage if shard.stage != shard.attack else ""
        name = " ".join(filter(None, (self.title, shard.attack, stage)))
        return (
            f"{name} {shard.number + 1}/{of}  {len(shard)} images in "
            f"{duration(rows.attrs['seconds'])}, {right:.1%} right"
        )


def _total(costs: Iterable[Mapping[str, Any]], before: str = "") -> dict[str, float]:
    listed = list(costs)
    return {
        key: sum(cost.get(before + key, 0) for cost in listed)
        for key in ("seconds", "forward", "backward")
    }


@dataclass
class GatheredRows:
    """Tables joined as they come, so that there are only ever a few.

    Many small ones, each made between a network's large tensors, would scatter over the heap, whose
    gaps glibc's aligned blocks do not fit: memory would grow with the data set. Each row is copied
    at most as often as the number of shards can be halved.
    """

    _tables: list[pd.DataFrame] = field(default_factory=list)
    _numbers: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, number: int, rows: pd.DataFrame) -> None:
        """Copy the rows of a shard, by its place in the stage, without their `attrs`."""
        self._tables.append(rows)
        self._numbers.append(np.full(len(rows), number))
        while len(self._tables) > 1 and len(self._tables[-2]) <= len(self._tables[-1]):
            self._join(2)

    def in_order(self) -> pd.DataFrame:
        """All rows, by the place of their shard."""
        self._join(len(self._tables))
        order = np.argsort(self._numbers[0], kind="stable")
        return self._tables[0].iloc[order].reset_index(drop=True)

    def _join(self, last: int) -> None:
        self._tables[-last:] = [concatenate(self._tables[-last:])]
        self._numbers[-last:] = [np.concatenate(self._numbers[-last:])]
