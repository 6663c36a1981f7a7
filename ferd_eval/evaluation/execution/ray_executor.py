"""Workers on many devices and machines, through Ray. The only place that knows Ray.

Moritz et al., "Ray: a distributed framework for emerging AI applications", OSDI 2018. Networks and
images are put into Ray's store once. A lost worker is replaced and its task repeated: the answer
does not depend on who computes it.
"""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch

from ferd_eval.errors import UserError
from ferd_eval.evaluation.execution.executor import Task
from ferd_eval.evaluation.execution.worker import EvalContext, Worker
from ferd_eval.results.manifest import ENVIRONMENT, environment, look_up
from ferd_eval.runtime.device import DeviceChoice, choose_device, exact_arithmetic
from ferd_eval.runtime.malloc import keep_freed_memory
from ferd_eval.runtime.plugins import MODULE_PREFIX

if TYPE_CHECKING:
    from ray import ObjectRef

#: Give up a task that costs so many workers, or a cluster that loses as many before they begin.
_LOSSES = 3

#: Seconds in which an address must answer.
_PROBE = 10.0

#: Seconds between two looks for machines that have joined.
_LOOK = 15.0

#: A worker keeps this many networks.
_CACHED = 2

#: Versions that workers must share with this process, for bit-equal results.
_VERSIONS = tuple(path for path in ENVIRONMENT if not path.startswith("device."))


class RayWorker:
    """Ray actor that owns one device, or one thread of a CPU."""

    def __init__(self, device: str) -> None:
        keep_freed_memory()
        torch.set_num_threads(1)
        self._choice = choose_device(device)
        self._workers: dict[int, Worker] = {}
        self._notes: list[str] = []

    def describe(self) -> tuple[DeviceChoice, dict[str, Any]]:
        """Its device, and its versions of `_VERSIONS`."""
        found = environment()
        return self._choice, {path: look_up(found, path) for path in _VERSIONS}

    def do(
        self, number: int, stored: Sequence[ObjectRef[Any]], task: Task
    ) -> tuple[Any, list[str], str | None]:
        """Carry out a task in a context, by its number; this worker may hold it already.

        Ray has stored the context without its images, and the images. Returns the answer, lines for
        the user, and the message of a `UserError` in place of an answer.
        """
        self._notes.clear()
        try:
            with exact_arithmetic():
                return task(self._at(number, stored)), [*self._notes], None
        except UserError as mistake:
            return None, [*self._notes], str(mistake)

    def _at(self, number: int, stored: Sequence[ObjectRef[Any]]) -> Worker:
        if number not in self._workers:
            while len(self._workers) >= _CACHED:
                del self._workers[next(iter(self._workers))]
            rest, data = (_ray().get(reference) for reference in stored)
            rest["model"].to(self._choice.device)
            context = EvalContext(**rest, data=data)
            self._workers[number] = Worker(context, self._choice.device, self._notes.append)
        return self._workers[number]


@dataclass(eq=False)
class _Member:
    """A worker as this process sees it: its task's number, and its device once it has come."""

    actor: Any
    device: str
    task: int | None = None
    choice: DeviceChoice | None = None


