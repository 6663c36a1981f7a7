"""AutoAttack against the reference implementation: verdicts and wall time, in one run.

    python benchmarks/autoattack.py CKPT --dataset demo --limit 100 --eps 0.1 [--parity]
        [--model-file FILE.py:FACTORY] [--normalize NAME] [--batch 100] [--data-dir DIR]

Without ``--parity``: keyed random numbers, float32, as users run it; prints both robust accuracies,
the images on which the verdicts differ, wall times and their ratio. With ``--parity``: the
reference's stream of random numbers, the network in float64 inside; after each of the four searches
the surviving images must be the same, and the exit status says whether they are. Needs pyautoattack
and an idle machine.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from pyautoattack import AutoAttack
from torch import Tensor, nn

from ferd_eval import build_classifier, load_checkpoint, load_dataset
from ferd_eval.attacks import Batch, Passes, Threat
from ferd_eval.attacks.autoattack import autoattack


class InFloat64(nn.Module):
    """Takes and gives float32 and computes in float64: rounding no longer depends on the batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, rounded once."""
        logits_BK: Tensor = self.network(x_BCHW.contiguous().double()).float()
        return logits_BK


class Contiguous(nn.Module):
    """Hands the reference contiguous gradients: it calls `view` on them."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits."""
        logits_BK: Tensor = self.network(x_BCHW.contiguous(memory_format=torch.channels_last) * 1.0)
        return logits_BK


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--eps", default=None)
    parser.add_argument("--model-file")
    parser.add_argument("--normalize", default="auto")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--parity", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")

    classifier, facts = build_classifier(
        load_checkpoint(options.checkpoint),
        model_file=options.model_file,
        normalize=options.normalize,
    )
    for parameter in classifier.parameters():
        parameter.requires_grad_(False)
    data = load_dataset(options.dataset, options.data_dir).first(options.limit)
    network: nn.Module = InFloat64(classifier) if options.parity else classifier
    x_BCHW = torch.from_numpy(data.images_NCHW).float() / 255
    if not options.parity:
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
    labels_B = torch.from_numpy(data.labels_N)
    with torch.no_grad():
        logits_BK = network(x_BCHW)
    batch = Batch(x_BCHW, labels_B, torch.from_numpy(data.indices_N), logits_BK)
    threat = Threat(options.eps or data.default_eps)
    clean = float((logits_BK.argmax(1) == labels_B).float().mean())
    print(f"{facts.architecture} on {len(data)} images of {data.name}, {threat}, clean {clean:.1%}")

    began, passes = time.perf_counter(), Passes()
    cascade = autoattack(reference_stream=options.parity)
    ours = cascade(network, batch, threat, seed=0, passes=passes, lanes=options.batch)
    our_seconds = time.perf_counter() - began

    reference = AutoAttack(
        network if options.parity else Contiguous(network),
        norm="Linf",
        eps=threat.radius,
        version="standard",
        seed=0,
    )
    reference.logger.disabled = True
    began = time.perf_counter()
    theirs = after_each_search(reference, x_BCHW.contiguous(), labels_B, options.batch)
    their_seconds = time.perf_counter() - began

    fell_to = Counter(str(stage).split(">")[0] for stage in ours.stages if stage)
    survivors_B = logits_BK.argmax(1) == labels_B
    differences = 0
    for search in cascade.searches:
        broken = [str(stage).split(">")[0] == search.family for stage in ours.stages]
        survivors_B = survivors_B & ~torch.tensor(broken)
        differ = int((survivors_B != theirs[search.family]).sum())
        differences += differ
        print(
            f"  {search.family:8} broke {fell_to[search.family]:4}; standing: ours "
            f"{int(survivors_B.sum())}, reference {int(theirs[search.family].sum())}, "
            f"different images {differ}"
        )
    robust = max(int(survivors_B.sum()), 1)
    print(f"passes       {passes.forward} forward, {passes.backward} backward")
    print(
        f"             {passes.forward / robust:.0f} and {passes.backward / robust:.0f} a survivor"
    )
    print(f"ferd_eval    {our_seconds:8.1f} s")
    print(f"pyautoattack {their_seconds:8.1f} s")
    print(f"ratio        {our_seconds / their_seconds:8.3f}")
    return int(options.parity and differences > 0)


def after_each_search(
    reference: AutoAttack, x_BCHW: Tensor, labels_B: Tensor, batch_size: int
) -> dict[str, Tensor]:
    """Run the reference's four attacks in turn and note who stands after each."""
    standing_B = reference.model(x_BCHW).argmax(1) == labels_B
    noted = {}
    for name in ("apgd-ce", "apgd-t", "fab-t", "square"):
        rows = standing_B.nonzero().squeeze(1)
        if len(rows):
            reference.attacks_to_run = [name]
            adv_BCHW, _ = reference.run_standard_evaluation(
                x_BCHW[rows], labels_B[rows], batch_size=batch_size
            )
            with torch.no_grad():
                standing_B[rows] = reference.model(adv_BCHW).argmax(1) == labels_B[rows]
        noted[name] = standing_B.clone()
    return noted


if __name__ == "__main__":
    sys.exit(main())
