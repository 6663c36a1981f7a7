"""The record of how a run came about, and whether two records describe the same run."""

from __future__ import annotations

import json
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from ferd_eval._version import __version__
from ferd_eval.errors import UserError
from ferd_eval.io.json import parse_json, without_checksum

#: What decides the outcomes. A folder is continued only if all of these agree.
IDENTITY = (
    "checkpoint.sha256", "checkpoint.key", "model.architecture", "model.model_file_sha256",
    "model.normalization", "dataset.name", "dataset.selection", "dataset.class_names",
    "dataset.fingerprint", "attacks", "attack_file_sha256", "groups", "engine", "seed",
    "precision", "batch_size_asked", "device.kind", "save_adv",
)  # fmt: skip

_ATTACK_PACKAGES = ("torchattacks", "pyautoattack", "autoattack")

#: What may change the last bit: must agree to continue an unfinished run.
ENVIRONMENT = (
    "ferd_eval", "code.commit",
    *(f"packages.{name}" for name in ("torch", "torchvision", "timm", *_ATTACK_PACKAGES)),
    "device.name", "device.cuda", "device.threads",
)  # fmt: skip

_PACKAGES = (
    "torch", "torchvision", "timm", "numpy", "scipy", "pandas", "pyarrow", *_ATTACK_PACKAGES
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Versions of everything that took part."""
    code = code_state()
    return {
        "ferd_eval": __version__,
        "code": code and {**code},
        "packages": {**_versions()},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


@cache
def _versions() -> dict[str, str]:
    """Versions of those among `_PACKAGES` that are installed."""
    packages = {}
    for name in _PACKAGES:
        try:
            packages[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return packages


@cache
def code_state() -> dict[str, Any] | None:
    """Commit and dirty flag when the package runs from its own git checkout, else None.

    Looked up once: later changes of the files do not change what this process has loaded.
    """
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists() or not (root / "ferd_eval").is_dir():
        return None

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def look_up(manifest: Mapping[str, Any], path: str) -> Any:
    """Follow a dotted path; None where it ends early."""
    value: Any = manifest
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


#: Where a run's record lies in its folder.
RECORD = "manifest.json"

#: What the record of a scoring run has at least.
_SCORING_FIELDS = frozenset({"status", "attacks", "unit_images"})


def read_manifest(
    folder: Path, fields: frozenset[str] = _SCORING_FIELDS, kind: str = "a scoring run"
) -> dict[str, Any] | None:
    """The record in a folder, None where there is none.

    UserError: there is one, but it cannot be read, is not as it was written, or lacks the `fields`
    of its `kind`.
    """
    file = folder / RECORD
    try:
        manifest = without_checksum(parse_json(file.read_text(encoding="utf-8")), file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as reason:
        raise UserError(
            f"{file} cannot be read: {reason}. Remove the folder or choose another with --out."
        ) from reason
    if not isinstance(manifest, dict) or not fields <= {*manifest}:
        raise UserError(f"{file} is not of {kind}. Choose another folder with --out.")
    return manifest


def require_same_run(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Refuse to continue a folder that belongs to another configuration.

    UserError: names the first field that differs, with both values.
    """
    paths = IDENTITY if old.get("status") == "finished" else IDENTITY + ENVIRONMENT
    for path in paths:
        if path == "checkpoint.key" and look_up(old, path) is None:
            path = "checkpoint.unwrapped"  # before keys were recorded, this told networks apart
        before, after = _normal(look_up(old, path)), _normal(look_up(new, path))
        reordered = path == "attacks" and list(before or ()) != list(after)
        if before != after or reordered:
            if reordered:
                before, after = ",".join(before or ()), ",".join(after)
            elif path == "attacks":
                path, before, after = _first_difference(before, after)
            elif path == "dataset.class_names" and len(before or ()) == len(after):
                k = next(k for k, name in enumerate(after) if name != before[k])
                path, before, after = f"the name of class {k}", before[k], after[k]
            raise UserError(
                f"{folder} holds a run with another configuration: {path} is {before}, "
                f"asked for is {after}. Choose another folder with --out, or repeat that run as "
                "it was."
            )


def _first_difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, Any, Any]:
    for attack, constants in before.items():
        for key in sorted({*constants, *after[attack]}):
            if constants.get(key) != after[attack].get(key):
                return f"attacks.{attack}.{key}", constants.get(key), after[attack].get(key)
    raise AssertionError("the attacks do not differ")


def _normal(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
