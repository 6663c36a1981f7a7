"""The manifest as tables: constants of the attacks, cost, and provenance."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ferd_eval.metrics import Scorecard
from ferd_eval.report.format import NOTHING, Cell, Table, seconds, whole
from ferd_eval.results.manifest import look_up

#: Column of the table of constants → keys, of which the first recorded one counts.
_CONSTANTS: Mapping[str, tuple[str, ...]] = {
    "Family": ("family",),
    "ε": ("eps_text", "eps"),
    "Steps": ("steps",),
    "Step size": ("step_size_text", "step_size"),
    "Loss": ("loss",),
    "Random start": ("random_start",),
    "Counts": ("final",),
}


def constants_table(attacks: Mapping[str, Mapping[str, Any]]) -> Table:
    """Every constant each attack ran with; those without a column of their own come last."""
    return Table(
        "Constants of the attacks",
        ("Attack", *_CONSTANTS, "More"),
        tuple((attack, *_constants(constants)) for attack, constants in attacks.items()),
    )


def _constants(constants: Mapping[str, Any]) -> Iterator[Cell]:
    for keys in _CONSTANTS.values():
        first, *others = (constants.get(key) for key in keys)
        yield _text(first or others[0] if others else first)
    shown = {key for keys in _CONSTANTS.values() for key in keys}
    more = {key: value for key, value in constants.items() if key not in shown}
    yield _text({key: value for key, value in more.items() if value is not None}) or NOTHING


def cost_table(manifest: Mapping[str, Any]) -> Table | None:
    """Time and passes of each attack."""
    cost = manifest.get("cost") or {}
    if not cost:
        return None
    return Table.of(
        "Cost",
        (
            {
                "Attack": attack,
                "Seconds": seconds(of.get("seconds")),
                "Forward passes": whole(of.get("forward")),
                "Backward passes": whole(of.get("backward")),
            }
            for attack, of in cost.items()
        ),
        "Passes of single images.",
    )


def provenance_table(card: Scorecard, manifest: Mapping[str, Any]) -> Table:
    """Hashes, versions, device, precision and seed, as needed to repeat the run."""
    checkpoint, model, dataset = card.checkpoint, card.model, card.dataset
    device, precision = manifest.get("device") or {}, card.precision
    threat, code = manifest.get("threat") or {}, manifest.get("code") or {}
    shape = dataset.get("image_shape")
    lines = {
        "Status": manifest.get("status"),
        "Command": shlex.join(map(str, manifest.get("command") or ())),
        "Started": manifest.get("started"),
        "Finished": manifest.get("finished"),
        "Imported from": _sources(manifest.get("source") or ()),
        "Checkpoint": checkpoint.get("name"),
        "Checkpoint file": checkpoint.get("path"),
        "Checkpoint SHA-256": checkpoint.get("sha256"),
        "Checkpoint format": checkpoint.get("format"),
        "Network in the checkpoint": checkpoint.get("choice"),
        "Architecture": model.get("architecture"),
        "Architecture decided by": model.get("decided_by"),
        "Parameters": model.get("parameters"),
        "Normalisation": _normalisation(model) if model else None,
        "Normalisation decided by": model.get("normalization_decided_by"),
        "Checkpoint keys not used": ", ".join(fold_keys(model.get("unused_keys") or ())),
        "Data set": dataset.get("name"),
        "Data set source": dataset.get("source"),
        "Data set fingerprint": dataset.get("fingerprint"),
        "Images": dataset.get("n"),
        "Image shape": " × ".join(map(str, shape)) if shape else None,
        "Selection": dataset.get("selection"),
        "Order of classes": dataset.get("class_order"),
        "Note on the data": dataset.get("note"),
        "Threat model": _threat(threat),
        "Seed": card.seed,
        "Precision": precision.get("dtype"),
        "TF32": precision.get("tf32"),
        "Precision of searches": look_up(manifest, "search.precision"),
        "Batch size": manifest.get("batch_size"),
        "Device": ", ".join(str(device[key]) for key in ("kind", "name") if device.get(key)),
        "Device chosen because": device.get("reason"),
        "Threads": device.get("threads"),
        "Code": code.get("commit") and code["commit"] + (" with changes" if code["dirty"] else ""),
        **{f"Version of {name}": version for name, version in card.versions.items()},
    }
    return Table(
        "Provenance",
        ("What", "Value"),
        tuple(
            (label, _text(value)) for label, value in lines.items() if value not in (None, "", [])
        ),
    )


def fold_keys(keys: Sequence[str]) -> list[str]:
    """Keys of a state dict, those of one module as one entry: ``sub_block1.* (26 keys)``."""
    modules: dict[str, list[str]] = {}
    for key in keys:
        modules.setdefault(key.partition(".")[0], []).append(key)
    return [
        within[0] if len(within) == 1 else f"{module}.* ({len(within)} keys)"
        for module, within in modules.items()
    ]


def _sources(sources: Sequence[Mapping[str, Any]]) -> str:
    """Files that another tool wrote: names, attacks and digests."""
    return "; ".join(
        f"{each.get('name')} ({_text(each.get('attacks'))}, SHA-256 {each.get('sha256')})"
        for each in sources
    )


def _normalisation(model: Mapping[str, Any]) -> str:
    normalisation = model.get("normalization")
    if not normalisation:
        return "none"
    return f"mean {_text(normalisation['mean'])}, std {_text(normalisation['std'])}"


def _threat(threat: Mapping[str, Any]) -> str | None:
    if not threat:
        return None
    norm = {"linf": "L∞", "l2": "L2"}.get(str(threat.get("norm")), str(threat.get("norm")))
    eps = threat.get("eps_text") or threat.get("eps")
    return f"{norm}, {f'ε = {_text(eps)}' if eps else 'ε not known'}, pixels in [0, 1]"


def _text(value: Any) -> str:
    """Write a constant as a person would."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    return str(value)
