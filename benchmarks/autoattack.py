"""AutoAttack against the reference implementation: verdicts and time, in one run.

    python benchmarks/autoattack.py CKPT --dataset demo --limit 100 --eps 0.1 [--parity]
        [--audited M] [--like-for-like] [--model-file FILE.py:FACTORY] [--normalize NAME]
        [--batch 100] [--data-dir DIR] [--threads N] [--clock cpu] [--only-ours]

Without ``--parity``: keyed random numbers, float32, as users run it; prints both robust accuracies,
the images on which the verdicts differ, the passes, times and their ratio. The reference gets
the network as its users would hand it over (contiguous images), patched only so that its `view`
does not stop it; with ``--like-for-like`` in our memory layout instead. ``--audited M`` runs
`aa-audited` with a sample of M as well.

Also printed is what share of our time lies outside the network, for each search and for the whole
call of `score`. Inside is what passes between a network's being given images and its logits, and on
the way back between its being given the gradient of its logits and that of the images: exactly the
forward and backward passes, Python in its modules included. The loss and its gradient, moves,
random numbers, bookkeeping and, for the whole call, diagnosis, verdicts and tables are outside, and
so are the two clocks read in each pass. The shares of the searches do not contain verdicts.

With ``--parity``: the reference's stream of random numbers, the network in float64 inside; after
each of the four searches the surviving images must be the same, and the exit status says whether
they are. Needs pyautoattack and an idle machine.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from pyautoattack import AutoAttack
from torch import Tensor, nn

from ferd_eval import Outcomes, build_classifier, load_checkpoint, load_dataset, score
from ferd_eval.attacks import (
    Cascade,
    Perturbed,
    Problem,
    SearchAttack,
    Threat,
    audited,
    make_attack,
)
from ferd_eval.datasets import LabelledImages
from ferd_eval.metrics.sanity.audit import audit
from ferd_eval.runtime.malloc import keep_freed_memory

#: Passes that the reference spends on an image that survives everything (spec and its source).
_REFERENCE = {
    "apgd-ce": (103, 101),
    "apgd-t": (920, 909),
    "fab-t": (1829, 900),
    "square": (5004, 0),
}


class InFloat64(nn.Module):
    """Takes and gives float32 and computes in float64: rounding no longer depends on the batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.double()
        # `score` takes images in the precision of the parameters, which are not ours to show.
        self.single = nn.Parameter(torch.zeros(()))

    def parameters(self, recurse: bool = True):  # type: ignore[no-untyped-def]
        """Only the one in single precision."""
        return iter([self.single])

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, rounded once."""
        logits_BK: Tensor = self.network(x_BCHW.contiguous().double()).float()
        return logits_BK


class Contiguous(nn.Module):
    """Hands the reference contiguous gradients: it calls `view` on them."""

    def __init__(self, network: nn.Module, layout: torch.memory_format) -> None:
        super().__init__()
        self.network = network
        self.layout = layout

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits."""
        logits_BK: Tensor = self.network((x_BCHW * 1.0).contiguous(memory_format=self.layout))
        return logits_BK