class RayExecutor:
    """Ray actors.

    Args:
        address: of a cluster; ``auto`` for one that runs already, else one on this machine; None
            for one on this machine with `devices`. If this process has joined Ray already, that is
            used in place of ``auto`` and None.
        devices: of the workers on this machine; else one for each GPU of the cluster or, where it
            has none, each CPU.
        note: called with lines for the user.

    Raises:
        UserError: Ray is missing, there is no such cluster, no worker comes, or one has other
            versions of what decides the bits.
    """

    def __init__(
        self, address: str | None, devices: Sequence[str] = (), *, note: Callable[[str], None]
    ) -> None:
        self._note, self._devices = note, devices
        self._ray, self._joined = join(address, len(devices))
        self._contexts: list[tuple[EvalContext, list[ObjectRef[Any]]]] = []
        self._tasks: dict[int, tuple[int, Task]] = {}
        self._losses: Counter[int | None] = Counter()
        self._again: deque[int] = deque()
        self._busy: dict[ObjectRef[Any], _Member] = {}
        self._idle: list[_Member] = []
        self._looked_at = 0.0
        try:
            self._hire()
            while not self._idle:
                self.wait()
            first = self._idle[0].choice
            assert first is not None
            count, name = len(self._busy) + len(self._idle), f"--cluster {address}"
            workers = f"{count} worker{'s' if count > 1 else ''} when it began"
            asked = name if address else f"--device {','.join(devices)}"
            self.choice = dataclasses.replace(first, reason=f"{asked}: {workers}")
        except BaseException:
            self.end()
            raise

    @property
    def ready(self) -> int:
        """Workers that wait for a task."""
        return len(self._idle)

    @property
    def has_room(self) -> bool:
        return bool(self._idle)

    def begin(self, number: int, context: EvalContext, task: Task) -> None:
        self._tasks[number] = self._store(context), task
        self._give(number)

    def wait(self) -> Sequence[tuple[int, Any]]:
        """Take on workers, replace lost ones, return answers; UserError where a task or all workers
        fail."""
        self._look_around()
        came, _ = self._ray.wait([*self._busy], num_returns=1, timeout=_LOOK)
        answers = []
        for reference in came:
            member = self._busy.pop(reference)
            try:
                found = self._ray.get(reference)
            except self._ray.exceptions.RayActorError as loss:
                self._replace(member, loss)
                continue
            except self._ray.exceptions.RaySystemError as reason:  # not to be unpacked there
                raise UserError(
                    f"a worker cannot load what it is to work on ({in_brief(reason)}). Put "
                    "your own modules where all machines can import them."
                ) from reason
            if member.choice is None:
                self._take_on(member, *found)
            else:
                answers.append(self._finish(member, *found))
            self._idle.append(member)
        while self._again and self._idle:
            self._give(self._again.popleft())
        return answers

    def end(self) -> None:
        """End the workers, and leave Ray if it was joined for them."""
        for member in [*self._busy.values(), *self._idle]:
            self._ray.kill(member.actor)
        self._busy.clear()
        self._idle.clear()
        if self._joined:
            self._ray.shutdown()

    def _give(self, number: int) -> None:
        """A task to the worker that has waited longest."""
        member = self._idle.pop(0)
        context, task = self._tasks[number]
        member.task = number
        self._busy[member.actor.do.remote(context, self._contexts[context][1], task)] = member

    def _finish(
        self, member: _Member, answer: Any, notes: Sequence[str], mistake: str | None
    ) -> tuple[int, Any]:
        """Number and answer of a member's task, which is done."""
        number, member.task = member.task, None
        assert number is not None
        for line in notes:
            self._note(line)
        if mistake is not None:
            raise UserError(mistake)
        del self._tasks[number]
        return number, answer

    def _store(self, context: EvalContext) -> int:
        """Number of a context, whose network and images are in Ray's store from now on."""
        for number, (known, _) in enumerate(self._contexts):
            if known is context:
                return number
        shared = [stored[1] for known, stored in self._contexts if known.data is context.data]
        images = shared[0] if shared else self._ray.put(context.data)
        names = [field.name for field in dataclasses.fields(context) if field.name != "data"]
        for module in [*sys.modules.values()]:  # workers cannot import the user's code
            if getattr(module, "__name__", "").startswith(MODULE_PREFIX):
                self._ray.cloudpickle.register_pickle_by_value(module)
        rest = self._ray.put({name: getattr(context, name) for name in names})
        self._contexts.append((context, [rest, images]))
        return len(self._contexts) - 1

    def _hire(self) -> None:
        """A worker for each device or CPU of the cluster that has none yet."""
        self._looked_at = time.monotonic()
        there = self._ray.cluster_resources()
        gpus, cpus = int(there.get("GPU", 0)), int(there.get("CPU", 0))
        wanted = self._devices or (["cuda"] * gpus if gpus else ["cpu"] * cpus)
        on_gpu = gpus > 0 and not self._devices
        worker = self._ray.remote(RayWorker).options(num_cpus=not on_gpu, num_gpus=int(on_gpu))
        taken = Counter(member.device for member in [*self._busy.values(), *self._idle])
        for device in (Counter(wanted) - taken).elements():
            actor = worker.remote(device)
            self._busy[actor.describe.remote()] = _Member(actor, device)

    def _look_around(self) -> None:
        """Use machines that have joined."""
        if time.monotonic() - self._looked_at > _LOOK:
            self._hire()
        if not self._busy:
            raise UserError(
                "the cluster has no CPU or GPU left to work on; see `ray status`. "
                "Finished shards are kept."
            )

    def _take_on(self, member: _Member, choice: DeviceChoice, versions: Mapping[str, Any]) -> None:
        """Check that a worker computes the same as the others."""
        found = environment()
        for path in _VERSIONS:
            if versions[path] != (ours := look_up(found, path)):
                raise UserError(
                    f"a worker of the cluster has {path} {versions[path]}, this machine {ours}. "
                    "Install the same on all machines."
                )
        member.choice = choice
        kinds = {(each.choice.device.type, each.choice.name) for each in self._idle if each.choice}
        if kinds - {(choice.device.type, choice.name)}:
            self._note(
                f"a worker on {choice.name} joins others: figures may differ in the last bit from "
                "those of one kind of hardware."
            )
        del self._losses[None]

    def _replace(self, member: _Member, loss: Exception) -> None:
        """Replace a lost worker and repeat its task, unless that lost others before."""
        why = in_brief(loss)
        self._losses[member.task] += 1
        if self._losses[member.task] >= _LOSSES:
            over = "before they had begun" if member.task is None else "over the same images"
            raise UserError(
                f"{_LOSSES} workers were lost {over}, the last one so: {why} If memory ran short, "
                "give a smaller --batch-size; finished shards are kept."
            )
        if member.task is not None:
            self._note("a worker was lost; another one takes its place")
            self._again.append(member.task)
        self._hire()


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError as reason:
        raise UserError(
            "several devices or machines need Ray, which is not installed here. "
            "Run: pip install 'ferd[cluster]'"
        ) from reason
    return ray


