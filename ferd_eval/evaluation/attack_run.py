"""One attack of a run with its stages, unit by unit. S images that still stand."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ferd_eval.attacks import Cascade, Clean, PlannedAttack, draw_sample
from ferd_eval.datasets import LabelledImages
from ferd_eval.evaluation.cost.eta import Remaining
from ferd_eval.evaluation.execution.executor import AttackShard, ScheduledTask
from ferd_eval.evaluation.execution.rows import concatenate, finalize, merge_stages
from ferd_eval.evaluation.execution.worker import EvalContext
from ferd_eval.evaluation.shards import FolderShards, Shard, ShardStore, file_name, split_shards
from ferd_eval.runtime.progress import ProgressReporter, duration

Tasks = Sequence[ScheduledTask]


@dataclass(eq=False)
class AttackRun:
    """One attack of the plan with its stages, one after the other."""

    planned: PlannedAttack
    data: LabelledImages
    manifest: Mapping[str, Any]
    folder: Path | None
    store: ShardStore
    context: EvalContext
    remaining: Remaining
    watcher: ProgressReporter
    title: str = ""
    table: pd.DataFrame | None = None
    stages: list[list[Shard]] = field(default_factory=list)
    costs: list[dict[str, Any]] = field(default_factory=list)
    audited: NDArray[np.int64] | None = None

    @property
    def batch_sizes(self) -> set[int]:
        """Batch sizes that fitted into memory."""
        return {cost["batch_size"] for cost in self.costs}

    def orders(self) -> Generator[Tasks, None, None]:
        """What is to be done, stage by stage; in the end `table` has all rows, in order."""
        attack = self.planned.attack
        everyone = np.arange(len(self.data))
        if isinstance(attack, Cascade):
            self.table, source_N = merge_stages((yield from self._stages(attack, everyone)))
        else:
            self.table = yield from self._stage(0, everyone)
            source_N = np.zeros(len(self.table), dtype=np.int64)
        if self._saves and isinstance(self.store, FolderShards) and self.folder is not None:
            file = self.folder / "adversarial" / f"{file_name(self.planned.id)}.npz"
            self.store.collect_images(self.stages, source_N, file)

    def cost(self) -> dict[str, Any]:
        """Seconds and passes, over all units and, in a cascade, of each stage."""
        stages = dict.fromkeys(cost["stage"] for cost in self.costs)
        by_stage = {stage: _total(c for c in self.costs if c["stage"] == stage) for stage in stages}
        return {**_total(self.costs), **({"stages": by_stage} if stages != {"": None} else {})}

    def clean_cost(self) -> dict[str, float]:
        """What the clean logits cost that were made on the way."""
        return _total(self.costs, before="clean_")

    @property
    def _saves(self) -> bool:
        return self.manifest["save_adv"] and not isinstance(self.planned.attack, Clean)

    def _stages(
        self, cascade: Cascade, survivors_S: NDArray[np.int64]
    ) -> Generator[Tasks, None, list[pd.DataFrame]]:
        """Rows of each stage that had anyone to attack; the first one sees everyone."""
        tables: list[pd.DataFrame] = []
        for number in range(len(cascade.attacks)):
            if number == len(cascade.stages) + 1:
                survivors_S = self.audited = self._sample(survivors_S, cascade.sample)
            if tables and len(survivors_S) == 0:
                self.remaining.begin(self.planned, number, 0)
                continue
            tables.append((yield from self._stage(number, survivors_S)))
            survivors_S = survivors_S[tables[-1]["correct"].to_numpy()]
        return tables

    def _sample(self, survivors_S: NDArray[np.int64], size: int) -> NDArray[np.int64]:
        labels_S, indices_S = self.data.labels_N[survivors_S], self.data.indices_N[survivors_S]
        return survivors_S[draw_sample(labels_S, indices_S, size, self.manifest["seed"])]

    def _stage(
        self, number: int, positions_S: NDArray[np.int64]
    ) -> Generator[Tasks, None, pd.DataFrame]:
        """All rows of one of the attack's stages, by its place."""
        attack = self.planned.attacks[number]
        in_cascade = isinstance(self.planned.attack, Cascade)
        size = self.manifest["search_unit_images" if in_cascade else "unit_images"]
        name = attack.family if in_cascade else ""
        units = split_shards(self.planned.id, name, positions_S.tolist(), size)
        self.stages.append(units)
        self.remaining.begin(self.planned, number, len(positions_S))
        gathered = GatheredRows()

        def keep(unit: Shard, answer: tuple[pd.DataFrame, NDArray[np.float32] | None]) -> None:
            rows, images_RCHW = answer
            rows = finalize(rows, unit.stage) if unit.stage else rows
            gathered.add(unit.number, rows)
            self.store.put(unit, rows, images_RCHW)
            cost, left = self._count(number, unit, rows)
            self.watcher.advance(self._summary(unit, len(units), rows), cost, left)

        orders = []
        for unit in units:
            indices = self.data.indices_N[list(unit.positions)]
            done = self.store.get(unit, indices, images=self._saves)
            if done is None:
                task = AttackShard(unit, attack, self.planned.threat, self._saves)
                orders.append(ScheduledTask(self.context, task, partial(keep, unit)))
            else:
                gathered.add(unit.number, done)
                self.watcher.skip(*self._count(number, unit, done))
        yield orders
        return gathered.in_order()

    def _count(self, number: int, unit: Shard, rows: pd.DataFrame) -> tuple[float, float]:
        """Note what a unit cost; its passes and those that are left."""
        self.costs.append({**{str(key): v for key, v in rows.attrs.items()}, "stage": unit.stage})
        standing = int(rows.groupby("index")["correct"].all().sum())
        return self.remaining.spend(self.planned, number, len(unit), standing)

    def _summary(self, unit: Shard, of: int, rows: pd.DataFrame) -> str:
        right = rows.groupby("index")["correct"].all().mean()
        stage = unit.stage if unit.stage != unit.attack else ""
        name = " ".join(filter(None, (self.title, unit.attack, stage)))
        return (
            f"{name} {unit.number + 1}/{of}  {len(unit)} images in "
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
    """Tables joined again and again as they come, so that there are only ever a few.

    Many small ones, each made between a network's large tensors, would lie scattered through the
    heap; glibc's aligned blocks do not fit into the gaps that are left, and memory would grow with
    the data set. Each row is copied at most as often as the number of units can be halved.
    """

    _tables: list[pd.DataFrame] = field(default_factory=list)
    _numbers: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, number: int, rows: pd.DataFrame) -> None:
        """Take the rows of a unit.

        Args:
            number: its place in the stage.
            rows: copied, without their `attrs`.
        """
        self._tables.append(rows)
        self._numbers.append(np.full(len(rows), number))
        while len(self._tables) > 1 and len(self._tables[-2]) <= len(self._tables[-1]):
            self._join(2)

    def in_order(self) -> pd.DataFrame:
        """All rows, by the place of their unit."""
        self._join(len(self._tables))
        order = np.argsort(self._numbers[0], kind="stable")
        return self._tables[0].iloc[order].reset_index(drop=True)

    def _join(self, last: int) -> None:
        self._tables[-last:] = [concatenate(self._tables[-last:])]
        self._numbers[-last:] = [np.concatenate(self._numbers[-last:])]
