"""A run: every attack on every image, stage by stage, in shards that survive a crash.

Writes outcomes and nothing else; figures are made from them later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from ferd_eval.attacks import Cascade, Clean, PlannedAttack
from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.evaluation.attack_run import AttackRun
from ferd_eval.evaluation.config import SINGLE, EvalConfig
from ferd_eval.evaluation.cost.eta import Remaining
from ferd_eval.evaluation.diagnostics import PASSES, SAMPLE
from ferd_eval.evaluation.execution.executor import (
    Executor,
    ScheduledTask,
    TaskBatches,
    carry_out,
)
from ferd_eval.evaluation.execution.likenesses import TIMING_PASSES
from ferd_eval.evaluation.execution.rows import concatenate
from ferd_eval.evaluation.execution.search_precision import PRECISIONS
from ferd_eval.evaluation.execution.worker import EvalContext, Worker
from ferd_eval.evaluation.model_checks import check_network, dtype_of, need_gradient
from ferd_eval.evaluation.run_manifest import largest_threat, new_manifest
from ferd_eval.evaluation.shards import FolderShards, file_name
from ferd_eval.io.files import make_folder, write_atomically
from ferd_eval.io.json import with_checksum
from ferd_eval.io.lock import now
from ferd_eval.results.manifest import RECORD, look_up, read_manifest, require_same_run
from ferd_eval.results.outcomes import Outcomes, conform
from ferd_eval.runtime.progress import ProgressReporter

#: Time passes in lower precision for the same share; on fewer images they say nothing.
_FEWEST_TIMED = 4

#: Diagnose as many images as take this share of the run's passes, but at least so many.
_SHARE, _FEWEST = 0.03, 8

#: Where something looks odd, diagnose one image in so many, but at least so many.
_DIAGNOSED, _FEWEST_DIAGNOSED = 10, 32


@dataclass(eq=False)
class EvalRun:
    """One network on one data set under a list of attacks."""

    model: nn.Module
    data: LabelledImages
    plan: Sequence[PlannedAttack]
    config: EvalConfig
    executor: Executor  #: computes, on the kind of device that it says
    folder: Path | None  #: None keeps nothing
    facts: Mapping[str, Any]  #: entries for the manifest
    reporter: ProgressReporter
    beside: list[Remaining] = field(default_factory=list)  #: of the runs at the same time
    seconds: Mapping[str, float] | None = None  #: an image's cost by attack; None counts passes
    title: str = ""  #: put before each line of progress; empty for a single run
    remark: str | None = None  #: a warning about the network, printed before hours of attacks
    on_finished: Callable[[Outcomes], None] = lambda outcomes: None  #: called with the outcomes
    result: Outcomes | None = None  #: the outcomes, once all tasks are done

    def tasks(self) -> list[TaskBatches]:
        """All that is left to do, in any order; the last one makes the result. A finished folder is
        read."""
        model, data = self.model, self.data
        by_gradient = need_gradient(self.plan, data)
        check_network(model, data, dtype_of(model), by_gradient=by_gradient)
        manifest = new_manifest(
            model, data, self.plan, self.config, self.executor.choice, self.facts
        )
        earlier = None if self.folder is None else read_manifest(self.folder)
        if self.folder is not None and earlier is not None:
            require_same_run(earlier, manifest, self.folder)
            if earlier["status"] == "finished":
                self._end_with(self._read_finished(self.folder))
                return []
            manifest = earlier
        context = EvalContext(
            model,
            data,
            self.config.seed,
            manifest["batch_size"],  # a continued run keeps the sizes it began with
            manifest["unit_images"],
            fold=self.config.fold_batchnorm,
        )
        proposes = any(attack.proposes for each in self.plan for attack in each.attacks)
        if proposes and "search" not in manifest:
            manifest.update(self._choose_search(context))
        store: FolderShards | None = None
        if self.folder is not None:
            self._write_manifest(manifest)
            store = FolderShards(self.folder / "units")
        if self.remark and len(self.plan) > 1:
            self.reporter.note(f"warning: {self.name}: {self.remark}")
        if store and (count := store.count()):
            self.reporter.note(f"{self.name}: continuing after {count} finished shards")
        remaining = Remaining(self.plan, len(data), data.num_classes, self.seconds, self.beside)
        sizes = {True: manifest["search_unit_images"], False: manifest["unit_images"]}
        attacks = [
            AttackRun(
                planned,
                context,
                store,
                sizes[isinstance(planned.attack, Cascade)],
                look_up(manifest, "search.precision") or SINGLE,
                self._images_file(planned),
                remaining,
                self.reporter,
                self.title,
            )
            for planned in self.plan
        ]
        diagnosis = self._diagnosis(manifest, context, remaining, by_gradient)
        todo = [diagnosis, *(attack.tasks() for attack in attacks)]
        left = len(todo)

        def counted(batches: TaskBatches) -> TaskBatches:
            nonlocal left
            yield from batches
            left -= 1
            if not left:
                self._finish(manifest, attacks)

        return [counted(batches) for batches in todo]

    @property
    def name(self) -> str:
        return str(self.facts.get("checkpoint", {}).get("name", type(self.model).__name__))

    def _images_file(self, planned: PlannedAttack) -> Path | None:
        if self.folder is None or not self.config.save_adv or isinstance(planned.attack, Clean):
            return None
        return self.folder / "adversarial" / f"{file_name(planned.id)}.npz"

    def _read_finished(self, folder: Path) -> Outcomes:
        try:
            outcomes = Outcomes.load(folder)
        except UserError as reason:
            raise UserError(
                f"{folder} holds a finished run, but its outcomes.parquet is missing or "
                "damaged. Remove the folder to run it again, or choose another with --out."
            ) from reason
        FolderShards(folder / "units").discard()  # left by a run killed at its very end
        return outcomes

    def _choose_search(self, context: EvalContext) -> dict[str, Any]:
        """What attacks are to search with, for the manifest, before the first of them begins: a
        choice by time would be another one for the same run continued."""
        images = int(_SHARE * self._passes_left() / (TIMING_PASSES * (1 + len(PRECISIONS))))
        images = min(images, context.batch_size, len(self.data))
        images = images if images >= _FEWEST_TIMED else 0
        asked = self.config.search_precision
        task = partial(Worker.choose_search, asked=asked, images=images)
        chosen: dict[str, Any] = {}
        carry_out([iter([[ScheduledTask(context, task, chosen.update)]])], self.executor)
        if asked in PRECISIONS and chosen["search"]["precision"] != asked:
            self.reporter.note(
                f"warning: {self.name} cannot be searched in {asked}, its output is another one "
                f"there or none; searching in {SINGLE}"
            )
        return chosen

    def _passes_left(self) -> float:
        """Of the whole run if no image survives the hardest attack, a backward pass as two."""
        run = Remaining(self.plan, len(self.data), self.data.num_classes)
        run.guess(largest_threat(self.plan).eps, standing=0.0)
        return run.left()

    def _diagnosis(
        self,
        manifest: dict[str, Any],
        context: EvalContext,
        remaining: Remaining,
        by_gradient: bool,
    ) -> Iterator[list[ScheduledTask]]:
        """Diagnose the network; keep the findings in the manifest."""
        largest = largest_threat(self.plan)

        def foresee() -> None:
            """Of the images that PGD left right: none of 33 still means a few of all."""
            found = [look_up(manifest, f"diagnosis.loss.{key}") for key in ("n", "standing")]
            images, standing = found
            if isinstance(images, int) and isinstance(standing, int):
                remaining.guess(largest.eps, (standing + 0.1) / (images + 0.2))

        def keep(found: Mapping[str, Any]) -> None:
            manifest.update(found)
            foresee()
            if self.folder is not None:
                self._write_manifest(manifest)

        if "diagnosis" in manifest:
            foresee()
        else:
            most = min(max(len(self.data) // _DIAGNOSED, _FEWEST_DIAGNOSED), SAMPLE)
            sample = int(_SHARE * self._passes_left() / PASSES[by_gradient])
            sample = min(max(sample, _FEWEST), most)
            task = partial(
                Worker.diagnose, threat=largest, by_gradient=by_gradient, sample=sample, most=most
            )
            yield [ScheduledTask(context, task, keep)]

    def _finish(self, manifest: Mapping[str, Any], attacks: Sequence[AttackRun]) -> None:
        tables = [attack.table for attack in attacks if attack.table is not None]
        assert len(tables) == len(attacks)
        audits = {
            attack.planned.id: self.data.indices_N[attack.audited].tolist()
            for attack in attacks
            if attack.audited is not None
        }
        clean = [attack.clean_cost() for attack in attacks]
        finished = {
            **manifest,
            "status": "finished",
            "finished": now(),
            "cost": {
                "clean logits": {key: sum(cost[key] for cost in clean) for key in clean[0]},
                **{attack.planned.id: attack.cost() for attack in attacks},
            },
            "batch_sizes_used": sorted({size for each in attacks for size in each.batch_sizes}),
            **({"audits": audits} if audits else {}),
        }
        outcomes = Outcomes(conform(concatenate(tables)), finished)
        if self.folder is not None:
            outcomes.save(self.folder)
            FolderShards(self.folder / "units").discard()
        self._end_with(outcomes)

    def _end_with(self, outcomes: Outcomes) -> None:
        self.result = outcomes
        self.on_finished(outcomes)

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        assert self.folder is not None
        make_folder(self.folder)
        write_atomically(self.folder / RECORD, with_checksum(manifest))
        if self.config.save_adv:
            make_folder(self.folder / "adversarial")
