"""Do verdicts depend on the batch? AutoAttack with several batch sizes, and on two shards.

    python benchmarks/batch_sizes.py CKPT --dataset demo --limit 300 --eps 0.1 [--float64]
        [--sizes 7,64,300] [--model-file FILE.py:FACTORY] [--normalize NAME] [--data-dir DIR]

Counts the images whose verdict differs from that of the first size, with their margins. In float64
there must be none, and the exit status says whether there are; in float32 those few that rounding
flips must lie at margins near 0.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch

from ferd_eval import Outcomes, build_classifier, load_checkpoint, load_dataset, score
from ferd_eval.attacks import make_attack
from ferd_eval.datasets import LabelledImages


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--limit", type=int, default=300)
    parser.add_argument("--eps", default=None)
    parser.add_argument("--sizes", default="7,64,300")
    parser.add_argument("--float64", action="store_true")
    parser.add_argument("--model-file")
    parser.add_argument("--normalize", default="auto")
    options = parser.parse_args()

    classifier, facts = build_classifier(
        load_checkpoint(options.checkpoint),
        model_file=options.model_file,
        normalize=options.normalize,
    )
    classifier.to(torch.float64 if options.float64 else torch.float32)
    data = load_dataset(options.dataset, options.data_dir).first(options.limit)
    print(f"{facts.architecture} on {len(data)} images of {data.name}", flush=True)

    tables = {}
    for size in map(int, options.sizes.split(",")):
        began = time.perf_counter()
        tables[f"batches of {size}"] = by_image(
            [score(classifier, data, [make_attack("aa")], threat=options.eps, batch_size=size)]
        )
        print(f"  batches of {size}: {time.perf_counter() - began:.0f} s", flush=True)
    tables["two shards"] = by_image(
        [score(classifier, part, [make_attack("aa")], threat=options.eps) for part in halves(data)]
    )
    (first, expected), *others = tables.items()
    print(f"{first}: {expected['correct'].mean():.2%} robust")
    flips = 0
    for name, table in others:
        differ = table["correct"] != expected["correct"]
        flips += int(differ.sum())
        margins = pd.concat([table["margin"][differ], expected["margin"][differ]]).abs()
        largest = f", margins up to {margins.max():.1e}" if len(margins) else ""
        print(f"{name}: {int(differ.sum())} flips of {len(table)}{largest}")
    return int(options.float64 and flips > 0)


def halves(data: LabelledImages) -> list[LabelledImages]:
    """Every other image each, as two machines would take them."""
    return [
        replace(
            data,
            images_NCHW=data.images_NCHW[part::2],
            labels_N=data.labels_N[part::2],
            indices_N=data.indices_N[part::2],
        )
        for part in (0, 1)
    ]


def by_image(runs: list[Outcomes]) -> pd.DataFrame:
    """Rows under AutoAttack, by their place in the data set."""
    return pd.concat([run.of("aa") for run in runs]).set_index("index").sort_index()


if __name__ == "__main__":
    sys.exit(main())
