"""Kills runs at random moments, continues them, and compares their end with an undisturbed run's.

    python benchmarks/endurance.py [--scorings 160] [--cascades 40] [--trainings 50] [--seed 0]

Three victims, on a tiny network and 8×8 images: `ferd-eval score` under single attacks (a second or
two), under a cascade (AutoAttack, ten seconds), and `ferd-train student` with that network as its
teacher. Each is ended by SIGKILL as often as asked for, half of the times after a random delay
around its length, the other half right when it changes a file. The same command then continues it,
which may be killed again, until it finishes. What must
be the same to the bit: outcomes, scorecard and adversarial images; the student's file, its figures
but for seconds, and its bank.

Every tenth process is started afresh, the others are forked from this one, which has imported
everything: what is written comes later. Prints, for each victim, the kills by what they hit: the
start-up, the work, a write (an unfinished file of the victim is left), or the end (all was done);
how often it was continued and finished, whether all ends were identical, how many temporary files
were left over, and seconds. Exits with 1 if an end differs, a run fails or a file is left. Not for
Windows.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from ferd_eval.io.lock import LOCK
from ferd_eval.models import build_architecture, save_network

#: One process in so many is started afresh.
_AFRESH = 10
#: Seconds between two looks at a victim, and the mean number of changes that it is let live for.
_LOOK, _CHANGES = 0.0005, 12
_PHASES = {"start-up": "at start-up", "work": "at work", "write": "in a write", "end": "at the end"}

Contents = dict[str, str]


@dataclass(frozen=True)
class Victim:
    """A command that may be killed.

    Attributes:
        name: of what it does.
        module: its command line.
        words: its arguments, but for the folder.
        contents: what its folder must end with, name → digest.
    """

    name: str
    module: str
    words: Sequence[str]
    contents: Callable[[Path], Contents]

    def start(self, folder: Path, log: Path, *, afresh: bool) -> int:
        """Begin or continue; returns the process."""
        words = [*self.words, "--out", str(folder)]
        if afresh:
            program = f"from {self.module} import main; main()"
            with log.open("wb") as stream:
                return subprocess.Popen(
                    [sys.executable, "-c", program, *words], stdout=stream, stderr=stream
                ).pid
        sys.stdout.flush()
        if process := os.fork():
            return process
        status = 1
        try:
            stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(stream, 1)
            os.dup2(stream, 2)
            importlib.import_module(self.module).main(words)
        except SystemExit as end:
            status = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


@dataclass
class Tally:
    """What became of one victim's runs."""

    kills: Counter[str] = field(default_factory=Counter)
    continued: int = 0
    finished: int = 0
    faults: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    def say(self, victim: Victim, seconds: float) -> None:
        """Print it."""
        hit = ", ".join(f"{self.kills[phase]} {words}" for phase, words in _PHASES.items())
        print(f"{victim.name}: {self.kills.total()} kills ({hit})")
        print(f"  continued {self.continued} times, finished {self.finished} runs")
        print(f"  identical: {'no' if self.faults else 'yes'}")
        print(f"  temporary files left over: {len(self.left_over)}")
        print(f"  {seconds:.0f} s", flush=True)
        for line in [*self.faults, *self.left_over]:
            print(f"  {line}", file=sys.stderr)