@dataclass(eq=False)
class Watch:
    """Time inside a network, and in searches."""

    clock: Callable[[], float]
    inside: float = 0.0  #: seconds in forward and backward passes
    images: int = 0  #: that went forward
    #: For each search its seconds, and those of them inside.
    searches: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def on(self, network: nn.Module) -> Iterator[None]:
        """Time each pass of a network, and of copies that keep its hooks."""
        began = [0.0]  # closures, not methods: copies of the network share them

        def start() -> None:
            began[0] = self.clock()

        def stop() -> None:
            self.inside += self.clock() - began[0]

        def before(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self.images += len(inputs[0])
            if inputs[0].requires_grad:
                inputs[0].register_hook(lambda _: stop())
            start()

        def after(_: nn.Module, __: tuple[Tensor, ...], logits_BK: Tensor) -> None:
            stop()
            if logits_BK.requires_grad:
                logits_BK.register_hook(lambda _: start())

        with network.register_forward_pre_hook(before), network.register_forward_hook(after):
            yield

    def timed(self, cascade: Cascade) -> Cascade:
        """The same cascade, with every search timed."""
        stages = []
        for attack in cascade.stages:
            assert isinstance(attack, SearchAttack)
            stages.append(TimedSearch(attack.search, attack.reference_stream, watch=self))
        return Cascade(cascade.family, tuple(stages))

    def report(self, seconds: float, passes: int) -> None:
        """Print the share of time outside the network."""
        assert self.images >= passes, f"timed {self.images} of {passes} forward passes"
        for name, (total, inside) in self.searches.items():
            print(f"  {name:8} {total:8.2f} s, {1 - inside / total:6.1%} outside the network")
        total, inside = (sum(each) for each in zip(*self.searches.values(), strict=True))
        print(f"outside      {1 - inside / total:6.1%} of the searches' time", end="")
        print(f", {1 - self.inside / seconds:6.1%} of the whole call's")


@dataclass(frozen=True)
class TimedSearch(SearchAttack):
    """A search that notes its time."""

    watch: Watch = field(kw_only=True)

    def perturb(self, problem: Problem) -> Perturbed:
        """Search."""
        noted = self.watch.searches.setdefault(self.family, [0.0, 0.0])
        began, inside = self.watch.clock(), self.watch.inside
        answer = super().perturb(problem)
        noted[0] += self.watch.clock() - began
        noted[1] += self.watch.inside - inside
        return answer


def main() -> int:
    """Measure and print."""
    options = arguments()
    warnings.filterwarnings("ignore")
    keep_freed_memory()  # as the command line does
    torch.set_num_threads(options.threads)
    options.clock = time.process_time if options.clock == "cpu" else time.perf_counter
    classifier, facts = build_classifier(
        load_checkpoint(options.checkpoint),
        model_file=options.model_file,
        normalize=options.normalize,
    )
    classifier.requires_grad_(False).eval()
    data = load_dataset(options.dataset, options.data_dir).first(options.limit)
    threat = Threat(options.eps or data.default_eps)
    network: nn.Module = InFloat64(classifier) if options.parity else classifier
    print(f"{facts.architecture} on {len(data)} images of {data.name}, {threat}", flush=True)

    attack = make_attack("aa:reference" if options.parity else "aa")
    assert isinstance(attack, Cascade)
    watch = Watch(options.clock)
    with watch.on(network):
        ours, our_seconds = timed(network, data, watch.timed(attack), options)
    print(f"ferd_eval    {our_seconds:8.1f} s", flush=True)
    rows, cost = ours.of("aa"), ours.manifest["cost"]["aa"]
    watch.report(our_seconds, cost["forward"])
    if options.only_ours:
        return 0

    standing, their_seconds = reference(network, classifier, data, threat, options)
    print(f"pyautoattack {their_seconds:8.1f} s", flush=True)
    print(f"ratio        {our_seconds / their_seconds:8.3f}")
    differences = compare(rows["stage"].fillna("").tolist(), rows, standing)
    robust = max(int(rows["correct"].sum()), 1)
    print(
        f"robust       ours {rows['correct'].mean():.2%}, reference "
        f"{standing['square'].mean():.2%}; clean "
        f"{(rows['clean_pred'] == rows['label']).mean():.2%}"
    )
    print(
        f"passes       {cost['forward']} forward, {cost['backward']} backward; "
        f"{cost['forward'] / robust:.0f} and {cost['backward'] / robust:.0f} a survivor"
    )
    survive = make_attack("aa").passes_per_image(data.num_classes)
    print(
        f"             an image that survives everything: ours {survive[0]} and {survive[1]}, "
        f"reference {sum(f for f, _ in _REFERENCE.values())} and "
        f"{sum(b for _, b in _REFERENCE.values())}"
    )
    if options.audited:
        measure_audited(network, data, options, their_seconds)
    return int(options.parity and differences > 0)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--dataset", default="demo")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--eps", default=None)
    parser.add_argument("--model-file")
    parser.add_argument("--normalize", default="auto")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--parity", action="store_true")
    parser.add_argument("--audited", type=int, metavar="M")
    parser.add_argument("--like-for-like", action="store_true")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--only-ours", action="store_true", help="without the reference")
    return parser.parse_args()


