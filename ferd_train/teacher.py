"""Robust networks from data: adversarial training that continues to the bit after a kill.

All randomness is keyed by (seed, epoch, image), so the only state of a run is the network, the
optimiser and the count of epochs. B batch, K classes, N data set, C channels, H × W pixels.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ferd_eval.attacks import PGD, Batch, Noise, Passes, Threat, frozen
from ferd_eval.datasets import LabelledImages, load_dataset
from ferd_eval.device import DeviceChoice, exact_arithmetic
from ferd_eval.errors import UserError
from ferd_eval.manifest import environment, now, read_manifest
from ferd_eval.models import build_architecture, save_network
from ferd_eval.outcomes import to_json, write_atomically
from ferd_eval.runner import describe_dataset, make_folder
from ferd_train.adversary import INNER_ATTACKS
from ferd_train.augment import crop_and_flip
from ferd_train.recipes import TeacherRecipe

#: The network that a finished run leaves in its folder.
RESULT = "teacher.safetensors"
_STATE = "state.pt"


@dataclass(frozen=True)
class EpochLog:
    """One line of ``metrics.jsonl``; accuracies as fractions of the validation part."""

    epoch: int
    lr: float
    train_loss: float
    validation_clean: float
    validation_pgd: float
    validation_pgd_worst_class: float
    seconds: float


def train_teacher(
    recipe: TeacherRecipe,
    out: Path,
    *,
    device: DeviceChoice,
    data_dir: Path | None = None,
    download: bool = False,
    data: LabelledImages | None = None,
    watch: Callable[[EpochLog, int], None] = lambda log, epochs: None,
) -> Path:
    """Train, or continue training, and return the path of the saved network.

    The weights saved are the moving average after the last epoch; nothing is selected on any data.

    Args:
        recipe: what to do.
        out: the run's folder; a killed run continues from its last finished epoch.
        device: where to train.
        data_dir: where the data set lies.
        download: fetch it if it is missing.
        data: training images, in place of the recipe's data set.
        watch: called after each epoch with its figures and the number of epochs.

    Raises:
        UserError: the folder holds another run, or the loss is no longer finite.
    """
    data = data or load_dataset(recipe.dataset, data_dir, split="train", download=download)
    manifest = _manifest(recipe, data, device)
    earlier = read_manifest(out)
    if earlier is not None:
        _require_same(earlier, manifest, out)
        if earlier["status"] == "finished":
            return out / RESULT
    make_folder(out)
    write_atomically(out / "manifest.json", to_json(earlier or manifest).encode())
    with exact_arithmetic():
        training = Training(recipe, data, device.device)
        training.resume(out / _STATE)
        logs = _read_logs(out / "metrics.jsonl", training.epochs_done)
        while training.epochs_done < recipe.epochs:
            log = training.epoch()
            logs.append(log)
            lines = "".join(json.dumps(vars(entry)) + "\n" for entry in logs)
            write_atomically(out / "metrics.jsonl", lines.encode())
            training.save(out / _STATE)
            watch(log, recipe.epochs)
    training.export(out / RESULT)
    finished = {**manifest, "status": "finished", "finished": now(), "result": vars(logs[-1])}
    write_atomically(out / "manifest.json", to_json(finished).encode())
    (out / _STATE).unlink(missing_ok=True)
    return out / RESULT


class Training:
    """Network, average, optimiser and data of one run."""

    def __init__(self, recipe: TeacherRecipe, data: LabelledImages, device: torch.device) -> None:
        self.recipe = recipe
        self.epochs_done = 0
        self._device = device
        self._data = data
        self._train_N, self._validation_N = split(data.labels_N, recipe.validation_per_class)
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            architecture = build_architecture(
                recipe.arch, num_classes=data.num_classes, in_channels=data.image_shape[0]
            )
            self._architecture = architecture
            self._network = architecture.build().to(device)
        average = get_ema_multi_avg_fn(recipe.ema_decay)  # type: ignore[no-untyped-call]
        self._average = AveragedModel(self._network, multi_avg_fn=average, use_buffers=True)
        self._optimizer = torch.optim.SGD(
            self._network.parameters(),
            lr=recipe.lr,
            momentum=recipe.momentum,
            weight_decay=recipe.weight_decay,
            nesterov=recipe.momentum > 0,
        )

    def epoch(self) -> EpochLog:
        """One pass over the training part, then the validation figures of the averaged network."""
        began = time.perf_counter()
        recipe, number = self.recipe, self.epochs_done
        order_N = np.random.default_rng((recipe.seed, number)).permutation(self._train_N)
        steps = len(order_N) // recipe.batch_size or 1
        losses: list[Tensor] = []
        for step, rows_B in enumerate(np.array_split(order_N, steps)):
            self._set_lr((number + step / steps) / recipe.epochs)
            losses.append(self._step(rows_B))
        mean_loss = float(torch.stack(losses).mean())
        if not math.isfinite(mean_loss):
            raise UserError(
                f"the loss is {mean_loss} in epoch {number + 1}: training diverged. The state "
                f"after epoch {number} is kept; start again in another folder with a lower lr "
                f"(now {recipe.lr:g})."
            )
        self.epochs_done += 1
        clean, robust_K = self._validate()
        return EpochLog(
            epoch=self.epochs_done,
            lr=self._optimizer.param_groups[0]["lr"],
            train_loss=mean_loss,
            validation_clean=clean,
            validation_pgd=float(robust_K.mean()),
            validation_pgd_worst_class=float(robust_K.min()),
            seconds=time.perf_counter() - began,
        )

    def _step(self, rows_B: NDArray[np.int64]) -> Tensor:
        recipe = self.recipe
        x_BCHW, y_B, index_B = self._batch(rows_B)
        if recipe.crop_padding or recipe.flip:
            noise = Noise(epoch_seed(recipe.seed, self.epochs_done), "augment", index_B)
            x_BCHW = crop_and_flip(x_BCHW, noise, recipe.crop_padding, recipe.flip)
        adv_BCHW = self._perturb(x_BCHW, y_B, index_B)
        self._network.train()
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(x_BCHW, adv_BCHW, y_B)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        self._average.update_parameters(self._network)
        return loss.detach()

    def _loss(self, x_BCHW: Tensor, adv_BCHW: Tensor, y_B: Tensor) -> Tensor:
        """PGD-AT: CE on perturbed images. TRADES: CE on clean ones + β·KL(clean ‖ perturbed)."""
        if self.recipe.loss == "pgd-at":
            return F.cross_entropy(self._network(adv_BCHW), y_B)
        clean_BK, adv_BK = self._network(x_BCHW), self._network(adv_BCHW)
        robust = F.kl_div(
            adv_BK.log_softmax(1), clean_BK.log_softmax(1), reduction="batchmean", log_target=True
        )
        return F.cross_entropy(clean_BK, y_B) + self.recipe.trades_beta * robust

    def _perturb(self, x_BCHW: Tensor, y_B: Tensor, index_B: Tensor) -> Tensor:
        """The inner maximisation, against the network in evaluation mode."""
        recipe = self.recipe
        with frozen(self._network), torch.no_grad():
            clean_BK = self._network(x_BCHW)
        inner = INNER_ATTACKS[recipe.loss](recipe.inner_steps, recipe.inner_step)
        return inner.examples(
            self._network,
            Batch(x_BCHW, y_B, index_B, clean_BK),
            Threat(recipe.eps),
            seed=epoch_seed(recipe.seed, self.epochs_done),
            passes=Passes(),
        )

    def _validate(self) -> tuple[float, NDArray[np.float64]]:
        """Clean accuracy, and PGD-10 accuracy of each class, of the averaged network."""
        network = self._average.module
        attack = PGD(steps=10, step_size=self.recipe.eps / 4)
        right, robust = [], []
        for rows_B in np.array_split(self._validation_N, -(-len(self._validation_N) // 500)):
            x_BCHW, y_B, index_B = self._batch(rows_B)
            with frozen(network), torch.no_grad():
                logits_BK = network(x_BCHW)
            verdicts = attack(
                network,
                Batch(x_BCHW, y_B, index_B, logits_BK),
                Threat(self.recipe.eps),
                seed=self.recipe.seed,
                passes=Passes(),
            )
            right.append((logits_BK.argmax(1) == y_B).cpu().numpy())
            robust.append((verdicts.adv_pred_R == y_B).cpu().numpy())
        labels_N = self._data.labels_N[self._validation_N]
        robust_N = np.concatenate(robust)
        per_class_K = [robust_N[labels_N == label].mean() for label in np.unique(labels_N)]
        return float(np.concatenate(right).mean()), np.array(per_class_K)

    def _batch(self, rows_B: NDArray[np.int64]) -> tuple[Tensor, Tensor, Tensor]:
        pixels = torch.from_numpy(self._data.images_NCHW[rows_B]).to(self._device)
        x_BCHW = pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels
        y_B = torch.from_numpy(self._data.labels_N[rows_B]).to(self._device)
        return x_BCHW, y_B, torch.from_numpy(self._data.indices_N[rows_B]).to(self._device)

    def _set_lr(self, progress: float) -> None:
        """One cycle: up from 0 over the first 30 %, then down to 0 along a cosine."""
        rise = 0.3
        share = (
            progress / rise
            if progress < rise
            else 0.5 * (1 + math.cos(math.pi * (progress - rise) / (1 - rise)))
        )
        for group in self._optimizer.param_groups:
            group["lr"] = self.recipe.lr * share

    def save(self, file: Path) -> None:
        """Write everything a later process needs, whole or not at all."""
        buffer = io.BytesIO()
        torch.save(
            {
                "epochs_done": self.epochs_done,
                "network": self._network.state_dict(),
                "average": self._average.state_dict(),
                "optimizer": self._optimizer.state_dict(),
            },
            buffer,
        )
        write_atomically(file, buffer.getvalue())

    def resume(self, file: Path) -> None:
        """Read what `save` wrote, if there is anything."""
        if not file.exists():
            return
        state: dict[str, Any] = torch.load(file, map_location=self._device, weights_only=True)
        self._network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        self._optimizer.load_state_dict(state["optimizer"])
        self.epochs_done = state["epochs_done"]

    def export(self, file: Path) -> None:
        """Save the averaged network so that `ferd_eval` reads it without being told anything."""
        save_network(
            file,
            self._average.module,
            self._architecture,
            normalization=None,
            metadata={
                "ferd.dataset": self._data.name,
                "ferd.recipe": json.dumps(self.recipe.to_json()),
            },
        )


def split(
    labels_N: NDArray[np.int64], validation_per_class: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on and rows held out: the last of each class in file order.

    Raises:
        UserError: a class has no image left to train on.
    """
    held_out = np.zeros(len(labels_N), dtype=bool)
    for label in np.unique(labels_N):
        rows = np.flatnonzero(labels_N == label)
        if len(rows) <= validation_per_class:
            raise UserError(
                f"class {label} has {len(rows)} training images, but {validation_per_class} are "
                "to be held out: lower validation_per_class."
            )
        held_out[rows[-validation_per_class:]] = True
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed of its own for each epoch of each run."""
    return seed * 1_000_003 + epoch


def _manifest(recipe: TeacherRecipe, data: LabelledImages, device: DeviceChoice) -> dict[str, Any]:
    return {
        "status": "running",
        "started": now(),
        "finished": None,
        **environment(),
        "recipe": recipe.to_json(),
        "dataset": describe_dataset(data),
        "device": device.describe(),
        "checkpoint_selection": "last epoch, moving average of the weights",
    }


def _require_same(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    for key, value in new["recipe"].items():
        before = old.get("recipe", {}).get(key)
        if before != value:
            raise UserError(
                f"{folder} holds a run with another recipe: {key} is {before}, asked for is "
                f"{value}. Choose another folder with --out."
            )
    if old["dataset"]["fingerprint"] != new["dataset"]["fingerprint"]:
        raise UserError(
            f"{folder} holds a run on other data (fingerprint "
            f"{old['dataset']['fingerprint'][:12]}, now {new['dataset']['fingerprint'][:12]}). "
            "Choose another folder with --out."
        )


def _read_logs(file: Path, epochs: int) -> list[EpochLog]:
    """Lines of the finished epochs; a line without its saved state is written anew."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines()[:epochs]
    return [EpochLog(**json.loads(line)) for line in lines]