def main() -> None:
    """Kill, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scorings", type=int, default=160, help="kills of runs of single attacks")
    parser.add_argument("--cascades", type=int, default=40, help="kills of runs of AutoAttack")
    parser.add_argument("--trainings", type=int, default=50, help="kills of training runs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=None, help="keep everything here")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a process may be forked as long as it has no threads
    os.environ["OMP_NUM_THREADS"] = "1"
    for module in ("ferd_eval.pipeline", "ferd_train.pipeline"):
        importlib.import_module(module)
    tallies = []
    with tempfile.TemporaryDirectory() as temporary:
        base = (options.folder or Path(temporary)).absolute()
        base.mkdir(parents=True, exist_ok=True)
        network, images = lay_out(base)
        victims = (
            (scoring("scoring", network, images, "fgsm,pgd,targeted,apgd-ce"), options.scorings),
            (scoring("cascade", network, images, "pgd,aa"), options.cascades),
            (training(network), options.trainings),
        )
        for victim, kills in victims:
            began = time.perf_counter()
            tally = torment(victim, kills, base / victim.name, random.Random(options.seed))
            tally.say(victim, time.perf_counter() - began)
            tallies.append(tally)
    sys.exit(any(tally.faults or tally.left_over for tally in tallies))


def lay_out(base: Path) -> tuple[Path, Path]:
    """A network that knows its three classes about equally often, and 300 images."""
    network, images = base / "network.safetensors", base / "images.npz"
    torch.manual_seed(0)
    architecture = build_architecture("resnet8-w2", num_classes=3, in_channels=1)
    module = architecture.build().eval()
    generator = np.random.default_rng(0)
    pixels_NHW = generator.integers(0, 256, (300, 8, 8), dtype=np.uint8)
    with torch.no_grad():
        logits_NK = module(torch.from_numpy(pixels_NHW[:, None] / np.float32(255)))
        *_, bias_K = module.parameters()
        bias_K -= logits_NK.mean(dim=0)
    labels_N = (logits_NK - logits_NK.mean(dim=0)).argmax(dim=1).numpy()
    labels_N[::10] = np.arange(30) % 3
    save_network(network, module, architecture, None)
    np.savez(images, images=pixels_NHW, labels=labels_N)
    return network, images


def scoring(name: str, network: Path, images: Path, attacks: str) -> Victim:
    """Three units an attack or stage, with the adversarial images kept."""
    words = [
        "score", str(network), "--dataset", f"npz:{images}", "--eps", "0.02", "--save-adv",
        "--attacks", attacks, "--steps", "2", "--batch-size", "64",
    ]  # fmt: skip

    def contents(folder: Path) -> Contents:
        files = ("outcomes.parquet", "scorecard.json", "report.csv")
        adversarial = sorted((folder / "adversarial").glob("*.npz"))
        return {
            **{name: digest((folder / name).read_bytes()) for name in files},
            **{file.name: digest(*arrays(file)) for file in adversarial},
        }

    return Victim(name, "ferd_eval.cli", words, contents)


def training(teacher: Path) -> Victim:
    """Six epochs of a few steps."""
    changes = {
        "arch": "resnet8-w2", "image_size": 8, "epochs": 6, "warmup": 1, "batch_size": 8,
        "synthesis.steps": 3, "synthesis.latent": 8, "synthesis.width": 4,
        "synthesis.bottleneck.steps": 3, "reweighting.attack_steps": 2, "loss.attack_steps": 2,
        "distillation.steps": 3, "augmentation.crop_padding": 1,
    }  # fmt: skip
    words = ["student", "--teacher", str(teacher), "--recipe", "ferd-lab", "--device", "cpu"]
    words += [word for name, value in changes.items() for word in ("--set", f"{name}={value}")]

    def contents(folder: Path) -> Contents:
        return {
            "student.safetensors": digest((folder / "student.safetensors").read_bytes()),
            "metrics.csv": digest(without_seconds(folder / "metrics.csv")),
            **{
                file.name: digest(file.read_bytes()) for file in sorted((folder / "bank").iterdir())
            },
        }

    return Victim("training", "ferd_train.cli", words, contents)


def torment(victim: Victim, kills: int, base: Path, generator: random.Random) -> Tally:
    """Kill a victim so often, and let it finish in between."""
    tally, log = Tally(), base / "log.txt"
    temporary = base / "tmp"
    temporary.mkdir(parents=True)
    os.environ["TMPDIR"] = str(temporary)
    began = time.perf_counter()
    process = victim.start(base / "whole", log, afresh=False)
    _, status = os.waitpid(process, 0)
    length = time.perf_counter() - began
    if status:
        tally.faults.append(f"undisturbed it fails: {log.read_text()}")
        return tally
    whole, lives = victim.contents(base / "whole"), 0
    while tally.kills.total() < kills and not tally.faults:
        folder = base / f"run-{tally.finished:03d}"
        ended = None
        while ended is None:
            tally.continued += folder.exists()
            lives += 1
            process = victim.start(folder, log, afresh=lives % _AFRESH == 0)
            if tally.kills.total() < kills:
                wait_for_the_moment(process, folder, length, generator)
            else:
                os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
            ended = end(process, folder, tally)
        tally.finished += 1
        left = {file for file in folder.rglob(".*") if file.is_file()}
        tally.left_over += sorted(str(file) for file in left)
        if ended:
            tally.faults.append(f"{folder} ended with status {ended}: {log.read_text()}")
            continue
        found = victim.contents(folder)
        different = sorted(name for name in {*whole, *found} if whole.get(name) != found.get(name))
        if different:
            tally.faults.append(f"{folder} differs in {', '.join(different)}")
        else:
            shutil.rmtree(folder)
    tally.left_over += sorted(str(file) for file in temporary.rglob("*") if file.is_file())
    return tally


def wait_for_the_moment(
    process: int, folder: Path, length: float, generator: random.Random
) -> None:
    """Until it is time to kill, or there is nothing left to kill."""
    by_change = generator.random() < 0.5
    until = time.perf_counter() + generator.expovariate(1 / length)
    changes = 1 + int(generator.expovariate(1 / _CHANGES))
    before = snapshot(folder)
    while os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if by_change:
            after = snapshot(folder)
            changes -= after != before
            before = after
            if not changes:
                return
        elif time.perf_counter() >= until:
            return
        time.sleep(_LOOK)


def end(process: int, folder: Path, tally: Tally) -> int | None:
    """End a process if it lives; its exit status, None where it was killed."""
    os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if not os.WIFSIGNALED(status):
        return os.waitstatus_to_exitcode(status)
    tally.kills[phase_of(process, folder)] += 1
    return None


def phase_of(process: int, folder: Path) -> str:
    """What a killed process was about, by what it has left."""
    if any(folder.rglob(f".*.{process}.part")):
        return "write"
    try:
        if json.loads((folder / LOCK).read_text())["pid"] == process:
            return "work"
    except (OSError, ValueError):
        pass
    try:
        finished = json.loads((folder / "manifest.json").read_text())["status"] == "finished"
    except (OSError, ValueError):
        finished = False
    return "end" if finished and not (folder / LOCK).exists() else "start-up"


def snapshot(folder: Path) -> frozenset[tuple[str, int, int]]:
    """Names, sizes and times of all files."""
    found = set()
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                seen = os.stat(os.path.join(parent, name))  # noqa: PTH116, PTH118  (quick)
            except OSError:  # renamed meanwhile
                continue
            found.add((f"{parent}/{name}", seen.st_size, seen.st_mtime_ns))
    return frozenset(found)


def digest(*contents: bytes) -> str:
    found = hashlib.sha256()
    for content in contents:
        found.update(content)
    return found.hexdigest()


def arrays(file: Path) -> list[bytes]:
    with np.load(file) as found:
        return [found[key].tobytes() for key in sorted(found.files)]


def without_seconds(file: Path) -> bytes:
    """A table but for its columns of seconds."""
    rows = csv.DictReader(io.StringIO(file.read_text()))
    return json.dumps(
        [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in rows]
    ).encode()


if __name__ == "__main__":
    main()
