"""Score a classifier: every attack on every image, in units that survive a crash.

Writes outcomes and nothing else; figures are made from them later. N data set, B batch, R rows
(B, or B × targets), C channels, K classes, H × W pixels.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferd_eval.acceptance import (
    as_logits,
    check_network,
    dtype_of,
    memory_format_of,
    need_gradient,
    probe,
)
from ferd_eval.attacks import (
    DEFAULT_ATTACKS,
    Attack,
    Batch,
    Clean,
    Passes,
    PlannedAttack,
    Threat,
    Verdicts,
    frozen,
    plan_attacks,
)
from ferd_eval.datasets import LabelledImages, load_dataset
from ferd_eval.device import DeviceChoice, choose_device, exact_arithmetic, is_out_of_memory
from ferd_eval.errors import UserError
from ferd_eval.manifest import environment, now, read_manifest, require_same_run
from ferd_eval.outcomes import Outcomes, conform
from ferd_eval.output import make_folder, to_json, write_atomically
from ferd_eval.progress import Silent, Watcher, duration
from ferd_eval.quantity import format_quantity, parse_quantity
from ferd_eval.units import FolderUnits, MemoryUnits, Unit, UnitStore, file_name, split_units
from ferd_eval.user_code import brief

#: Images per forward pass under ``auto``, for 32×32 colour images; halved when memory runs out.
AUTO_BATCH = {"cpu": 128, "cuda": 1024, "mps": 256}
_CIFAR_PIXELS = 32 * 32

#: A unit holds at least this many images, so that small batches do not make thousands of files.
_UNIT_IMAGES = 128


def score(
    model: nn.Module,
    dataset: LabelledImages | str | tuple[Tensor, Tensor],
    attacks: str | Sequence[str | Attack] = DEFAULT_ATTACKS,
    threat: Threat | float | str | Sequence[Threat | float | str] | None = None,
    *,
    steps: int | None = None,
    step_size: Fraction | float | str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    device: DeviceChoice | str | None = None,
    out: Path | str | None = None,
    save_adv: bool = False,
    facts: Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
    attack_plan: Sequence[PlannedAttack] | None = None,
) -> Outcomes:
    """Attack every image and return what happened to each.

    Args:
        model: any module that maps images in [0, 1], B×C×H×W, to logits B×K; normalisation, if
            any, is inside it. It is left as it was: mode, gradients, buffers.
        dataset: a loaded set, a name for `load_dataset`, or a pair of tensors (images, labels).
        attacks: names (``"clean,fgsm,pgd,cw"``), or a sequence of names and `Attack` objects.
        threat: the ball; default L∞ with the data set's usual ε. Several, in a sequence or as
            ``"2/255,4/255,8/255"``, give the ε profile.
        steps: overrides the steps of every iterated attack.
        step_size: overrides their step.
        seed: key of all random numbers.
        batch_size: images per pass; None chooses by device. Verdicts do not depend on it.
        device: None leaves the model where it is.
        out: a folder that makes the run resumable and keeps its outcomes.
        save_adv: keep the adversarial images in ``OUT/adversarial/<attack>.npz``.
        facts: entries for the manifest: ``checkpoint``, ``model``, ``command``, …
        watcher: told of progress.
        attack_plan: resolved attacks, in place of `attacks` and `threat`.

    Raises:
        UserError: the input cannot be scored, or `out` holds another run.
    """
    if not isinstance(model, nn.Module):
        raise UserError(f"the model is a {type(model).__name__}; wrap it in a torch.nn.Module.")
    data = _as_labelled_images(dataset, model)
    plan = attack_plan or plan_attacks(
        attacks,
        as_threats(threat, data),
        steps=steps,
        step_size=None if step_size is None else parse_quantity(step_size, "step_size"),
    )
    require_own_names(plan)
    if save_adv and out is None:
        raise UserError("save_adv needs a folder to keep the images in: give out as well.")
    for name, number in (("batch_size", batch_size), ("steps", steps)):
        if number is not None and number < 1:
            raise UserError(f"{name} is {number}; give 1 or more.")
    if device is None:
        where = next(model.parameters(), torch.empty(0)).device
        device = DeviceChoice(where, "where the model was")
    elif isinstance(device, str):
        device = choose_device(device)
    run = Run(
        model=model.to(device.device),
        data=data,
        plan=tuple(plan),
        seed=seed,
        batch_size=batch_size,
        device=device,
        folder=None if out is None else Path(out),
        save_adv=save_adv,
        facts=facts or {},
        watcher=watcher or Silent(),
    )
    with exact_arithmetic():
        return run.outcomes()


@dataclass(frozen=True, eq=False)
class Run:
    """One network on one data set under a list of attacks."""

    model: nn.Module
    data: LabelledImages
    plan: tuple[PlannedAttack, ...]
    seed: int
    batch_size: int | None
    device: DeviceChoice
    folder: Path | None
    save_adv: bool
    facts: Mapping[str, Any]
    watcher: Watcher

    def outcomes(self) -> Outcomes:
        """Run what is not yet done. A finished folder is read, and nothing in it changes."""
        manifest = self._manifest()
        if self.folder is None:
            return self._work(manifest, MemoryUnits())
        earlier = read_manifest(self.folder)
        if earlier is not None:
            require_same_run(earlier, manifest, self.folder)
            if earlier["status"] == "finished":
                return self._read_finished()
            manifest = earlier
        self._write_manifest(manifest)
        units = FolderUnits(self.folder / "units")
        outcomes = self._work(manifest, units)
        outcomes.save(self.folder)
        units.discard()
        return outcomes

    def _read_finished(self) -> Outcomes:
        assert self.folder is not None
        try:
            outcomes = Outcomes.load(self.folder)
        except UserError as reason:
            raise UserError(
                f"{self.folder} holds a finished run, but its outcomes.parquet is missing or "
                "damaged. Remove the folder to run it again, or choose another with --out."
            ) from reason
        FolderUnits(self.folder / "units").discard()  # left by a run killed at its very end
        return outcomes

    def _work(self, manifest: dict[str, Any], store: UnitStore) -> Outcomes:
        check_network(
            self.model,
            self.data,
            dtype_of(self.model),
            by_gradient=need_gradient(self.plan, self.data),
        )
        units = split_units(
            tuple(planned.id for planned in self.plan), len(self.data), manifest["unit_images"]
        )
        finished = {unit: rows for unit in units if (rows := store.get(unit)) is not None}
        if manifest["save_adv"]:
            _require_images(store, finished)
        self._announce(units, finished)
        attacks = {planned.id: planned for planned in self.plan}
        clean_logits: dict[int, Tensor] = {}
        for unit in units:
            if unit in finished:
                continue
            if unit.number not in clean_logits:
                clean_logits[unit.number] = self._logits(unit, manifest["batch_size"])
            rows, images_RCHW = self._attack(
                unit, attacks[unit.attack], clean_logits[unit.number], manifest["batch_size"]
            )
            store.put(unit, rows, images_RCHW if manifest["save_adv"] else None)
            finished[unit] = rows
            self._report(unit, len(units) // len(self.plan), rows, attacks[unit.attack])
        if isinstance(store, FolderUnits) and manifest["save_adv"] and self.folder is not None:
            store.collect_images(units, self.folder / "adversarial")
        frames = [finished[unit] for unit in units]
        return Outcomes(conform(_concatenate(frames)), self._finish(manifest, units, finished))

    def _attack(
        self, unit: Unit, planned: PlannedAttack, clean_logits_BK: Tensor, batch_size: int
    ) -> tuple[pd.DataFrame, NDArray[np.float32]]:
        """One unit, in batches; a batch that does not fit into memory is halved and repeated."""
        began, passes = time.perf_counter(), Passes()
        frames: list[pd.DataFrame] = []
        images: list[NDArray[np.float32]] = []
        start, size = 0, batch_size
        while start < len(unit):
            stop = min(start + planned.attack.images_at_once(size), len(unit))
            batch = self._batch(unit.start + start, unit.start + stop, clean_logits_BK[start:stop])
            try:
                verdicts = planned.attack(
                    self.model, batch, planned.threat, seed=self.seed, passes=passes, lanes=size
                )
                frame, images_RCHW = _rows(batch, verdicts, planned.id)
            except Exception as error:
                if is_out_of_memory(error):
                    size = _halve(size, self.watcher)
                    continue
                if isinstance(error, UserError) or _is_ours(planned.attack):
                    raise
                raise UserError(
                    f"the attack {planned.id} failed with {brief(error)}. Mend its perturb(); "
                    "--debug shows where; finished units are kept."
                ) from error
            frames.append(frame)
            images.append(images_RCHW)
            start = stop
        rows = _concatenate(frames)
        rows.attrs = {
            "seconds": time.perf_counter() - began,
            "forward": passes.forward,
            "backward": passes.backward,
            "batch_size": size,
        }
        return rows, np.concatenate(images)

    def _batch(self, start: int, stop: int, clean_logits_BK: Tensor) -> Batch:
        where = self.device.device
        return Batch(
            x_BCHW=self._images(start, stop),
            labels_B=torch.from_numpy(self.data.labels_N[start:stop]).to(where),
            indices_B=torch.from_numpy(self.data.indices_N[start:stop]).to(where),
            clean_logits_BK=clean_logits_BK.to(where),
        )

    def _images(self, start: int, stop: int) -> Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(self.data.images_NCHW[start:stop]))
        scale = 255.0 if pixels.dtype == torch.uint8 else 1.0
        x_BCHW = pixels.to(self.device.device).to(dtype_of(self.model)).div_(scale)
        return x_BCHW.contiguous(memory_format=memory_format_of(self.model))

    def _logits(self, unit: Unit, batch_size: int) -> Tensor:
        """Output on the unit's clean images, on the CPU.

        Raises:
            UserError: the network returns NaN or infinity for a clean image.
        """
        pieces: list[Tensor] = []
        start, size = unit.start, batch_size
        while start < unit.stop:
            stop = min(start + size, unit.stop)
            try:
                with frozen(self.model), torch.no_grad():
                    output = self.model(self._images(start, stop))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                size = _halve(size, self.watcher)
                continue
            logits_BK = as_logits(output, stop - start)
            if not bool(logits_BK.isfinite().all()):
                raise UserError(
                    f"the network returns NaN or infinity for clean images {start} to {stop - 1}: "
                    "the checkpoint is damaged, or --normalize does not belong to it."
                )
            pieces.append(logits_BK.cpu())
            start = stop
        return torch.cat(pieces)

    def _manifest(self) -> dict[str, Any]:
        batch_size = self.batch_size or _auto_batch(self.device.device, self.data)
        size = -(-max(batch_size, _UNIT_IMAGES) // batch_size) * batch_size
        if self.device.device.type != "cpu":
            # Room to refill vacated lanes. A CPU pays by the image, and its units take long.
            size = max(size, *(p.attack.images_at_once(batch_size) for p in self.plan))
        known = (self.facts.get("checkpoint") or {}).get("sha256")
        digest = known or _weights_digest(self.model)
        manifest = {
            "status": "running",
            "started": now(),
            "finished": None,
            **environment(),
            "command": [],
            "checkpoint": {"name": type(self.model).__name__, "path": None, "sha256": digest},
            "model": {
                "architecture": type(self.model).__name__,
                "decided_by": "given as a torch module",
                "parameters": sum(p.numel() for p in self.model.parameters()),
            },
            "dataset": describe_dataset(self.data),
            "threat": _describe_threats(self.plan),
            "attacks": {planned.id: planned.describe() for planned in self.plan},
            "engine": "native",
            "seed": self.seed,
            "precision": {
                "dtype": str(dtype_of(self.model)).removeprefix("torch."),
                "tf32": False,
                "memory_format": str(memory_format_of(self.model)).removeprefix("torch."),
            },
            "device": self.device.describe(),
            "batch_size": batch_size,
            "batch_size_asked": self.batch_size or "auto",
            "unit_images": size,
            "save_adv": self.save_adv,
            "warnings": [],
        }
        for key, value in self.facts.items():
            merge = isinstance(value, Mapping) and isinstance(manifest.get(key), dict)
            manifest[key] = {**manifest[key], **value} if merge else value
        return manifest

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        assert self.folder is not None
        make_folder(self.folder)
        write_atomically(self.folder / "manifest.json", to_json(manifest).encode())
        for planned in self.plan:
            unit = Unit(planned.id, 0, 0, 0)
            make_folder(FolderUnits(self.folder / "units").file(unit).parent)
        if self.save_adv:
            make_folder(self.folder / "adversarial")

    def _finish(
        self, manifest: Mapping[str, Any], units: list[Unit], rows: Mapping[Unit, pd.DataFrame]
    ) -> dict[str, Any]:
        cost = {
            planned.id: {
                key: sum(
                    rows[unit].attrs.get(key, 0) for unit in units if unit.attack == planned.id
                )
                for key in ("seconds", "forward", "backward")
            }
            for planned in self.plan
        }
        batch_sizes = sorted({frame.attrs.get("batch_size", 0) for frame in rows.values()})
        return {
            **manifest,
            "status": "finished",
            "finished": now(),
            "cost": cost,
            "batch_sizes_used": batch_sizes,
        }

    def _announce(self, units: list[Unit], finished: Mapping[Unit, pd.DataFrame]) -> None:
        costs = {planned.id: self._cost(planned) for planned in self.plan}
        total = sum(costs[unit.attack] * len(unit) for unit in units)
        done = sum(costs[unit.attack] * len(unit) for unit in finished)
        title = str(self.facts.get("checkpoint", {}).get("name", type(self.model).__name__))
        if finished:
            self.watcher.note(
                f"{title}: continuing, {len(finished)} of {len(units)} units are done"
            )
        self.watcher.start(title, total, done)

    def _report(self, unit: Unit, of: int, rows: pd.DataFrame, planned: PlannedAttack) -> None:
        right = rows.groupby("index")["correct"].all().mean()
        self.watcher.advance(
            f"{unit.attack} {unit.number + 1}/{of}  "
            f"{len(unit)} images in {duration(rows.attrs['seconds'])}, {right:.1%} right",
            self._cost(planned) * len(unit),
        )

    def _cost(self, planned: PlannedAttack) -> float:
        """Passes per image; a backward pass costs about two forward ones."""
        forward, backward = planned.attack.passes_per_image(self.data.num_classes)
        return forward + 2.0 * backward


def describe_dataset(data: LabelledImages) -> dict[str, Any]:
    """What the manifest and the reports say of the images."""
    return {
        "name": data.name,
        "source": data.source,
        "n": len(data),
        "selection": "all",
        "fingerprint": data.fingerprint,
        "image_shape": list(data.image_shape),
        "class_names": list(data.class_names),
        "class_counts": data.class_counts.tolist(),
        "groupings": {name: list(groups) for name, groups in data.groupings.items()},
        "note": data.note,
    }


def _rows(
    batch: Batch, verdicts: Verdicts, attack: str
) -> tuple[pd.DataFrame, NDArray[np.float32]]:
    rows_R = verdicts.rows_R.cpu()
    labels_R = batch.labels_B.cpu()[rows_R].numpy()
    pred_R = verdicts.adv_pred_R.cpu().numpy()
    targets = None if verdicts.targets_R is None else verdicts.targets_R.cpu().numpy()
    frame = pd.DataFrame(
        {
            "index": batch.indices_B.cpu()[rows_R].numpy(),
            "label": labels_R,
            "attack": attack,
            "target": pd.array(
                [pd.NA] * len(rows_R) if targets is None else targets, dtype="Int32"
            ),
            "clean_pred": batch.clean_logits_BK.argmax(1).cpu()[rows_R].numpy(),
            "adv_pred": pred_R,
            "correct": pred_R == labels_R,
            "margin": verdicts.margin_R.float().cpu().numpy(),
            "confidence": verdicts.confidence_R.float().cpu().numpy(),
            "stage": pd.array([stage or pd.NA for stage in verdicts.stages], dtype="string"),
            "steps": verdicts.steps_R.cpu().numpy(),
            "linf": verdicts.linf_R.float().cpu().numpy(),
        }
    )
    return conform(frame), verdicts.adv_RCHW.float().cpu().numpy()


def _concatenate(frames: list[pd.DataFrame]) -> pd.DataFrame:
    for frame in frames[1:]:
        assert list(frame.columns) == list(frames[0].columns)
    bare = [frame.copy(deep=False) for frame in frames]
    for frame in bare:
        frame.attrs = {}
    return pd.concat(bare, ignore_index=True)


def _require_images(store: UnitStore, finished: dict[Unit, pd.DataFrame]) -> None:
    """Forget finished units whose adversarial images are not there."""
    if isinstance(store, FolderUnits):
        for unit in [unit for unit in finished if not store.has_images(unit)]:
            del finished[unit]


def _halve(size: int, watcher: Watcher) -> int:
    if size == 1:
        raise UserError(
            "not even one image fits into memory. Use another --device, or free memory on this "
            "one; finished units are kept."
        )
    watcher.note(f"out of memory at batch size {size}; going on with {size // 2}")
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return size // 2


def _auto_batch(device: torch.device, data: LabelledImages) -> int:
    _, height, width = data.image_shape
    size = AUTO_BATCH.get(device.type, 128)
    while size > 1 and size * height * width > 2 * AUTO_BATCH.get(device.type, 128) * _CIFAR_PIXELS:
        size //= 2
    return size


def _describe_threats(plan: Sequence[PlannedAttack]) -> dict[str, Any]:
    largest = max((planned.threat for planned in plan), key=lambda threat: threat.eps)
    return {
        "norm": largest.norm,
        "eps": largest.radius,
        "eps_text": format_quantity(largest.eps),
    }


def _weights_digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()


def as_threats(
    threat: Threat | float | str | Sequence[Threat | float | str] | None, data: LabelledImages
) -> list[Threat]:
    """One ball, or several for an ε profile; the data set's usual one by default."""
    if threat is None:
        return [Threat(data.default_eps)]
    if isinstance(threat, str):
        threat = threat.split(",")
    several = threat if isinstance(threat, Sequence) else [threat]
    return [each if isinstance(each, Threat) else Threat(each) for each in several]


