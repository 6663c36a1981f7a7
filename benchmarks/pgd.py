"""PGD-20 against torchattacks: same network, same batch, same threads, in one run.

    python benchmarks/pgd.py [--arch resnet18] [--batch 64] [--pairs 5] [--device cpu]

Prints the wall time of both, each with clean predictions before and predictions on the result
after, which is what a user wants (ours in the memory layout that `ferd-eval score` uses); the
median of the ratios ours/theirs over alternating pairs; and the share of our time that is spent
outside the network's forward and backward passes. Needs torchattacks, and an idle machine.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
import torchattacks
from torch import Tensor, nn

from ferd_eval.attacks import PGD, Batch, Passes, Threat
from ferd_eval.models import build_architecture
from ferd_eval.runtime.device import choose_device


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet18")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = choose_device(options.device).device
    network = build_architecture(options.arch, num_classes=10, in_channels=options.channels).build()
    network.eval().to(device)
    ours_network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    shape = (options.batch, options.channels, options.side, options.side)
    x_BCHW = torch.rand(shape, device=device)
    labels_B = torch.randint(10, (options.batch,), device=device)
    threat = Threat("8/255")

    theirs = torchattacks.PGD(network, eps=8 / 255, alpha=2 / 255, steps=20, random_start=True)

    def run_theirs() -> Tensor:
        with torch.no_grad():
            network(x_BCHW)  # clean predictions, which ours include
        adv_BCHW = theirs(x_BCHW, labels_B)  # cannot be called inside no_grad
        with torch.no_grad():
            return network(adv_BCHW).argmax(1)

    def run_ours() -> Tensor:
        # As `ferd-eval score` does it for every architecture it knows.
        own_BCHW = channels_last(x_BCHW)
        with torch.no_grad():
            logits_BK = ours_network(own_BCHW)
        batch = Batch(own_BCHW, labels_B, torch.arange(options.batch, device=device), logits_BK)
        return PGD()(ours_network, batch, threat, seed=0, passes=Passes()).adv_pred_R

    run_theirs(), run_ours()
    pairs = [(seconds(run_ours, device), seconds(run_theirs, device)) for _ in range(options.pairs)]
    inside = statistics.median(
        seconds(lambda: bare_passes(ours_network, channels_last(x_BCHW), labels_B), device)
        for _ in range(options.pairs)
    )
    ours, reference = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(a / b for a, b in pairs)
    print(f"{options.arch}, batch {options.batch}, {device}, {options.threads} threads")
    print(f"ferd_eval    {ours:8.3f} s ")
    print(f"torchattacks {reference:8.3f} s")
    print(
        f"ratio        {statistics.median(ratios):8.3f}   "
        f"(pairs from {ratios[0]:.3f} to {ratios[-1]:.3f})"
    )
    print(f"22 forward and 20 backward passes alone {inside:.3f} s:")
    print(f"outside them {max(0.0, 1 - inside / ours):8.1%}")


def bare_passes(network: nn.Module, x_BCHW: Tensor, labels_B: Tensor) -> Tensor:
    """The passes a PGD-20 verdict needs and nothing else: the floor."""
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    for _ in range(20):
        leaf_BCHW = x_BCHW.detach().requires_grad_()
        loss = nn.functional.cross_entropy(network(leaf_BCHW), labels_B, reduction="sum")
        torch.autograd.grad(loss, leaf_BCHW)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    with torch.no_grad():
        network(x_BCHW)
        logits_BK: Tensor = network(x_BCHW)
    return logits_BK


def channels_last(x_BCHW: Tensor) -> Tensor:
    """The same images in the layout that ours run in."""
    return x_BCHW.contiguous(memory_format=torch.channels_last)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """Wall time, with the device's queue emptied before and after."""
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
