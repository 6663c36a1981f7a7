"""Seconds and bytes of a report: 200 classes, 10 000 images, 6 attacks, as Tiny ImageNet has them.

    python benchmarks/report.py [--classes 200] [--images 10000] [--keep DIR]

Makes a run from simulated outcomes, runs ``ferd-eval report DIR`` as a process of its own, and
prints its wall and processor time beside the size of every file. The bar is 5 s and 3 MB of HTML.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ferd_eval.results.outcomes import Outcomes, conform

#: Attack → share of an average class that still stands.
ATTACKS = {"clean": 0.65, "fgsm": 0.38, "pgd": 0.33, "cw": 0.3, "aa": 0.27, "targeted": 0.4}

#: Classes that a targeted attack aims at where there are many.
AIMS = 9


def main() -> None:
    """Simulate, report, measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--classes", type=int, default=200)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--keep", type=Path, help="write the run and its report here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        simulate(options.classes, options.images).save(folder)
        wall, used = report(folder)
        print(f"{options.classes} classes, {options.images} images, {len(ATTACKS)} attacks")
        print(f"wall time      {wall:8.2f} s")
        print(f"processor time {used:8.2f} s  (what the wall time is on an idle machine)")
        for file in sorted(folder.iterdir()):
            print(f"{file.name:<18} {file.stat().st_size / 1e6:8.2f} MB")


def report(folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of one ``ferd-eval report``."""
    code = "from ferd_eval.cli import main; main()"
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", code, "report", str(folder)], check=True, stdout=subprocess.DEVNULL
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def simulate(classes: int, images: int) -> Outcomes:
    """A run over classes of unlike difficulty whose errors go to a few similar classes."""
    random = np.random.default_rng(0)
    labels_N = np.repeat(np.arange(classes), -(-images // classes))[:images]
    ease_K = np.clip(random.normal(1, 0.35, classes), 0.1, 1.5)
    similar_K5 = (np.arange(classes)[:, None] + random.integers(1, classes, (classes, 5))) % classes
    strength_N = random.random(images)
    near_N = similar_K5[labels_N, random.integers(0, 5, images)]
    far_N = (labels_N + random.integers(1, classes, images)) % classes
    wrong_N = np.where(random.random(images) < 0.7, near_N, far_N)
    clean_N = labels_N
    tables = []
    for attack, share in ATTACKS.items():
        predicted_N = np.where(strength_N < share * ease_K[labels_N], labels_N, wrong_N)
        if attack == "clean":
            clean_N = predicted_N
        if attack != "targeted":
            tables.append(rows(attack, labels_N, predicted_N, clean_N))
            continue
        for aim in range(min(AIMS, classes - 1)):
            aims_N = (labels_N + 1 + aim) % classes
            reached_N = np.where(random.random(images) < 0.08, aims_N, predicted_N)
            tables.append(rows(attack, labels_N, reached_N, clean_N, aims_N))
    names = [f"n{i:08d}, a class of things" for i in range(classes)]
    return Outcomes(conform(pd.concat(tables, ignore_index=True)), manifest(names, images))


def rows(attack: str, labels_N: Any, predicted_N: Any, clean_N: Any, aims_N: Any = None) -> Any:
    """Outcomes of one attack, or of one of its aims."""
    correct_N = predicted_N == labels_N
    return pd.DataFrame(
        {
            "index": np.arange(len(labels_N)),
            "label": labels_N,
            "attack": attack,
            "target": pd.NA if aims_N is None else aims_N,
            "clean_pred": clean_N,
            "adv_pred": predicted_N,
            "correct": correct_N,
            "margin": np.where(correct_N, 1.0, -1.0),
            "confidence": 0.5,
            "stage": pd.NA,
            "steps": 20,
            "linf": 0 if attack == "clean" else 8 / 255,
        }
    )


def manifest(names: list[str], images: int) -> dict[str, Any]:
    """What a report needs to know of a run."""
    attack = {"eps": 8 / 255, "eps_text": "8/255", "steps": 20}
    return {
        "ferd_eval": "0",
        "checkpoint": {"name": "simulated.pt"},
        "dataset": {"name": "tiny-imagenet", "n": images, "class_names": names},
        "threat": {"norm": "linf", "eps": 8 / 255, "eps_text": "8/255"},
        "attacks": {
            name: {"family": name, **(attack if name != "clean" else {})} for name in ATTACKS
        },
        "seed": 0,
    }


if __name__ == "__main__":
    main()