def in_brief(error: Exception) -> str:
    """The last line of a Ray error, which names the reason."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:160]


def _require_answer(address: str) -> None:
    """Probe the address first: ray.init hangs on a dead one."""
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UserError(f"--cluster {address} is no address. Give HOST:PORT of ray start, or auto.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PROBE).close()
    except OSError as reason:
        raise _no_answer(address, reason) from reason


def _no_answer(address: str, reason: Exception) -> UserError:
    return UserError(
        f"--cluster {address}: no cluster of Ray answers there ({in_brief(reason)}). "
        "Start one with: ray start --head"
    )


def join(address: str | None, workers: int = 0) -> tuple[ModuleType, bool]:
    """Join a cluster, or start one on this machine with `workers` CPUs; see `RayExecutor`.

    Returns Ray, and whether it was joined here, and must be left again. UserError: Ray is missing,
    or nobody answers at the address.
    """
    ray = _ray()
    if ray.is_initialized() and address in (None, "auto"):
        return ray, False
    # No usage statistics; and workers that name their device themselves see it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        ray.init("local", num_cpus=workers, num_gpus=0, include_dashboard=False, **quiet)
        return ray, True
    if address != "auto":
        _require_answer(address)
    try:
        ray.init(address, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as reason:
        if address != "auto":
            raise _no_answer(address, reason) from reason
        ray.init("local", include_dashboard=False, **quiet)
    return ray, True
