"""A run: every attack on every image, stage by stage, in units that survive a crash.

Writes outcomes and nothing else; figures are made from them later.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ferd_eval.attacks import Cascade, PlannedAttack, Threat
from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.evaluation.attack_run import AttackRun
from ferd_eval.evaluation.cost.eta import Remaining
from ferd_eval.evaluation.cost.model import operations, search_unit
from ferd_eval.evaluation.diagnostics import SAMPLE
from ferd_eval.evaluation.execution.executor import Examine, Executor, ScheduledTask, TaskBatches
from ferd_eval.evaluation.execution.rows import concatenate
from ferd_eval.evaluation.execution.worker import EvalContext
from ferd_eval.evaluation.model_checks import (
    check_network,
    dtype_of,
    memory_format_of,
    need_gradient,
)
from ferd_eval.evaluation.shards import FolderShards, ShardStore, UnwrittenShards
from ferd_eval.io.epsilon import format_quantity
from ferd_eval.io.files import make_folder, write_atomically
from ferd_eval.io.json import with_checksum
from ferd_eval.io.lock import now
from ferd_eval.results.manifest import environment, look_up, read_manifest, require_same_run
from ferd_eval.results.outcomes import Outcomes, conform
from ferd_eval.runtime.progress import ProgressReporter

#: Images per forward pass under ``auto``, for 32×32 colour images; halved when memory runs out.
AUTO_BATCH = {"cpu": 128, "cuda": 1024, "mps": 256}
_CIFAR_PIXELS = 32 * 32

#: A unit of a plain attack holds at least this many images, so that small batches do not make
#: thousands of files.
_UNIT_IMAGES = 128

#: Most bytes of the perturbed images of a unit, which are kept until it is written.
_UNIT_BYTES = 2**30

#: One image in so many is looked at in the diagnosis, from `_FEWEST_DIAGNOSED` to its own limit: it
#: must not take longer than what it is to tell the worth of.
_DIAGNOSED, _FEWEST_DIAGNOSED = 10, 32


@dataclass(eq=False)
class EvalRun:
    """One network on one data set under a list of attacks.

    Attributes:
        executor: who does the work; it says on what kind of device.
        beside: what is left of the jobs that go on at the same time.
        seconds: what an image costs each attack, for the time left
            (`ferd_eval.evaluation.cost.model.seconds_per_image`); None counts passes.
        title: put before each line of progress; empty for a job that goes on alone.
        remark: what seems to be wrong with the network, said before hours of attacks.
        told: called with the outcomes, once all errands are done.
        result: these.
    """

    model: nn.Module
    data: LabelledImages
    plan: tuple[PlannedAttack, ...]
    seed: int
    batch_size: int | None
    executor: Executor
    folder: Path | None
    save_adv: bool
    fold: bool
    facts: Mapping[str, Any]
    watcher: ProgressReporter
    beside: list[Remaining] = field(default_factory=list)
    seconds: Mapping[str, float] | None = None
    title: str = ""
    remark: str | None = None
    told: Callable[[Outcomes], None] | None = None
    result: Outcomes | None = None

    def errands(self) -> list[TaskBatches]:
        """What is not yet done, to be carried out in any order; the last one makes the result.

        A finished folder is read, and nothing in it changes.
        """
        check_network(self.model, self.data, dtype_of(self.model), by_gradient=self._by_gradient)
        manifest = self._manifest()
        store: ShardStore = UnwrittenShards()
        if self.folder is not None:
            earlier = read_manifest(self.folder)
            if earlier is not None:
                require_same_run(earlier, manifest, self.folder)
                if earlier["status"] == "finished":
                    self._end_with(self._read_finished())
                    return []
                manifest = earlier
            self._write_manifest(manifest)
            store = FolderShards(self.folder / "units")
        if self.remark and len(self.plan) > 1:
            self.watcher.note(f"warning: {self.name}: {self.remark}")
        if count := store.count():
            self.watcher.note(f"{self.name}: continuing after {count} finished units")
        remaining = Remaining(
            self.plan, len(self.data), self.data.num_classes, self.seconds, self.beside
        )
        context = EvalContext(
            self.model,
            self.data,
            self.seed,
            manifest["batch_size"],
            manifest["unit_images"],
            fold=self.fold and any(isinstance(each.attack, Cascade) for each in self.plan),
        )
        parts = [
            AttackRun(
                planned,
                self.data,
                manifest,
                self.folder,
                store,
                context,
                remaining,
                self.watcher,
                self.title,
            )
            for planned in self.plan
        ]
        todo = [self._examination(manifest, context, remaining), *(part.orders() for part in parts)]
        left = len(todo)

        def counted(errand: TaskBatches) -> TaskBatches:
            nonlocal left
            yield from errand
            left -= 1
            if not left:
                self._finish(manifest, parts)

        return [counted(errand) for errand in todo]

    @property
    def name(self) -> str:
        """What people call the network."""
        return str(self.facts.get("checkpoint", {}).get("name", type(self.model).__name__))

    @cached_property
    def _by_gradient(self) -> bool:
        return need_gradient(self.plan, self.data)

    def _read_finished(self) -> Outcomes:
        assert self.folder is not None
        try:
            outcomes = Outcomes.load(self.folder)
        except UserError as reason:
            raise UserError(
                f"{self.folder} holds a finished run, but its outcomes.parquet is missing or "
                "damaged. Remove the folder to run it again, or choose another with --out."
            ) from reason
        FolderShards(self.folder / "units").discard()  # left by a run killed at its very end
        return outcomes

    def _examination(
        self, manifest: dict[str, Any], context: EvalContext, remaining: Remaining
    ) -> Iterator[list[ScheduledTask]]:
        """What masks gradients, and what became of the batch norms; kept in the manifest."""
        largest = max((planned.threat for planned in self.plan), key=lambda threat: threat.eps)
        if "diagnosis" in manifest:
            _foresee(remaining, largest, manifest["diagnosis"])
            return
        sample = min(max(len(self.data) // _DIAGNOSED, _FEWEST_DIAGNOSED), SAMPLE)

        def keep(found: Mapping[str, Any]) -> None:
            manifest.update(found)
            _foresee(remaining, largest, manifest["diagnosis"])
            if self.folder is not None:
                self._write_manifest(manifest)

        yield [ScheduledTask(context, Examine(largest, self._by_gradient, sample), keep)]

    def _finish(self, manifest: Mapping[str, Any], parts: Sequence[AttackRun]) -> None:
        tables = [part.table for part in parts if part.table is not None]
        assert len(tables) == len(parts)
        audits = {
            part.planned.id: self.data.indices_N[part.audited].tolist()
            for part in parts
            if part.audited is not None
        }
        clean = [part.clean_cost() for part in parts]
        finished = {
            **manifest,
            "status": "finished",
            "finished": now(),
            "cost": {
                "clean logits": {key: sum(cost[key] for cost in clean) for key in clean[0]},
                **{part.planned.id: part.cost() for part in parts},
            },
            "batch_sizes_used": sorted({size for part in parts for size in part.batch_sizes}),
            **({"audits": audits} if audits else {}),
        }
        outcomes = Outcomes(conform(concatenate(tables)), finished)
        if self.folder is not None:
            outcomes.save(self.folder)
            FolderShards(self.folder / "units").discard()
        self._end_with(outcomes)

    def _end_with(self, outcomes: Outcomes) -> None:
        self.result = outcomes
        if self.told is not None:
            self.told(outcomes)

    def _manifest(self) -> dict[str, Any]:
        batch_size = self.batch_size or _auto_batch(self.executor.choice.device, self.data)
        known = (self.facts.get("checkpoint") or {}).get("sha256")
        digest = known or _weights_digest(self.model)
        manifest = {
            "status": "running",
            "started": now(),
            "finished": None,
            **environment(),
            "command": [],
            "checkpoint": {"name": type(self.model).__name__, "path": None, "sha256": digest},
            "model": {
                "architecture": type(self.model).__name__,
                "decided_by": "given as a torch module",
                "parameters": sum(p.numel() for p in self.model.parameters()),
            },
            "dataset": self.data.describe(),
            "threat": _describe_threats(self.plan),
            "attacks": {planned.id: planned.describe() for planned in self.plan},
            "engine": "native",
            "seed": self.seed,
            "precision": {
                "dtype": str(dtype_of(self.model)).removeprefix("torch."),
                "tf32": False,
                "memory_format": str(memory_format_of(self.model)).removeprefix("torch."),
                "searches_fold_batchnorm": self.fold,
            },
            "device": self.executor.choice.describe(),
            "batch_size": batch_size,
            "batch_size_asked": self.batch_size or "auto",
            "unit_images": -(-max(batch_size, _UNIT_IMAGES) // batch_size) * batch_size,
            "search_unit_images": self._search_unit(batch_size),
            "save_adv": self.save_adv,
            "warnings": [],
        }
        for key, value in self.facts.items():
            merge = isinstance(value, Mapping) and isinstance(manifest.get(key), dict)
            manifest[key] = {**manifest[key], **value} if merge else value
        manifest["warnings"] = [
            *self.data.cautions,
            *manifest["warnings"],
            *_few_classes(self.plan, self.data),
        ]
        return manifest

    def _search_unit(self, batch_size: int) -> int | None:
        """Images in a unit of a cascade, None where there is no cascade."""
        attacks = [
            attack
            for planned in self.plan
            if isinstance(planned.attack, Cascade)
            for attack in planned.attack.stages + planned.attack.audits
        ]
        if not attacks:
            return None
        at_once = min(attack.images_at_once(batch_size) for attack in attacks)
        if at_once == batch_size:  # batches that must be as they are asked for
            return batch_size
        at_once = min(at_once, _UNIT_BYTES // (4 * math.prod(self.data.image_shape)))
        each = [attack.passes_per_image(self.data.num_classes) for attack in attacks]
        passes = max(forward + 2 * backward for forward, backward in each)
        where = next(self.model.parameters(), torch.empty(0)).device
        x_BCHW = torch.zeros(1, *self.data.image_shape, dtype=dtype_of(self.model), device=where)
        kind = self.executor.choice.device.type
        return search_unit(operations(self.model, x_BCHW), passes, kind, at_once)

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        assert self.folder is not None
        make_folder(self.folder)
        write_atomically(self.folder / "manifest.json", with_checksum(manifest))
        if self.save_adv:
            make_folder(self.folder / "adversarial")


def _foresee(remaining: Remaining, largest: Threat, diagnosis: Any) -> None:
    """What PGD left standing on a few images tells of what is left to do.

    None of 33 still means a few of all: a fifth of an image is added, and half of it stands.
    """
    images, standing = (look_up(diagnosis, path) for path in ("loss.n", "loss.standing"))
    if isinstance(images, int) and isinstance(standing, int):
        remaining.guess(largest.eps, (standing + 0.1) / (images + 0.2))


def _few_classes(plan: Sequence[PlannedAttack], data: LabelledImages) -> list[str]:
    families = {attack.family for planned in plan for attack in planned.attacks}
    if "apgd-t" not in families or data.num_classes >= 4:
        return []
    return [
        f"AutoAttack's targeted loss needs four classes; with {data.num_classes} the plain "
        "difference of two logits stood in for it, so this is not AutoAttack standard."
    ]


def _auto_batch(device: torch.device, data: LabelledImages) -> int:
    _, height, width = data.image_shape
    size = AUTO_BATCH.get(device.type, 128)
    while size > 1 and size * height * width > 2 * AUTO_BATCH.get(device.type, 128) * _CIFAR_PIXELS:
        size //= 2
    return size


def _describe_threats(plan: Sequence[PlannedAttack]) -> dict[str, Any]:
    largest = max((planned.threat for planned in plan), key=lambda threat: threat.eps)
    return {
        "norm": largest.norm,
        "eps": largest.radius,
        "eps_text": format_quantity(largest.eps),
    }


def _weights_digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()
