"""Mutated files for every reader of outside files: none may crash, hang, run code, fill memory.

    python -m benchmarks.fuzz                             # 100 000 for each reader; hours
    python -m benchmarks.fuzz --inputs 2000               # minutes
    python -m benchmarks.fuzz --only npz,safetensors --seed 7
    python -m benchmarks.fuzz --atheris 60                # coverage-guided, a minute for each
    python -m benchmarks.fuzz --only npz --number 1234    # one input again, with its traceback

Each reader works in a process of its own that may take 1 GiB more than it starts with and, for an
input, ten seconds of a processor or two minutes of waiting, while an audit hook listens for code,
programs, sockets and files written.
Killed at any moment, the same command goes on where it stopped. What should not be is kept in
--out with the command that repeats it, and makes the exit status 1. Linux only.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from benchmarks.fuzzing.attempt import Kind, Outcome
    from benchmarks.fuzzing.readers import Reader

#: What a process may take beyond what it starts with, in bytes.
HEADROOM = 1 << 30

#: Seconds of a processor that one input may take. A busy machine makes none of them a fault.
PATIENCE = 10

#: Seconds by the clock, for what waits for something.
WAITING = 120

#: Files kept of one fault.
_KEPT = 3

#: Exit status of a process in which not the reader but this file went wrong.
_BROKEN = 77

app = typer.Typer(add_completion=False)


@dataclass
class Tally:
    """What became of a reader's inputs.

    Attributes:
        done: inputs so far; the next has this number.
        peak: most bytes of memory beyond the start of the process, and the input that took them.
    """

    reader: str
    seed: int
    done: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    peak: int = 0
    peak_number: int = 0
    seconds: float = 0.0

    @property
    def is_clean(self) -> bool:
        """Whether all were accepted or refused."""
        return self.kinds["accepted"] + self.kinds["refused"] == self.done

    @classmethod
    def load(cls, file: Path, reader: str, seed: int) -> Tally:
        """Of an earlier command with this seed, or a new one."""
        if not file.is_file():
            return cls(reader, seed)
        said = json.loads(file.read_text())
        if said["seed"] != seed:
            raise SystemExit(f"{file} is of --seed {said['seed']}; choose another --out.")
        said["kinds"], said["faults"] = Counter(said["kinds"]), Counter(said["faults"])
        return cls(**said)

    def save(self, file: Path) -> None:
        """Keep it, whole or not at all."""
        part = file.with_suffix(".part")
        part.write_text(json.dumps(vars(self), indent=1))
        part.replace(file)


_COLUMNS = ("reader", "inputs", "accepted", "refused", "uncaught", "code", "memory", "hung",
            "crashed", "peak MiB", "inputs/s")  # fmt: skip


def _line(tally: Tally) -> str:
    counts = [tally.kinds[kind] for kind in _COLUMNS[2:9]]
    speed = tally.done / tally.seconds if tally.seconds else 0
    cells = (tally.reader, tally.done, *counts, round(tally.peak / 2**20), round(speed))
    return f"| {' | '.join(map(str, cells))} |"


@app.command()
def main(
    inputs: Annotated[int, typer.Option(help="For each reader.")] = 100_000,
    only: Annotated[str, typer.Option(help="Names of readers, joined by commas.")] = "",
    seed: Annotated[int, typer.Option(help="Decides every input.")] = 0,
    out: Annotated[Path, typer.Option(help="Faults, and what is done.")] = Path("reports/fuzz"),
    number: Annotated[int | None, typer.Option(help="Only this input, in the open.")] = None,
    atheris: Annotated[int, typer.Option(help="Seconds a reader, guided by coverage.")] = 0,
) -> None:
    """Throw mutated files at readers and print what became of them."""
    from benchmarks.fuzzing.readers import readers

    known = {reader.name: reader for reader in readers()}
    names = [name for name in only.split(",") if name] or [*known]
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"no reader is called {unknown[0]!r}; there are {', '.join(known)}.")
    if number is not None:
        _one(known[names[0]], number, seed)
        return
    out.mkdir(parents=True, exist_ok=True)
    print(f"| {' | '.join(_COLUMNS)} |\n|---|{'---:|' * (len(_COLUMNS) - 1)}", flush=True)
    tallies = []
    for name in names:
        tally = _guided(name, atheris, out) if atheris else fuzz(known[name], inputs, seed, out)
        print(_line(tally), flush=True)
        tallies.append(tally)
    for tally in tallies:
        for fault, times in tally.faults.most_common():
            print(f"{tally.reader}: {times} × {fault}")
    raise typer.Exit(0 if all(tally.is_clean for tally in tallies) else 1)


def _one(reader: Reader, number: int, seed: int) -> None:
    from benchmarks.fuzzing.attempt import attempt

    with _workplace() as folder:
        place = reader.lay_out(folder)
        outcome = attempt(reader, reader.input(number, seed), place, folder)
        kept = Path(f"{reader.name}-{number}{place.suffix}")
        shutil.copy(place, kept)
        print(f"{outcome.kind}: {outcome.said}\n{outcome.trace}the file is {kept}")


@contextmanager
def _workplace() -> Iterator[Path]:
    """A folder in memory."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=parent) as name:
        yield Path(name)


# --- Random inputs -------------------------------------------------------------------------------


