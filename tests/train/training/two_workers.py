"""The runs of two processes, which leave their results in a folder.

In the end the first process is killed after the first epoch of a run.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ferd_eval.models.demo import demo_checkpoints
from ferd_eval.runtime.device import DeviceChoice
from ferd_train.distillation.run import train_student
from ferd_train.distillation.teacher import FrozenTeacher, load_teacher
from ferd_train.monitoring.held_out import HeldOutFigures
from ferd_train.recipes.ferd import ferd_lab
from ferd_train.recipes.student import StudentRecipe
from ferd_train.synthesis.components.bn_statistics import distance
from ferd_train.training.process_group import ALONE, WHOLE, BatchShard, Workers, join
from ferd_train.training.sync_batchnorm import share_batch_norm
from tests.train.processes import no_charts
from tests.train.student_runs import CODE

CHANGES: Mapping[str, Any] = {
    "arch": "resnet8-w2",
    "image_size": 8,
    "epochs": 3,
    "warmup": 1,
    "batch_size": 12,
    "synthesis.steps": 3,
    "synthesis.width": 4,
    "synthesis.inversion.steps": 3,
    "synthesis.bottleneck.steps": 3,
    "synthesis.bottleneck.lr": 2.0,
    "reweighting.attack_steps": 3,
    "loss.attack_steps": 3,
    "distillation.steps": 3,
    "augmentation.flip": True,
}

#: What each run changes further. Of 13 images one process has 6 and the other 7.
RUNS: Mapping[str, Mapping[str, Any]] = {
    "ferd": {"variant": "ferd"},
    "weighed": {"reweighting.strategy": "clean-loss", "batch_size": 13, "synthesis.lambda_uni": 5},
    "paper": {"variant": "paper", "batch_size": 11},
    "release": {"variant": "release"},
    "ikl": {"loss.divergence": "ikl", "batch_size": 13},
    "deepinv": {
        "synthesis.method": "deepinv",
        "synthesis.steps": 3,
        "synthesis.lambda_tv": 0.5,
        "synthesis.lambda_l2": 0.5,
        "loss.name": "rslad",
        "batch_size": 13,
    },
    "zskt": {"synthesis.method": "zskt", "synthesis.width": 4, "synthesis.student_steps": 2},
    "igdm": {"loss.name": "igdm", "batch_size": 13},
    "awp": {"loss.name": "absld", "distillation.awp": 0.05, "distillation.awp_from": 0.0},
    # Of such images the teacher sees few classes, so those asked for are taken as truth.
    "fair-ard": {"loss.name": "fair-ard", "batch_size": 13, "labels": "asked"},
    "absld": {"loss.name": "absld", "batch_size": 13, "labels": "asked"},
    "dafa": {"loss.name": "dafa", "batch_size": 13, "labels": "asked"},
    "wat": {"loss.name": "wat", "batch_size": 13, "labels": "asked"},
    "dfhl": {"synthesis.method": "dfhl", "synthesis.width": 4, "loss.name": "dfhl"},
    "best": {"warmup": 0, "held_out.share": 0.4, "held_out.keep": "best", "held_out.patience": 1},
}

#: Layers whose sharing is looked at closely, and the shape of the batch's rows.
LAYERS: Mapping[str, tuple[Callable[[], _BatchNorm], tuple[int, ...]]] = {
    "maps": (lambda: nn.BatchNorm2d(3, eps=1e-3), (3, 4, 5)),
    "vectors": (lambda: nn.BatchNorm1d(3, momentum=0.3), (3,)),
    "no momentum": (lambda: nn.BatchNorm2d(3, momentum=None), (3, 2, 2)),
    "no parameters": (lambda: nn.BatchNorm2d(3, affine=False), (3, 2, 2)),
    "no memory": (lambda: nn.BatchNorm2d(3, track_running_stats=False), (3, 2, 2)),
}
ROWS = 7


def recipe(run: str) -> StudentRecipe:
    if "synthesis.method" in RUNS[run]:  # which has fields of its own
        return ferd_lab().with_changes(CHANGES).with_changes(RUNS[run])
    return ferd_lab().with_changes({**CHANGES, **RUNS[run]})


def train(run: str, out: Path, workers: Workers = ALONE, watch: Any = lambda *_: None) -> Path:
    cpu = DeviceChoice.here(torch.device("cpu"), "test")
    return train_student(recipe(run), teacher(), out, device=cpu, watch=watch, workers=workers)


@cache
def teacher() -> FrozenTeacher:
    with demo_checkpoints() as files:
        return load_teacher(files[0], CHANGES["image_size"])


def pass_through(name: str, share: BatchShard = WHOLE) -> dict[str, Tensor]:
    """Two batches through a layer in train mode: outputs, gradients and statistics of the whole."""
    make, shape = LAYERS[name]
    generator = torch.Generator().manual_seed(0)
    network = nn.Sequential(make()).double()
    for parameter in network.parameters():
        parameter.data.normal_(generator=generator)
    share_batch_norm(network, share)
    found = {}
    for batch in range(2):
        network.zero_grad()
        x_BC = torch.randn(2, ROWS, *shape, generator=generator, dtype=torch.float64)
        x_OC, slope_BC = share.own(x_BC[0] + 50).requires_grad_(), x_BC[1]
        y_BC = share.gather(network(x_OC))
        (y_BC * slope_BC).sum().backward()
        share.workers.sum_gradients(network.parameters())
        found |= {f"y {batch}": y_BC.detach(), f"gradient {batch}": share.gather(x_OC.grad)}
    gradients = {f"gradient of {n}": p.grad for n, p in network.named_parameters()}
    return {**found, **gradients, **network.state_dict()}


def matching(share: BatchShard = WHOLE) -> dict[str, Tensor]:
    """L_bn of one layer, and its gradient."""
    generator = torch.Generator().manual_seed(1)
    x_BCHW = torch.randn(ROWS, 3, 4, 5, generator=generator, dtype=torch.float64) + 50
    x_OCHW = share.own(x_BCHW).requires_grad_()
    value = distance(nn.BatchNorm2d(3).double().eval(), x_OCHW, share)
    value.backward()
    return {"value": value.detach(), "gradient": share.gather(x_OCHW.grad)}


def everything(words: list[str]) -> None:
    """In each of the two processes; the only word is the folder."""
    no_charts()
    with join() as workers:
        _everything(Path(words[0]), workers)


def _everything(folder: Path, workers: Workers) -> None:
    share = workers.share(ROWS)
    found = {name: pass_through(name, share) for name in LAYERS}
    found["matching"] = matching(share)
    if workers.is_first:
        torch.save(found, folder / "layers.pt")
    for run in RUNS:
        if run != "best":
            train(run, folder / run, workers)
    with (
        mock.patch("ferd_train.distillation.trainer.share_batch_norm"),
        mock.patch("ferd_train.synthesis.components.generator.share_batch_norm"),
    ):
        train("ferd", folder / "apart", workers)
    with unimproving():
        train("best", folder / "best", workers)
    for run in ("ferd", "dfhl", "absld"):
        stopped_at_each_seam(run, folder / f"{run} stopped", workers)
    train("ferd", folder / "killed", workers, watch=lambda *_: os.kill(os.getpid(), signal.SIGKILL))


def unimproving() -> Any:
    """Every student is as good as any other on held-out images."""
    even = HeldOutFigures(1, 0.5, None, None, 0.5, None, None, 1.0)
    return mock.patch(
        "ferd_train.distillation.trainer.agreement",
        lambda networks, *_, **__: [even] * len(networks),
    )


def stopped_at_each_seam(run: str, out: Path, workers: Workers) -> None:
    """The second process alone is asked to stop; both must."""
    stops = 0
    with (
        mock.patch("ferd_eval.results.manifest.code_state", return_value=CODE),
        mock.patch("ferd_train.training.seams.is_asked", return_value=not workers.is_first),
    ):
        while stops < 100:
            try:
                train(run, out, workers)
            except KeyboardInterrupt:
                stops += 1
            else:
                break
    if workers.is_first:
        (out / "stops").write_text(str(stops))
