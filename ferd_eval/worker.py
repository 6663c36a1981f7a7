"""Sends the images of a unit through an attack, in batches that fit into memory.

N data set, P positions, B batch, C channels, K classes, H × W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferd_eval.acceptance import as_images, as_logits
from ferd_eval.attacks import Attack, Batch, Passes, SearchAttack, Threat, Verdicts, frozen
from ferd_eval.datasets import LabelledImages
from ferd_eval.device import is_out_of_memory
from ferd_eval.errors import UserError
from ferd_eval.ledger import concatenate, rows_of
from ferd_eval.progress import Watcher
from ferd_eval.units import Unit
from ferd_eval.user_code import brief


@dataclass(eq=False)
class Worker:
    """One network and one data set on one device.

    Attributes:
        batch_size: images per pass, to begin with; halved where memory runs out.
        block: clean logits are made for this many neighbours at a time, so that they are the same
            to the bit whichever images are attacked and in which order.
        search_with: what the searches of a cascade look for hits with; `model` decides.
        clean_cost: what the clean logits cost.
    """

    model: nn.Module
    data: LabelledImages
    device: torch.device
    seed: int
    batch_size: int
    block: int
    watcher: Watcher
    search_with: nn.Module
    clean_cost: dict[str, float] = field(
        default_factory=lambda: {"seconds": 0.0, "forward": 0, "backward": 0}
    )
    _clean_logits: dict[int, Tensor] = field(default_factory=dict)

    def attack(
        self, unit: Unit, attack: Attack, threat: Threat
    ) -> tuple[pd.DataFrame, NDArray[np.float32]]:
        """Rows of a unit with what they cost in their `attrs`, and its perturbed images."""
        began, passes = time.perf_counter(), Passes()
        positions_P = np.asarray(unit.positions, dtype=np.int64)
        clean_PK = self.clean_logits(positions_P)
        frames: list[pd.DataFrame] = []
        images: list[NDArray[np.float32]] = []

        def part(start: int, stop: int, size: int) -> None:
            batch = self._batch(positions_P[start:stop], clean_PK[start:stop])
            verdicts = self._perturb(unit.attack, attack, batch, threat, passes, size)
            rows, adv_RCHW = rows_of(batch, verdicts, unit.attack), verdicts.adv_RCHW.float().cpu()
            frames.append(rows)
            images.append(adv_RCHW.numpy())

        size = self._in_batches(len(unit), attack.images_at_once, part)
        rows = concatenate(frames)
        rows.attrs = {
            "seconds": time.perf_counter() - began,
            "forward": passes.forward,
            "backward": passes.backward,
            "batch_size": size,
        }
        return rows, np.concatenate(images)

    def clean_logits(self, positions_P: NDArray[np.int64]) -> Tensor:
        """Output on clean images, on the CPU, P×K.

        Raises:
            UserError: the network returns NaN or infinity for a clean image.
        """
        for block in sorted(set((positions_P // self.block).tolist())):
            if block not in self._clean_logits:
                self._clean_logits[block] = self._block_logits(block)
        return torch.stack(
            [self._clean_logits[p // self.block][p % self.block] for p in positions_P.tolist()]
        )

    def images(self, positions_P: NDArray[np.int64]) -> Tensor:
        """Pixels in [0, 1], on the device, in the network's precision and layout."""
        return as_images(self.data.images_NCHW[positions_P], self.model, self.device)

    def _perturb(
        self,
        name: str,
        attack: Attack,
        batch: Batch,
        threat: Threat,
        passes: Passes,
        size: int,
    ) -> Verdicts:
        proposes = isinstance(attack, SearchAttack) and not attack.reference_stream
        try:
            return attack(
                self.model,
                batch,
                threat,
                seed=self.seed,
                passes=passes,
                lanes=size,
                search_with=self.search_with if proposes else None,
            )
        except UserError:
            raise
        except Exception as error:
            if is_out_of_memory(error) or _is_ours(attack):
                raise
            raise UserError(
                f"the attack {name} failed with {brief(error)}. Mend its perturb(); --debug shows "
                "where; finished units are kept."
            ) from error

    def _batch(self, positions_B: NDArray[np.int64], clean_logits_BK: Tensor) -> Batch:
        return Batch(
            x_BCHW=self.images(positions_B),
            labels_B=torch.from_numpy(self.data.labels_N[positions_B]).to(self.device),
            indices_B=torch.from_numpy(self.data.indices_N[positions_B]).to(self.device),
            clean_logits_BK=clean_logits_BK.to(self.device),
        )

    def _block_logits(self, block: int) -> Tensor:
        began, first = time.perf_counter(), block * self.block
        positions_P = np.arange(first, min(first + self.block, len(self.data)))
        pieces: list[Tensor] = []

        def part(start: int, stop: int, _: int) -> None:
            with frozen(self.model), torch.no_grad():
                torch.manual_seed(self.seed)  # a randomised network is to repeat itself too
                output = self.model(self.images(positions_P[start:stop]))
            logits_BK = as_logits(output, stop - start)
            if not bool(logits_BK.isfinite().all()):
                raise UserError(
                    f"the network returns NaN or infinity for clean images {first + start} to "
                    f"{first + stop - 1}: the checkpoint is damaged, or --normalize does not "
                    "belong to it."
                )
            pieces.append(logits_BK.cpu())
            self.clean_cost["forward"] += stop - start

        self._in_batches(len(positions_P), lambda size: size, part)
        self.clean_cost["seconds"] += time.perf_counter() - began
        return torch.cat(pieces)

    def _in_batches(
        self, count: int, stride: Callable[[int], int], work: Callable[[int, int, int], None]
    ) -> int:
        """Call ``work(start, stop, size)`` until `count` is reached; return the size in the end.

        A batch that does not fit into memory is halved and repeated.
        """
        start, size = 0, self.batch_size
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
                "this one; finished units are kept."
            )
        self.watcher.note(f"out of memory at batch size {size}; going on with {size // 2}")
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return size // 2


def _is_ours(attack: Attack) -> bool:
    return type(attack).__module__.partition(".")[0] == __name__.partition(".")[0]
