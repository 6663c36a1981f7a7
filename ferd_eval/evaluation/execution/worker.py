"""Sends the images of a shard through an attack, in batches that fit into memory.

N data set, P positions, B batch, C channels, K classes, H × W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferd_eval.attacks import Attack, Batch, Passes, SearchNetwork, Threat, Verdicts, frozen
from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError, brief
from ferd_eval.evaluation.diagnostics import diagnose
from ferd_eval.evaluation.execution.likenesses import Likenesses
from ferd_eval.evaluation.execution.rows import concatenate, rows_of
from ferd_eval.evaluation.model_checks import as_images, as_logits
from ferd_eval.evaluation.shards import Shard
from ferd_eval.results.outcomes import conform
from ferd_eval.runtime.device import is_out_of_memory, seed_torch
from ferd_eval.runtime.malloc import give_back_freed_memory

#: Images on which a network's likenesses are compared with it.
_COMPARED = 64


@dataclass(frozen=True, eq=False)
class EvalContext:
    """A network and images, with all that decides the outcome of an attack on them."""

    model: nn.Module
    data: LabelledImages
    seed: int  #: random seed
    batch_size: int  #: images per pass, to begin with; halved where memory runs out
    #: Clean logits are made for so many neighbours, whichever of them is attacked: equal bits.
    block: int
    fold: bool  #: let attacks look for hits with batch norms fused; `model` decides


class Worker:
    """Runs tasks in one context, on one device."""

    def __init__(
        self, context: EvalContext, device: torch.device, note: Callable[[str], None]
    ) -> None:
        self.context, self.device = context, device
        self._note = note
        self._clean_logits_NK: Tensor | None = None
        self._clean_blocks: set[int] = set()
        self._clean_cost: dict[Hashable, float] = {"clean_seconds": 0.0, "clean_forward": 0}

    @cached_property
    def _likenesses(self) -> Likenesses:
        few_B = np.arange(min(_COMPARED, len(self.context.data)))
        logits_BK = self.clean_logits(few_B).to(self.device)
        images_BCHW = self.images(few_B)
        return Likenesses(self.context.model, images_BCHW, logits_BK, fold=self.context.fold)

    def choose_search(self, asked: str, images: int) -> dict[str, Any]:
        """See `Likenesses.choose`; times passes on the first of the images."""
        return self._likenesses.choose(asked, self.images(np.arange(images)))

    def attack(
        self, shard: Shard, attack: Attack, threat: Threat, *, precision: str, keep_images: bool
    ) -> tuple[pd.DataFrame, NDArray[np.float32] | None]:
        """Rows of a shard with their cost in `attrs`, and its perturbed images.

        Attacks that may, search in this precision, see `Likenesses`.
        """
        began, passes = time.perf_counter(), Passes()
        positions_P = np.asarray(shard.positions, dtype=np.int64)
        clean_PK = self.clean_logits(positions_P)
        frames: list[pd.DataFrame] = []
        images: list[NDArray[np.float32]] = []

        def part(start: int, stop: int, size: int) -> None:
            batch = self._batch(positions_P[start:stop], clean_PK[start:stop])
            search = self._likenesses.get(precision) if attack.proposes else None
            verdicts = self._perturb(shard.attack, attack, batch, threat, passes, size, search)
            frames.append(rows_of(batch, verdicts, shard.attack))
            if keep_images:
                images.append(verdicts.adv_RCHW.float().cpu().numpy())

        size = self._in_batches(len(shard), attack.images_at_once, part)
        rows = conform(concatenate(frames))
        rows.attrs = {
            "seconds": time.perf_counter() - began,
            "forward": passes.forward,
            "backward": passes.backward,
            "batch_size": size,
            **self._clean_cost,
        }
        self._clean_cost = dict.fromkeys(self._clean_cost, 0)
        give_back_freed_memory()
        return rows, np.concatenate(images) if keep_images else None

    def diagnose(
        self, threat: Threat, *, by_gradient: bool, sample: int, most: int
    ) -> dict[str, Any]:
        """``diagnosis``: of `sample` images, of `most` where something looks odd, by gradient or
        not."""
        diagnosis = diagnose(
            self.context.model,
            self.context.data,
            threat,
            seed=self.context.seed,
            batch_size=self.context.batch_size,
            device=self.device,
            by_gradient=by_gradient,
            sample=sample,
            most=most,
        )
        return {"diagnosis": diagnosis}

    def clean_logits(self, positions_P: NDArray[np.int64]) -> Tensor:
        """Output on clean images, on the CPU, P×K; UserError where it is NaN or infinity."""
        for block in sorted(set((positions_P // self.context.block).tolist())):
            if block not in self._clean_blocks:
                self._make_clean_logits(block)
        assert self._clean_logits_NK is not None, "a shard has images"
        return self._clean_logits_NK[torch.from_numpy(positions_P)]

    def images(self, positions_P: NDArray[np.int64]) -> Tensor:
        """Pixels in [0, 1], on the device, in the network's precision and layout."""
        return as_images(
            self.context.data.images_NCHW[positions_P], self.context.model, self.device
        )

    def _perturb(
        self,
        name: str,
        attack: Attack,
        batch: Batch,
        threat: Threat,
        passes: Passes,
        size: int,
        search: SearchNetwork | None,
    ) -> Verdicts:
        try:
            return attack(
                self.context.model,
                batch,
                threat,
                seed=self.context.seed,
                passes=passes,
                slots=size,
                search=search,
            )
        except UserError:
            raise
        except Exception as error:
            if is_out_of_memory(error) or _is_ours(attack):
                raise
            raise UserError(
                f"the attack {name} failed with {brief(error)}. Mend its perturb(); --debug shows "
                "where; finished shards are kept."
            ) from error

    def _batch(self, positions_B: NDArray[np.int64], clean_logits_BK: Tensor) -> Batch:
        return Batch(
            x_BCHW=self.images(positions_B),
            labels_B=torch.from_numpy(self.context.data.labels_N[positions_B]).to(self.device),
            indices_B=torch.from_numpy(self.context.data.indices_N[positions_B]).to(self.device),
            clean_logits_BK=clean_logits_BK.to(self.device),
        )

    def _make_clean_logits(self, block: int) -> None:
        began, first = time.perf_counter(), block * self.context.block
        positions_P = np.arange(first, min(first + self.context.block, len(self.context.data)))

        def part(start: int, stop: int, _: int) -> None:
            with frozen(self.context.model), torch.no_grad():
                seed_torch(self.context.seed)  # a randomised network is to repeat itself too
                output = self.context.model(self.images(positions_P[start:stop]))
            logits_BK = as_logits(output, stop - start)
            if not bool(logits_BK.isfinite().all()):
                raise UserError(
                    f"the network returns NaN or infinity for clean images {first + start} to "
                    f"{first + stop - 1}: the checkpoint is damaged, or --normalize does not "
                    "belong to it."
                )
            if self._clean_logits_NK is None:  # one for all: see `GatheredRows`
                shape = len(self.context.data), logits_BK.shape[1]
                self._clean_logits_NK = torch.empty(shape, dtype=logits_BK.dtype)
            self._clean_logits_NK[positions_P[start] : positions_P[stop - 1] + 1] = logits_BK.cpu()
            self._clean_cost["clean_forward"] += stop - start

        self._in_batches(len(positions_P), lambda size: size, part)
        self._clean_cost["clean_seconds"] += time.perf_counter() - began
        self._clean_blocks.add(block)

    def _in_batches(
        self, count: int, stride: Callable[[int], int], work: Callable[[int, int, int], None]
    ) -> int:
        """Call ``work(start, stop, size)`` up to `count`, halving what does not fit; return the
        last size."""
        start, size = 0, self.context.batch_size
        while start < count:
            stop = min(start + stride(size), count)
            try:
                work(start, stop, size)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                size = self._halve(size)
                continue
            start = stop
        return size

    def _halve(self, size: int) -> int:
        if size == 1:
            raise UserError(
                "not even one image fits into memory. Use another --device, or free memory on "
                "this one; finished shards are kept."
            )
        self._note(f"out of memory at batch size {size}; going on with {size // 2}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return size // 2


def _is_ours(attack: Attack) -> bool:
    return type(attack).__module__.partition(".")[0] == __name__.partition(".")[0]
