"""How many copies of its images an attack holds at once, network aside.

    python benchmarks/attack_memory.py [--side 224] [--images 16] [--only pgd]

Each attack runs in a process of its own against a network without inner maps (pooling and one
linear layer), so that what the peak of resident memory grows by is the attack's state and its
temporary tensors. Printed in copies of the batch in float32, which is what docs/scaling.md counts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import time

import torch
from torch import Tensor, nn

from ferd_eval.attacks import Attack, Batch, Cascade, Passes, Threat, make_attack

ATTACKS = ("fgsm", "pgd", "cw", "apgd-ce", "apgd-t", "fab-t", "square")


class Pooled(nn.Module):
    """Means over a grid of 4×4 and a linear layer: next to nothing to keep for a backward pass."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(48, 10)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits B×10."""
        return self.linear(nn.functional.adaptive_avg_pool2d(x_BCHW, 4).flatten(1))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--only", choices=ATTACKS)
    options = parser.parse_args()
    print(f"{options.images} images of 3×{options.side}×{options.side}; peaks in copies of them")
    spawn = multiprocessing.get_context("spawn")
    for name in [options.only] if options.only else ATTACKS:
        with spawn.Pool(1) as pool:
            copies, seconds = pool.apply(measure, (name, options.images, options.side))
        print(f"{name:8s} {copies:5.1f}   ({seconds:.0f} s)", flush=True)


def measure(name: str, images: int, side: int) -> tuple[float, float]:
    """Copies that the peak grows by, and how long it took."""
    torch.set_num_threads(1)
    network = Pooled().eval()
    x_BCHW = torch.rand(images, 3, side, side)
    with torch.no_grad():
        logits_BK = network(x_BCHW)
    batch = Batch(x_BCHW, logits_BK.argmax(1), torch.arange(images), logits_BK)
    few = Batch(*(each[:1, ..., :32, :32] if each.ndim == 4 else each[:1] for each in (
        batch.x_BCHW, batch.labels_B, batch.indices_B, batch.clean_logits_BK
    )))  # fmt: skip
    # What the first backward pass loads is not the attack's.
    attack(make_attack(name))(network, few, Threat("1/2550"), seed=0, passes=Passes())
    before, began = peak(), time.perf_counter()
    attack(make_attack(name))(network, batch, Threat("1/2550"), seed=0, passes=Passes())
    grown = peak() - before
    return grown / (x_BCHW.numel() * x_BCHW.element_size()), time.perf_counter() - began


def attack(made: Attack | Cascade) -> Attack:
    """The one attack, also of a cascade of one."""
    return made.stages[0] if isinstance(made, Cascade) else made


def peak() -> int:
    """Of this process's resident memory, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
