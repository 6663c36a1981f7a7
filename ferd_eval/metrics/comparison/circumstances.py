"""What runs were scored with, beside network, images and attack: versions, arithmetic, hardware.

One checkpoint under one attack may get other figures from another release of the framework, so
whoever puts runs side by side says where these differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ferd_eval.results.manifest import look_up
from ferd_eval.results.outcomes import Outcomes

#: What makes two runs those of one network: the weights first.
_NETWORK = (
    "checkpoint.sha256",
    "checkpoint.key",
    "model.architecture",
    "model.model_file_sha256",
    "model.normalization",
)


def circumstances(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Those that a run records, by name."""
    precision = manifest.get("precision") or {}
    arithmetic = precision.get("dtype")
    if arithmetic and precision.get("tf32"):
        arithmetic = f"{arithmetic} (TF32)"
    recorded = {
        "torch": look_up(manifest, "packages.torch"),
        "CUDA": look_up(manifest, "device.cuda"),
        "torchvision": look_up(manifest, "packages.torchvision"),
        "timm": look_up(manifest, "packages.timm"),
        "precision": arithmetic,
        "precision of searches": look_up(manifest, "search.precision"),
        "ferd_eval": _product(manifest),
        "engine": manifest.get("engine"),
        "device": look_up(manifest, "device.kind"),
        "seed of the attacks": manifest.get("seed"),
    }
    return {name: str(value) for name, value in recorded.items() if value not in (None, "")}


def differing(runs: Sequence[Outcomes]) -> dict[str, tuple[str | None, ...]]:
    """Circumstances that are not the same for all: name → value of each run, None if unknown."""
    recorded = [circumstances(run.manifest) for run in runs]
    names = dict.fromkeys(name for each in recorded for name in each)
    values = {name: tuple(each.get(name) for each in recorded) for name in names}
    return {
        name: of_runs
        for name, of_runs in values.items()
        if len({value for value in of_runs if value is not None}) > 1
    }


def network(manifest: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The weights of a run and how they were read; None where it does not say whose."""
    read = tuple(look_up(manifest, path) or None for path in _NETWORK)
    return None if read[0] is None else read


def one_network(manifests: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all are runs of the same weights, read alike."""
    first, *others = map(network, manifests)
    return first is not None and all(other == first for other in others)


def _product(manifest: Mapping[str, Any]) -> str:
    """Version, and the commit where it is known."""
    code = manifest.get("code") or {}
    version = str(manifest.get("ferd_eval") or "")
    if not code.get("commit"):
        return version
    return f"{version} ({str(code['commit'])[:10]}{' with changes' if code.get('dirty') else ''})"
