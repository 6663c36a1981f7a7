"""The record a run begins with: model, data, attacks, settings, device and environment."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from ferd_eval.attacks import Cascade, PlannedAttack, Threat
from ferd_eval.datasets import LabelledImages
from ferd_eval.evaluation.config import AUTO, EvalConfig
from ferd_eval.evaluation.cost.model import operations, search_unit
from ferd_eval.evaluation.model_checks import dtype_of, memory_format_of
from ferd_eval.io.epsilon import format_quantity
from ferd_eval.io.lock import now
from ferd_eval.results.manifest import environment
from ferd_eval.runtime.device import DeviceChoice

#: Images per forward pass under ``auto``, for 32×32 colour images; halved when memory runs out.
AUTO_BATCH = {"cpu": 128, "cuda": 1024, "mps": 256}
_CIFAR_PIXELS = 32 * 32

#: Fewest images in a shard of a plain attack: small batches must not make thousands of files.
_SHARD_IMAGES = 128

#: Most bytes of a shard's perturbed images, which are kept until it is written.
_SHARD_BYTES = 2**30


def new_manifest(
    model: nn.Module,
    data: LabelledImages,
    plan: Sequence[PlannedAttack],
    config: EvalConfig,
    choice: DeviceChoice,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """The record of a run that begins now; `facts` add to its entries or replace them."""
    batch_size = config.batch or _auto_batch(choice.device, data)
    known = (facts.get("checkpoint") or {}).get("sha256")
    largest = largest_threat(plan)
    manifest = {
        "status": "running",
        "started": now(),
        "finished": None,
        **environment(),
        "command": [],
        "config": config.to_json(),
        "checkpoint": {
            "name": type(model).__name__,
            "path": None,
            "sha256": known or _weights_digest(model),
        },
        "model": {
            "architecture": type(model).__name__,
            "decided_by": "given as a torch module",
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        "dataset": data.describe(),
        "threat": {
            "norm": largest.norm,
            "eps": largest.radius,
            "eps_text": format_quantity(largest.eps),
        },
        "attacks": {planned.id: planned.describe() for planned in plan},
        "engine": "native",
        "seed": config.seed,
        "precision": {
            "dtype": str(dtype_of(model)).removeprefix("torch."),
            "tf32": False,
            "memory_format": str(memory_format_of(model)).removeprefix("torch."),
            "searches_fold_batchnorm": config.fold_batchnorm,
            # Only where it is named: finished runs from before there was a choice are read again.
            **({} if config.search_precision == AUTO else {"search": config.search_precision}),
        },
        "device": choice.describe(),
        "batch_size": batch_size,
        "batch_size_asked": config.batch or "auto",
        "unit_images": -(-max(batch_size, _SHARD_IMAGES) // batch_size) * batch_size,
        "search_unit_images": _search_shard(model, data, plan, choice.device.type, batch_size),
        "save_adv": config.save_adv,
        "warnings": [],
    }
    for key, value in facts.items():
        merge = isinstance(value, Mapping) and isinstance(manifest.get(key), dict)
        manifest[key] = {**manifest[key], **value} if merge else value
    doubts = _few_classes(plan, data)
    manifest["warnings"] = [*data.cautions, *manifest["warnings"], *doubts]
    return manifest


def largest_threat(plan: Sequence[PlannedAttack]) -> Threat:
    """The largest ball of a plan."""
    return max((planned.threat for planned in plan), key=lambda threat: threat.eps)


def _search_shard(
    model: nn.Module,
    data: LabelledImages,
    plan: Sequence[PlannedAttack],
    kind: str,
    batch_size: int,
) -> int | None:
    """Images in a shard of a cascade, None where there is no cascade."""
    cascades = [each.attack for each in plan if isinstance(each.attack, Cascade)]
    attacks = [attack for each in cascades for attack in each.stages + each.audits]
    if not attacks:
        return None
    at_once = min(attack.images_at_once(batch_size) for attack in attacks)
    if at_once == batch_size:  # batches that must be as they are asked for
        return batch_size
    at_once = min(at_once, _SHARD_BYTES // (4 * math.prod(data.image_shape)))
    each = [attack.passes_per_image(data.num_classes) for attack in attacks]
    passes = max(forward + 2 * backward for forward, backward in each)
    where = next(model.parameters(), torch.empty(0)).device
    x_BCHW = torch.zeros(1, *data.image_shape, dtype=dtype_of(model), device=where)
    return search_unit(operations(model, x_BCHW), passes, kind, at_once)


def _few_classes(plan: Sequence[PlannedAttack], data: LabelledImages) -> list[str]:
    families = {attack.family for planned in plan for attack in planned.attacks}
    if "apgd-t" not in families or data.num_classes >= 4:
        return []
    return [
        f"AutoAttack's targeted loss needs four classes; with {data.num_classes} the plain "
        "difference of two logits stood in for it, so this is not AutoAttack standard."
    ]


def _auto_batch(device: torch.device, data: LabelledImages) -> int:
    _, height, width = data.image_shape
    usual = size = AUTO_BATCH.get(device.type, 128)
    while size > 1 and size * height * width > 2 * usual * _CIFAR_PIXELS:
        size //= 2
    return size


def _weights_digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")
    return digest.hexdigest()
