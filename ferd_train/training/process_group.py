"""Several processes on one batch, started by ``torchrun``; usually there is only one.

Every process holds the same networks and its own rows of each batch. Small tensors, such as logits,
are gathered, and each process continues with the whole batch as if it were alone: a loss of it is
the whole batch's, and so is the gradient with respect to anything gathered. Images stay where they
were made. Gradients with respect to parameters cover a process's own rows, until `sum_gradients`.

All processes must make the same communicating calls, in the same order. B the whole batch's rows,
O the process's own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from ferd_eval.errors import UserError
from ferd_eval.runtime.device import DeviceChoice, choose_device

# The first process may validate or download images meanwhile.
_PATIENCE = timedelta(hours=1)
# Seconds for a failed process to say why, before the end of another stops it.
_GRACE = 5


@dataclass(frozen=True)
class Workers:
    """The processes that train one network, as one of them sees them; a single one sends nothing.

    `local_rank` is the rank on this machine, and the number of the GPU if there are any.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes and prints."""
        return self.rank == 0

    def choose_device(self, wanted: str) -> DeviceChoice:
        """As the benchmark's, except that each of several processes takes its own GPU.

        Raises:
            UserError: the device is missing, or cannot be shared by several processes.
        """
        if self.count == 1:
            return choose_device(wanted)
        if wanted not in ("auto", "cuda", "cpu"):
            raise UserError(
                f"--device {wanted} is not for {self.count} processes; give cuda, which is a GPU "
                "for each, or cpu."
            )
        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        choice = choose_device(f"cuda:{self.local_rank}" if wanted == "cuda" else wanted)
        if choice.device.type == "cuda":
            torch.cuda.set_device(choice.device)
        return DeviceChoice.here(choice.device, f"one of {self.count} processes")

    def share(self, total: int) -> BatchShard:
        """This process's share of batches of `total` rows.

        Raises:
            UserError: some process would have none.
        """
        if total < self.count:
            raise UserError(
                f"batch_size is {total}, too little for {self.count} processes; start fewer, or "
                "raise it."
            )
        return BatchShard(self, total)

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.count > 1:
            distributed.all_reduce(torch.zeros(()))

    @contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first process runs the block before the others, who may read what it wrote."""
        if not self.is_first:
            self.wait()
        yield
        if self.is_first:
            self.wait()

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all processes, without gradient."""
        total = x.detach().clone()
        if self.count > 1:
            distributed.all_reduce(total)
        return total

    def any(self, *truths: bool) -> list[bool]:
        """For each, whether it is true on any process."""
        return [bool(count) for count in self.sum(torch.tensor(truths, dtype=torch.int64))]

    def exchange(self, x_N: Tensor) -> list[Tensor]:
        """The tensors of all processes, by rank: on the CPU, N numbers of its own."""
        if self.count == 1:
            return [x_N]
        size_W = torch.zeros(self.count, dtype=torch.int64)
        size_W[self.rank] = len(x_N)
        sizes = self.sum(size_W).tolist()
        x_WN = x_N.new_zeros(self.count, max(sizes))
        x_WN[self.rank, : len(x_N)] = x_N
        return [row_N[:size].clone() for row_N, size in zip(self.sum(x_WN), sizes, strict=True)]

    def sum_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Add up each parameter's gradients; those without one must be without on all processes."""
        gradients = [each.grad for each in parameters if each.grad is not None]
        if self.count == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


#: The usual case.
ALONE = Workers()


@dataclass(frozen=True)
class BatchShard:
    """A process's own rows of a batch: consecutive, as many as the others have or one more.

    Attributes:
        workers: who share the batch.
        total: its rows; ignored for a single process.
    """

    workers: Workers = ALONE
    total: int = 0

    @property
    def rows(self) -> slice:
        if self.workers.count == 1:
            return slice(None)
        rank, count = self.workers.rank, self.workers.count
        return slice(rank * self.total // count, (rank + 1) * self.total // count)

    @property
    def fraction(self) -> float:
        return 1.0 if self.workers.count == 1 else len(range(self.total)[self.rows]) / self.total

    def own(self, x_B: Tensor) -> Tensor:
        """Own rows of a tensor that all processes hold: B×… to O×… ."""
        return x_B[self.rows]

    def places(self, x_O: Tensor) -> Tensor:
        """Places in the whole batch of the rows of `x_O`, on its device; O integers."""
        first = self.rows.start or 0
        return torch.arange(first, first + len(x_O), device=x_O.device)

    def gather(self, x_O: Tensor) -> Tensor:
        """The rows of all processes, O×… to B×…; the gradient is that of its own."""
        if self.workers.count == 1:
            return x_O
        own = self.rows.stop - self.rows.start
        assert len(x_O) == own, f"{len(x_O)} rows are not the process's {own}"
        gathered_B: Tensor = _Gather.apply(x_O, self)
        return gathered_B

    def normal(self, shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
        """Standard normal numbers for the own rows, O×…, drawn for the whole batch.

        Dtype and device are as of `like`; the generator is there, in the same state on all
        processes.
        """
        rows = shape[0] if self.workers.count == 1 else self.total
        return self.own(
            torch.randn(
                (rows, *shape[1:]), generator=generator, dtype=like.dtype, device=like.device
            )
        )


#: All rows of any batch, of a process alone.
WHOLE = BatchShard()


class _Gather(torch.autograd.Function):
    """Sums own rows among zeros: shards may differ in size, and adding zeros is exact."""

    @staticmethod
    def forward(ctx: Any, x_O: Tensor, share: BatchShard) -> Tensor:
        ctx.rows = share.rows
        x_B = x_O.new_zeros((share.total, *x_O.shape[1:]))
        x_B[share.rows] = x_O
        distributed.all_reduce(x_B)
        return x_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_B: Tensor) -> tuple[Tensor, None]:
        return gradient_B[ctx.rows], None


@contextmanager
def join() -> Iterator[Workers]:
    """The processes that ``torchrun`` started together, else this one alone.

    An error of one process ends all: the first error is raised here, to be reported once; the other
    processes end silently.

    Raises:
        SystemExit: another process failed before.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield ALONE
        return
    store, rank, count = next(iter(rendezvous("env://")))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        store=store,
        rank=rank,
        world_size=count,
        timeout=_PATIENCE,
    )
    workers = Workers(rank, count, int(os.environ.get("LOCAL_RANK", rank)))
    try:
        yield workers
        # All leave together: one that goes while another still has the group open may be aborted.
        workers.wait()
    except BaseException:
        if _fails_first(store):
            raise
        time.sleep(_GRACE)
        raise SystemExit(1) from None
    distributed.destroy_process_group()


def _fails_first(store: Store) -> bool:
    try:
        return bool(store.add("failed", 1) == 1)
    except RuntimeError:  # it was kept by the process that failed
        return False
