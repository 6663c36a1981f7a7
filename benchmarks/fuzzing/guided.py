"""One reader under atheris: inputs that reach new lines are changed further.

    python -m benchmarks.fuzzing.guided READER SECONDS FOLDER

Started by ``benchmarks/fuzz.py --atheris``. The folder keeps the inputs found and the tally.
"""

from __future__ import annotations

import hashlib
import sys
import time
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["ferd_eval", "ferd_train"]):
    from benchmarks.fuzzing.attempt import FINE, attempt
    from benchmarks.fuzzing.readers import readers

from benchmarks.fuzz import HEADROOM, PATIENCE, Tally, _peak, _workplace


def main(name: str, seconds: int, folder: Path) -> None:
    """Fuzz until the time is over; libFuzzer then ends the process."""
    reader = next(each for each in readers() if each.name == name)
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for i, content in enumerate(reader.seeds):
        (corpus / f"seed-{i}").write_bytes(content)
    file = folder / "tally.json"
    tally = Tally(name, 0)
    with _workplace() as work:
        place = reader.lay_out(work)
        for content in reader.seeds * 2:
            attempt(reader, content, place, work)
        start, began = _peak(), time.monotonic()
        saved = began

        def one(content: bytes) -> None:
            nonlocal saved
            outcome = attempt(reader, content, place, work)
            tally.done += 1
            tally.kinds[outcome.kind] += 1
            tally.peak = max(tally.peak, _peak() - start)
            if outcome.kind not in FINE:
                tally.faults[outcome.where] += 1
                if tally.faults[outcome.where] == 1:
                    digest = hashlib.sha256(content).hexdigest()[:12]
                    (folder / f"{outcome.kind}-{digest}{place.suffix}").write_bytes(content)
            if time.monotonic() - saved > 1:
                saved = time.monotonic()
                tally.seconds = saved - began
                tally.save(file)

        def change(content: bytes, most: int, seed: int) -> bytes:
            at = Random(seed)
            if at.random() < 0.5:
                return bytes(atheris.Mutate(content, most))
            return reader.changed(content, at)[:most]

        limits = [
            f"-max_total_time={seconds}", f"-timeout={PATIENCE}", "-max_len=65536",
            f"-rss_limit_mb={(start + HEADROOM) >> 20}", f"-artifact_prefix={folder}/",
        ]  # fmt: skip
        atheris.Setup([sys.argv[0], *limits, str(corpus)], one, custom_mutator=change)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
