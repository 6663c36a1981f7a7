"""How throughput grows with workers, and what a card gives beside torchattacks and pyautoattack.

    python benchmarks/scaling.py                    # 1 and 2 workers of one thread, on a CPU
    python benchmarks/scaling.py --device cuda      # ResNet-18 on a card, with the peers

On CPUs: clean and PGD-20 on the packaged network, by `RayExecutor` with one worker and two, which
are there before the clock starts; in the order 1, 2, 2, 1, so that a machine that gets slower
favours neither. Needs Ray, two cores and an idle machine. On a card: PGD-20 in batches of 1024 in
single precision and in TF32, with its share of the card's peak (operations are counted, a backward
pass as two forward ones), and AutoAttack in single precision; torchattacks and pyautoattack in the
same run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from ferd_eval import LabelledImages, build_classifier, load_checkpoint, load_dataset, score
from ferd_eval.attacks import PGD, Batch, Passes, Threat
from ferd_eval.evaluation.cost.model import operations
from ferd_eval.models import build_architecture
from ferd_eval.models.demo import demo_checkpoints
from ferd_eval.runtime.device import device_name

#: Operations a second at best in fp32 and TF32, as the maker states them, without sparsity.
PEAK = {"H200": (67e12, 495e12), "H100": (67e12, 495e12), "A100": (19.5e12, 156e12)}
#: Passes of PGD-20 with clean predictions before and predictions after; a backward one counts two.
PASSES = 22 + 2 * 20
BATCH = 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--images", type=int)
    options = parser.parse_args()
    if options.device == "cpu":
        compare_workers(options.images or 2000)
    else:
        compare_peers(torch.device(options.device), options.images or 4096)


def compare_workers(images: int) -> None:
    """One worker and two."""
    from ferd_eval.evaluation.execution.ray_executor import RayExecutor

    torch.set_num_threads(1)
    data = repeated(load_dataset("demo"), images)
    with demo_checkpoints() as files:
        model, _ = build_classifier(load_checkpoint(files[0]), num_classes=data.num_classes)
    seconds: dict[int, list[float]] = {1: [], 2: []}
    tables = []
    for count in (1, 2, 2, 1):
        cluster = RayExecutor(None, ["cpu"] * count, note=print)
        while cluster.ready < count:
            cluster.wait()
        began = time.perf_counter()
        tables.append(score(model, data, "pgd", executor=cluster).table)
        seconds[count].append(time.perf_counter() - began)
        cluster.end()
    print(f"{images} images, clean and PGD-20, resnet8, {os.cpu_count()} cores")
    for count, found in seconds.items():
        rates = " and ".join(f"{images / each:.0f}" for each in found)
        print(f"{count} worker{'s' if count > 1 else ' '}  {rates} images a second")
    print(f"ratio      {sum(seconds[1]) / sum(seconds[2]):.2f}")
    print(f"identical  {'yes' if all(table.equals(tables[0]) for table in tables) else 'NO'}")


def repeated(data: LabelledImages, count: int) -> LabelledImages:
    """So many images, the same ones again and again, each with random numbers of its own."""
    place_N = torch.arange(count).numpy()
    rows_N = place_N % len(data)
    return replace(
        data,
        images_NCHW=data.images_NCHW[rows_N],
        labels_N=data.labels_N[rows_N],
        indices_N=place_N,
    )


def compare_peers(device: torch.device, images: int) -> None:
    """Ours and theirs on one card."""
    torch.manual_seed(0)
    network = build_architecture("resnet18", num_classes=10, in_channels=3).build()
    network.eval().to(device)
    x_NCHW = torch.rand(images, 3, 32, 32)
    with torch.no_grad():
        labels_N = torch.cat([network(x.to(device)).argmax(1).cpu() for x in x_NCHW.split(BATCH)])
    forward, name = operations(network, x_NCHW[:1].to(device)), device_name(device)
    print(f"{name}: resnet18, ε = 8/255, {forward / 1e9:.2f} GFLOP a forward pass")
    peaks = next((peak for key, peak in PEAK.items() if key in name), (float("nan"),) * 2)
    for precision, peak in zip(("fp32", "TF32"), peaks, strict=True):
        allowed = precision == "TF32"
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
        ours = images / seconds(lambda: our_pgd(network, x_NCHW, labels_N, device))
        theirs = images / seconds(lambda: their_pgd(network, x_NCHW, labels_N, device))
        share = ours * forward * PASSES / peak
        print(
            f"PGD-20 {precision}      {ours:8.0f} images a second, {share:.0%} of the peak; "
            f"torchattacks {theirs:.0f}; ratio {ours / theirs:.2f}"
        )
    few_N = slice(0, 1024)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    pair = (x_NCHW[few_N], labels_N[few_N])
    ours = 1024 / seconds(lambda: score(network, pair, "aa", "8/255", batch_size=BATCH), 1)
    theirs = 1024 / seconds(lambda: their_autoattack(network, *pair, device), 1)
    print(
        f"AutoAttack fp32  {ours:8.2f} images a second; pyautoattack {theirs:.2f}; "
        f"ratio {ours / theirs:.2f}"
    )


def our_pgd(network: nn.Module, x_NCHW: Tensor, labels_N: Tensor, device: torch.device) -> None:
    """Clean predictions, the attack, and predictions on what it found."""
    for number, (x, labels) in enumerate(
        zip(x_NCHW.split(BATCH), labels_N.split(BATCH), strict=True)
    ):
        x_BCHW = x.to(device)
        with torch.no_grad():
            logits_BK = network(x_BCHW)
        indices_B = torch.arange(len(x), device=device) + number * BATCH
        batch = Batch(x_BCHW, labels.to(device), indices_B, logits_BK)
        PGD()(network, batch, Threat("8/255"), seed=0, passes=Passes())


def their_pgd(network: nn.Module, x_NCHW: Tensor, labels_N: Tensor, device: torch.device) -> None:
    """The same by torchattacks."""
    import torchattacks

    attack = torchattacks.PGD(network, eps=8 / 255, alpha=2 / 255, steps=20, random_start=True)
    for x, labels in zip(x_NCHW.split(BATCH), labels_N.split(BATCH), strict=True):
        x_BCHW = x.to(device)
        with torch.no_grad():
            network(x_BCHW)
        adv_BCHW = attack(x_BCHW, labels.to(device))
        with torch.no_grad():
            network(adv_BCHW).argmax(1)


def their_autoattack(
    network: nn.Module, x_NCHW: Tensor, labels_N: Tensor, device: torch.device
) -> None:
    """AutoAttack standard by its authors' code."""
    from pyautoattack import AutoAttack

    judge = AutoAttack(network, norm="Linf", eps=8 / 255, version="standard", device=device)
    judge.run_standard_evaluation(x_NCHW.to(device), labels_N.to(device), bs=BATCH)


def seconds(work: Callable[[], object], repeats: int = 3) -> float:
    """Median wall time, with the card's queue emptied before and after."""
    found = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        began = time.perf_counter()
        work()
        torch.cuda.synchronize()
        found.append(time.perf_counter() - began)
    return statistics.median(found)


if __name__ == "__main__":
    main()