class _Board:
    """What parent and child both see: the input at work and since when.

    In nanoseconds: by the clock, and of the processor that the child had taken by then.
    """

    def __init__(self) -> None:
        self._cells = memoryview(mmap.mmap(-1, 64)).cast("q")

    def begin(self, number: int) -> None:
        self._cells[1] = time.monotonic_ns()
        self._cells[2] = time.process_time_ns()
        self._cells[0] = number

    @property
    def number(self) -> int:
        return self._cells[0]

    def is_hung(self, child: int) -> bool:
        """Whether the input at work takes too long."""
        waits = (time.monotonic_ns() - self._cells[1]) / 1e9
        return waits > PATIENCE and (
            waits > WAITING or _processor(child) - self._cells[2] / 1e9 > PATIENCE
        )


def _processor(process: int) -> float:
    """Seconds of a processor that a process has taken."""
    said = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(said[11]) + int(said[12])) / os.sysconf("SC_CLK_TCK")


def fuzz(reader: Reader, inputs: int, seed: int, out: Path) -> Tally:
    """All inputs of a reader, in as many processes as it takes."""
    file = out / f"{reader.name}.json"
    while (tally := Tally.load(file, reader.name, seed)).done < inputs:
        board = _Board()
        board.begin(tally.done)
        child = os.fork()
        if child == 0:
            status = _BROKEN
            try:
                _work(reader, tally, inputs, board, file)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        end = _wait(child, board)
        if end is not None:
            _record_loss(reader, file, seed, board.number, end)
    return tally


def _wait(child: int, board: _Board) -> Kind | None:
    """Until the process ends; what became of its last input where that ended it."""
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            if os.WIFEXITED(status) and os.WEXITSTATUS(status) == _BROKEN:
                raise SystemExit("the fuzzing itself failed, see above.")
            return None if status == 0 else "crashed"
        if board.is_hung(child):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "hung"
        time.sleep(0.02)


def _record_loss(reader: Reader, file: Path, seed: int, number: int, end: Kind) -> None:
    """Count the input that ended a process; what it had done since it last saved is done again."""
    from benchmarks.fuzzing.attempt import Outcome

    lost = file.with_suffix(".lost")
    known = json.loads(lost.read_text()) if lost.is_file() else {}
    if str(number) not in known:
        known[str(number)] = end
        lost.write_text(json.dumps(known))
        _keep(reader, number, seed, Outcome(end, end, end), file.parent)


def _work(reader: Reader, tally: Tally, inputs: int, board: _Board, file: Path) -> None:
    """In a process of its own: from where the tally is to the end."""
    from benchmarks.fuzzing.attempt import FINE, Outcome, attempt

    lost = file.with_suffix(".lost")
    ended = json.loads(lost.read_text()) if lost.is_file() else {}
    with _workplace() as folder:
        place = reader.lay_out(folder)
        for content in reader.seeds * 2:  # what is imported or started late is so now
            board.begin(tally.done)
            attempt(reader, content, place, folder)
        start = _limit_memory()
        saved = time.monotonic()
        while tally.done < inputs:
            number = tally.done
            if str(number) in ended:
                outcome = Outcome(ended[str(number)], ended[str(number)], ended[str(number)])
            else:
                content = reader.input(number, tally.seed)
                board.begin(number)
                outcome = attempt(reader, content, place, folder)
            tally.done += 1
            tally.kinds[outcome.kind] += 1
            if outcome.kind not in FINE:
                tally.faults[outcome.where] += 1
                if tally.faults[outcome.where] <= _KEPT:
                    _keep(reader, number, tally.seed, outcome, file.parent)
            peak = _peak() - start
            if peak > tally.peak:
                tally.peak, tally.peak_number = peak, number
            if time.monotonic() - saved > 2:
                tally.seconds += time.monotonic() - saved
                tally.save(file)
                saved = time.monotonic()
        tally.seconds += time.monotonic() - saved
        tally.save(file)


def _limit_memory() -> int:
    """Allow `HEADROOM` more than there is now; return the peak so far, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + HEADROOM
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _keep(reader: Reader, number: int, seed: int, outcome: Outcome, out: Path) -> None:
    """The file of a fault, and how to see it again."""
    name = f"{reader.name}-{number}-{outcome.kind}"
    (out / f"{name}{Path(reader.file).suffix}").write_bytes(reader.input(number, seed))
    command = f"python -m benchmarks.fuzz --only {reader.name} --seed {seed} --number {number}"
    (out / f"{name}.txt").write_text(
        f"{command}\n{outcome.said}\n{outcome.trace}", errors="backslashreplace"
    )


# --- Guided by coverage --------------------------------------------------------------------------


def _guided(name: str, seconds: int, out: Path) -> Tally:
    """A process under atheris, which ends itself."""
    folder = out / f"atheris-{name}"
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "benchmarks.fuzzing.guided", name, str(seconds), str(folder)]
    with (folder / "log.txt").open("w") as log:
        ended = subprocess.run(command, stdout=log, stderr=log, check=False).returncode
    tally = Tally.load(folder / "tally.json", name, 0)
    if ended:
        tally.done += 1
        tally.kinds["crashed"] += 1
        tally.faults[f"the process ended with {ended}; see {folder}/log.txt"] += 1
    return tally


if __name__ == "__main__":
    app()
