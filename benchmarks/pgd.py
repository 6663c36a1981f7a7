"""PGD-20 against torchattacks: same network, same images, same threads, in one run.

    python benchmarks/pgd.py [--arch resnet18 | --checkpoint FILE] [--images 64] [--batch 64]
        [--pairs 5] [--device cpu] [--clock cpu] [--search-precision auto|fp32|tf32|bf16]

Three sides take turns: the attack of torchattacks; ours, which searches as ``ferd_eval.score``
chose to; and the whole of ``ferd_eval.score``, with its look at the network, that choice and its
table. Each makes clean predictions before and predictions on the
result after, which is what a user wants (ours in the memory layout that ``ferd-eval score`` uses).
Prints the median time of each, the median of the ratios to torchattacks, and the share of the
attack's time that is spent outside the network's forward and backward passes. Needs torchattacks,
and an idle machine; elsewhere take ``--clock cpu`` and one thread.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchattacks
from torch import Tensor, nn

from ferd_eval import build_classifier, load_checkpoint, load_dataset, score
from ferd_eval.attacks import PGD, Batch, Passes, Threat
from ferd_eval.evaluation.execution.likenesses import Likenesses
from ferd_eval.models import build_architecture
from ferd_eval.runtime.device import choose_device
from ferd_eval.runtime.malloc import keep_freed_memory

EPS = "8/255"


def main() -> None:
    """Measure and print."""
    options = arguments()
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(options.threads)
    device = choose_device(options.device).device
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    network, x_NCHW, labels_N = work_of(options, device)
    own_network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    own_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
    parts = torch.arange(len(x_NCHW)).split(options.batch)
    theirs = torchattacks.PGD(network, eps=8 / 255, alpha=2 / 255, steps=20, random_start=True)

    def run_theirs() -> None:
        for part in parts:
            with torch.no_grad():
                network(x_NCHW[part])  # clean predictions, which ours include
            adv_BCHW = theirs(x_NCHW[part], labels_N[part])  # cannot be called inside no_grad
            with torch.no_grad():
                network(adv_BCHW).argmax(1)

    def run_ours() -> None:
        for part in parts:
            with torch.no_grad():
                logits_BK = own_network(own_NCHW[part])
            batch = Batch(own_NCHW[part], labels_N[part], part.to(device), logits_BK)
            PGD()(own_network, batch, Threat(EPS), seed=0, passes=Passes(), search=search)

    def run_score() -> str:
        outcomes = score(
            own_network,
            (x_NCHW, labels_N),
            "pgd",
            EPS,
            batch_size=options.batch,
            search_precision=options.search_precision,
        )
        return str(outcomes.manifest["search"]["precision"])

    def run_passes() -> None:
        for part in parts:
            bare_passes(own_network, own_NCHW[part], labels_N[part])

    sides = {
        "torchattacks": run_theirs,
        "the attack": run_ours,
        "score": run_score,
        "bare passes": run_passes,
    }
    run_theirs()
    precision = run_score()
    with torch.no_grad():
        few_BK = own_network(own_NCHW[:64])
    search = Likenesses(own_network, own_NCHW[:64], few_BK, fold=True).get(precision)
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.pairs):
        for name, run in sides.items():
            taken[name].append(seconds(run, device, clock))
    print(
        f"{options.checkpoint or options.arch}, {len(x_NCHW)} images in batches of "
        f"{options.batch}, {device}, {options.threads} threads, {options.clock} seconds, "
        f"searching in {precision}"
    )
    median = {name: statistics.median(each) for name, each in taken.items()}
    for name in sides:
        pairs = zip(taken[name], taken["torchattacks"], strict=True)
        ratios = sorted(ours / reference for ours, reference in pairs)
        print(
            f"{name:13}{median[name]:8.3f} s   ratio {statistics.median(ratios):6.3f}   "
            f"({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )
    outside = max(0.0, 1 - median["bare passes"] / median["the attack"])
    print(f"outside 22 forward and 20 backward passes {outside:.1%}")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--arch", default="resnet18", help="with fresh weights, on random images")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--checkpoint", type=Path, help="in place of --arch")
    parser.add_argument("--model-file")
    parser.add_argument("--normalize", default="auto")
    parser.add_argument("--dataset", default="demo", help="for --checkpoint")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="auto")
    parser.add_argument("--search-precision", default="auto")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    return parser.parse_args()


def work_of(options: argparse.Namespace, device: torch.device) -> tuple[nn.Module, Tensor, Tensor]:
    """The network, images N×C×H×W and labels."""
    torch.manual_seed(0)
    if options.checkpoint is None:
        architecture = build_architecture(
            options.arch, num_classes=10, in_channels=options.channels
        )
        network = architecture.build().eval().to(device)
        shape = (options.images, options.channels, options.side, options.side)
        return network, torch.rand(shape, device=device), torch.randint(10, shape[:1]).to(device)
    classifier, _ = build_classifier(
        load_checkpoint(options.checkpoint),
        model_file=options.model_file,
        normalize=options.normalize,
    )
    data = load_dataset(options.dataset, options.data_dir).first(options.images)
    x_NCHW = torch.from_numpy(data.images_NCHW).float().div_(255)
    labels_N = torch.from_numpy(data.labels_N)
    return classifier.eval().to(device), x_NCHW.to(device), labels_N.to(device)


def bare_passes(network: nn.Module, x_BCHW: Tensor, labels_B: Tensor) -> None:
    """The passes a PGD-20 verdict needs and nothing else: the floor."""
    network.requires_grad_(False)
    for _ in range(20):
        leaf_BCHW = x_BCHW.detach().requires_grad_()
        loss = nn.functional.cross_entropy(network(leaf_BCHW), labels_B, reduction="sum")
        torch.autograd.grad(loss, leaf_BCHW)
    network.requires_grad_(True)
    with torch.no_grad():
        network(x_BCHW)
        network(x_BCHW)


def seconds(work: Callable[[], object], device: torch.device, clock: Callable[[], float]) -> float:
    """Time of the work, with the device's queue emptied before and after."""
    synchronise(device)
    began = clock()
    work()
    synchronise(device)
    return clock() - began


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