def require_own_names(plan: Sequence[PlannedAttack]) -> None:
    """Each attack has an id and a file name to itself, and ``clean`` is what it says.

    Raises:
        UserError: it has not.
    """
    files: dict[str, str] = {}
    for planned in plan:
        if planned.id == "clean" and not isinstance(planned.attack, Clean):
            raise UserError("an attack of your own is called 'clean'; give it another name.")
        if not re.fullmatch(r"\w[\w@:./+-]*", planned.id):
            raise UserError(
                f"an attack is called {planned.id!r}; give it a name of letters, digits and -."
            )
        file = file_name(planned.id).lower()
        if file in files:
            raise UserError(
                f"the attacks {files[file]} and {planned.id} would share a name; give each attack "
                "and each ε once, under a name of its own."
            )
        files[file] = planned.id


def _is_ours(attack: Attack) -> bool:
    return type(attack).__module__.partition(".")[0] == __name__.partition(".")[0]


def _as_labelled_images(
    dataset: LabelledImages | str | tuple[Tensor, Tensor], model: nn.Module
) -> LabelledImages:
    if isinstance(dataset, LabelledImages):
        return dataset
    if isinstance(dataset, str):
        return load_dataset(dataset)
    try:
        images_NCHW, labels_N = map(torch.as_tensor, dataset)
    except (TypeError, ValueError) as reason:
        raise UserError(
            f"the data set is a {type(dataset).__name__}; give a name, a LabelledImages or a pair "
            "of tensors (images, labels)."
        ) from reason
    if images_NCHW.ndim != 4 or labels_N.shape != images_NCHW.shape[:1] or not len(labels_N):
        raise UserError(
            f"images have shape {tuple(images_NCHW.shape)} and labels {tuple(labels_N.shape)}, "
            "expected N×C×H×W and N with N >= 1."
        )
    if labels_N.is_floating_point():
        raise UserError(f"labels are {labels_N.dtype}, expected class numbers as integers.")
    shape_CHW = tuple(images_NCHW.shape[1:])
    num_classes = probe(model, shape_CHW, "the tensors", by_gradient=False).shape[1]
    images_NCHW = images_NCHW.detach().cpu()
    if images_NCHW.dtype == torch.uint8:
        pixels = images_NCHW.numpy()
    else:
        pixels = images_NCHW.float().numpy()
        if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
            raise UserError(
                f"images are in [{pixels.min():g}, {pixels.max():g}], expected [0, 1]: "
                "put the normalisation into the model, not into the data."
            )
    return LabelledImages(
        name="arrays",
        images_NCHW=pixels,
        labels_N=labels_N.detach().cpu().numpy().astype(np.int64),
        class_names=tuple(map(str, range(num_classes))),
        indices_N=np.arange(len(pixels), dtype=np.int64),
        source="given as tensors",
    )
