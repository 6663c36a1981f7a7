"""Where the network runs, and with which arithmetic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch

from ferd_eval.errors import UserError, did_you_mean


@dataclass(frozen=True)
class DeviceChoice:
    """A device, why it was chosen, the hardware's name, and the threads of a CPU."""

    device: torch.device
    reason: str
    name: str
    threads: int

    @classmethod
    def here(cls, device: torch.device, reason: str) -> DeviceChoice:
        return cls(device, reason, device_name(device), torch.get_num_threads())

    def describe(self) -> dict[str, str | int]:
        """Facts for the manifest."""
        cuda = torch.version.cuda if self.device.type == "cuda" else None
        return {
            "kind": self.device.type,
            "name": self.name,
            "reason": self.reason,
            "threads": self.threads,
            **({"cuda": cuda} if cuda else {}),
        }


def choose_device(wanted: str = "auto") -> DeviceChoice:
    """Resolve ``auto`` (CUDA, else MPS, else CPU) or a torch device string.

    Raises:
        UserError: the device is unknown or absent.
    """
    if wanted == "auto":
        kind, why = "cpu", "neither CUDA nor MPS is present"
        if torch.cuda.is_available():
            kind, why = "cuda", "a CUDA device is present"
        elif torch.backends.mps.is_available():
            kind, why = "mps", "no CUDA device, Apple MPS is present"
        return DeviceChoice.here(torch.device(kind), f"auto: {why}")
    try:
        device = torch.device(wanted)
    except RuntimeError as reason:
        hint = did_you_mean(wanted.partition(":")[0], ("auto", "cpu", "cuda", "mps"))
        raise UserError(f"--device {wanted} is no device.{hint}") from reason
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as reason:
        why = str(reason).splitlines()[0].partition(":")[0]
        raise UserError(
            f"--device {wanted} cannot be used here ({why}). Use --device auto, cpu or cuda."
        ) from reason
    return DeviceChoice.here(device, "named by the user")


def device_name(device: torch.device) -> str:
    """Human name of the hardware."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return {"cpu": torch.backends.cpu.get_cpu_capability(), "mps": "Apple MPS"}.get(
        device.type, device.type
    )


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Full-precision, repeatable kernels: TF32 off, cuDNN deterministic; restored on leaving."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark)
    matmul.allow_tf32 = cudnn.allow_tf32 = cudnn.benchmark = False
    cudnn.deterministic = True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark = before


@cache
def _has_accelerator() -> bool:
    return bool(torch.accelerator.is_available())


def seed_torch(seed: int) -> None:
    """`torch.manual_seed` without its cost on a machine that has only a CPU.

    There it files a traceback for each kind of device that might yet be initialised.
    """
    if _has_accelerator():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def settled_time(device: torch.device) -> float:
    """Seconds of the clock once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error is the allocator's, on any device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        phrase in str(error)
        for phrase in ("out of memory", "can't allocate memory", "alloc failed", "ALLOC_FAILED")
    )