def timed(
    network: nn.Module, data: LabelledImages, cascade: Cascade, options: argparse.Namespace
) -> tuple[Outcomes, float]:
    """Outcomes of a cascade and the seconds they took."""
    began = options.clock()
    outcomes = score(network, data, [cascade], threat=options.eps, batch_size=options.batch)
    return outcomes, options.clock() - began


def reference(
    network: nn.Module,
    classifier: nn.Module,
    data: LabelledImages,
    threat: Threat,
    options: argparse.Namespace,
) -> tuple[dict[str, NDArray[np.bool_]], float]:
    """Who stands after each of the reference's searches, and the seconds they took."""
    if not options.parity:
        layout = torch.channels_last if options.like_for_like else torch.contiguous_format
        network = Contiguous(classifier.to(memory_format=layout), layout)
    adversary = AutoAttack(network, norm="Linf", eps=threat.radius, version="standard", seed=0)
    adversary.logger.disabled = True
    x_BCHW = torch.from_numpy(data.images_NCHW).float() / 255
    labels_B = torch.from_numpy(data.labels_N)
    began = options.clock()
    with torch.no_grad():
        standing_B = adversary.model(x_BCHW).argmax(1) == labels_B
    noted = {}
    for name in _REFERENCE:
        rows = standing_B.nonzero().squeeze(1)
        if len(rows):
            adversary.attacks_to_run = [name]
            adv_BCHW, _ = adversary.run_standard_evaluation(
                x_BCHW[rows], labels_B[rows], batch_size=options.batch
            )
            with torch.no_grad():
                standing_B[rows] = adversary.model(adv_BCHW).argmax(1) == labels_B[rows]
        noted[name] = standing_B.numpy().copy()
    return noted, options.clock() - began


def compare(stages: list[str], rows, standing: dict[str, NDArray[np.bool_]]) -> int:  # type: ignore[no-untyped-def]
    """Print who broke how many, and count the images on which both disagree after a search."""
    broke = Counter(stage.split(">")[0] for stage in stages)
    stands_N = (rows["clean_pred"] == rows["label"]).to_numpy()
    differences = 0
    for name, theirs_N in standing.items():
        stands_N = stands_N & np.array([stage.split(">")[0] != name for stage in stages])
        differ = int((stands_N != theirs_N).sum())
        differences += differ
        print(
            f"  {name:8} broke {broke[name]:4}; standing: ours {int(stands_N.sum())}, reference "
            f"{int(theirs_N.sum())}, different images {differ}"
        )
    return differences


def measure_audited(
    network: nn.Module, data: LabelledImages, options: argparse.Namespace, their_seconds: float
) -> None:
    """Time `aa-audited`, beside what it leaves open."""
    outcomes, seconds = timed(network, data, audited(options.audited), options)
    drawn = outcomes.manifest["audits"]["aa-audited"]
    bound = audit(outcomes.of("aa-audited"), drawn, data.num_classes).overall
    print(
        f"aa-audited   {seconds:8.1f} s, ratio {seconds / their_seconds:.3f}; robust "
        f"{bound.accuracy:.2%}, not below {bound.lower:.2%} (95 %): {bound.broken} of "
        f"{bound.sampled} audited fell, {bound.survivors} survivors"
    )


if __name__ == "__main__":
    sys.exit(main())
