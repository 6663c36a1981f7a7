"""A file of weights, read without ever running what is in it.

`load_checkpoint` accepts what the field really leaves on disk (torch zip archives, torch files from
before 1.6, safetensors; bare state dicts and wrapped ones; ``module.`` and friends) and hands on
one frozen type. What it took off and what it left out is recorded, so that a report can say so.
"""

from __future__ import annotations

import io
import json
import pickletools
import re
import shlex
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NoReturn

import safetensors
import torch
from torch import Tensor

from ferd_eval.errors import UserError
from ferd_eval.file_digest import file_sha256
from ferd_eval.name_list import listed
from ferd_eval.numpy_values import STAND_INS, StoredArray, StoredScalar
from ferd_eval.output import is_text
from ferd_eval.torch_pickle import require_modest

Format = Literal["torch-zip", "torch-legacy", "safetensors"]
Scalar = str | int | float | bool
MeanStd = tuple[tuple[float, ...], tuple[float, ...]]

#: Where a state dict is looked for inside a file, first match wins: the weights that were trained
#: before their moving average, the student before its teacher. The losers are in `ignored`.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "student",
    "module",
    "params",
    "weights",
    "net_state_dict",
    "student_state_dict",
    "ema",
    "model_ema",
    "ema_state_dict",
    "state_dict_ema",
    "params_ema",
    "teacher",
)

#: Prefixes that say how a network was wrapped for training and nothing about the network.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "student.", "teacher.")

#: Names under which normalisation layers keep their constants.
_MEAN_STD_NAMES = (
    ("mean", "std"),
    ("means", "sds"),
    ("means", "stds"),
    ("mu", "sigma"),
    ("mu", "std"),
    ("_mean", "_std"),
    ("norm_mean", "norm_std"),
)

_MAX_NESTING = 5
_TORCH_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
# Globals that torch's own unpickler accepts, and those that have a stand-in; everything else in a
# refused file is an offender.
_HARMLESS_GLOBALS = re.compile(
    r"collections\.(OrderedDict|Counter|defaultdict)"
    r"|torch\.(\w+Storage|Size|Tensor|device|u?int\d+|b?float\d+|bool|half|double|float|long)"
    r"|torch\.storage\.\w+Storage"
    r"|torch\._utils\._rebuild_\w+|torch\.nn\.parameter\.(Parameter|Buffer)|_codecs\.encode"
    r"|numpy\.(dtype|ndarray|_?core\.multiarray\.(scalar|_reconstruct))|(__builtin__|builtins)\.bytes"
)
_RESAVE = (
    "import sys, torch; c = torch.load(sys.argv[1], map_location='cpu', weights_only=False); "
    "c = next((c[k] for k in ('state_dict', 'model_state_dict', 'model', 'net') if k in c), c) "
    "if isinstance(c, dict) else c; "
    "torch.save(c.state_dict() if hasattr(c, 'state_dict') else c, sys.argv[2])"
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The weights in a file, with everything known about where they came from.

    Attributes:
        name: file name without its suffix.
        path: the file as given.
        sha256: of the whole file, hexadecimal.
        size: of the file, in bytes.
        format: decided by the content, never by the suffix.
        tensors: the state dict, without wrappers, prefixes and normalisation constants; on the CPU,
            half precision raised to float32.
        as_stored: the same tensors under the names they have in the file, normalisation constants
            among them: for networks that are themselves built with a wrapper.
        metadata: safetensors metadata, or the plain scalars found beside the state dict.
        unwrapped: what was taken off, e.g. ``"state_dict / module."``; empty if nothing was.
        ignored: what the file also holds and nobody uses, e.g. ``"optimizer (62 tensors)"``.
        embedded_normalization: mean and standard deviation, C values each, of a normalisation layer
            that was saved with the network.
    """

    name: str
    path: Path
    sha256: str
    size: int
    format: Format
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    unwrapped: str = ""
    ignored: tuple[str, ...] = ()
    embedded_normalization: MeanStd | None = None
    as_stored: Mapping[str, Tensor] = field(default_factory=dict)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without executing anything in it.

    Raises:
        UserError: whatever the bytes are, if they are not a usable checkpoint; one line that says
            what they are instead and what to do.
    """
    path = Path(path)
    try:
        return _load(path)
    except UserError:
        raise
    except OSError as error:
        _refuse(path, f"cannot be read ({error.strerror or error})")
    except Exception as error:
        # A parser met bytes that none of the checks below foresaw: still the user's file, not us.
        _refuse(path, f"is not a readable checkpoint ({_brief(error)}); fetch the file again")


def _load(path: Path) -> Checkpoint:
    size = _check_file(path)
    format_ = _sniff(path, size)
    content: object
    metadata: dict[str, Scalar] = {}
    if format_ == "safetensors":
        content, metadata = _read_safetensors(path, size)
    else:
        content = _read_torch(path, size, format_)
    found = _find_state_dict(content, lightning=_is_lightning(content))
    if found is None:
        _refuse(
            path,
            f"holds no state dict (it is {_describe(content)}); save model.state_dict() instead",
        )
    if isinstance(found, str):
        _refuse(path, f"{found}; save only the one to evaluate")
    _check_plain(path, found.tensors, size)
    _drop_operation_counts(found)
    as_stored = {key: _on_cpu(tensor) for key, tensor in found.tensors.items()}
    cleaned = _Cleaning(dict(as_stored), lightning=found.lightning)
    cleaned.run(path)
    if not cleaned.tensors:
        _refuse(path, "holds no network parameters; save model.state_dict() instead")
    _check_finite(path, cleaned.tensors)
    return Checkpoint(
        name=path.stem,
        path=path,
        sha256=file_sha256(path),
        size=size,
        format=format_,
        tensors=MappingProxyType(cleaned.tensors),
        metadata=MappingProxyType({**metadata, **found.scalars}),
        unwrapped=" / ".join([*found.wrappers, *cleaned.removed]),
        ignored=(*found.ignored, *cleaned.ignored),
        embedded_normalization=cleaned.normalization,
        as_stored=MappingProxyType(as_stored),
    )


# --- The file ------------------------------------------------------------------------------------


def _refuse(path: Path, what: str) -> NoReturn:
    message = " ".join(f"checkpoint {path} {what}".split())
    raise UserError(message if message.endswith((".", "?", "'")) else f"{message}.")


def _brief(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:120]}" if text else type(error).__name__


def _check_file(path: Path) -> int:
    if not path.exists():
        near = sorted(p.name for p in path.parent.glob("*") if p.stem == path.stem and p.is_file())[
            :3
        ]
        hint = f"; there is {', '.join(near)} beside it" if near else "; check the path"
        _refuse(path, f"does not exist{hint}")
    if not is_text(str(path)):
        _refuse(path, "has a name that is no text in UTF-8; rename it")
    if path.is_dir():
        _refuse(path, "is a folder; name the file of weights inside it")
    if not path.is_file():
        _refuse(path, "is not a regular file")
    size = path.stat().st_size
    if size == 0:
        _refuse(path, "is empty; fetch the file again")
    return size


def _sniff(path: Path, size: int) -> Format:
    with path.open("rb") as stream:
        head = stream.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"PK\x03\x04"):
        return "torch-zip"
    if head.startswith(b"\x80") and _TORCH_LEGACY_MAGIC in head[:32]:
        return "torch-legacy"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")) or b"<html" in text:
        _refuse(
            path,
            "is a web page, not a checkpoint: the download was answered with HTML (a login, a "
            "virus-scan notice or a missing file); download again, from the direct link",
        )
    if text.startswith(b"version https://git-lfs"):
        _refuse(path, "is a git-lfs pointer, not the file itself; run 'git lfs pull'")
    if len(head) > 8 and head[8:9] == b"{":
        length = struct.unpack("<Q", head[:8])[0]
        if length > size - 8:
            _refuse(
                path,
                f"looks like safetensors, but its header claims {length} bytes and the file "
                f"has {size}; it is truncated or damaged: fetch it again",
            )
        return "safetensors"
    if head.startswith(b"\x80"):
        offenders = _offenders(_pickle_globals(path.read_bytes()))
        named = f" (it asks for {listed(offenders, 4)})" if offenders else ""
        _refuse(
            path,
            f"is a plain pickle{named}, which is never opened because unpickling runs code; "
            "save model.state_dict() with torch.save or safetensors",
        )
    kinds = {
        b"\x1f\x8b": "gzip: unpack it first",
        b"\x89HDF": "HDF5 (Keras?): only PyTorch weights can be scored",
        b"\x93NUMPY": "a NumPy array: only PyTorch weights can be scored",
        b"{": "JSON",
    }
    for magic, kind in kinds.items():
        if head.startswith(magic):
            _refuse(path, f"is not a checkpoint but {kind}")
    _refuse(
        path,
        f"is not a checkpoint: its first bytes, {head[:8]!r}, are those of neither a torch file "
        "nor safetensors",
    )


# --- safetensors ---------------------------------------------------------------------------------


def _read_safetensors(path: Path, size: int) -> tuple[dict[str, Tensor], dict[str, Scalar]]:
    with path.open("rb") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            _refuse(
                path, f"has a damaged safetensors header ({_brief(error)}); fetch the file again"
            )
    if not isinstance(header, dict):
        _refuse(path, "has a damaged safetensors header; fetch the file again")
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:
        _refuse(path, f"is damaged safetensors ({_brief(error)}); fetch the file again")
    if not tensors:
        _refuse(path, "holds no tensors")
    return tensors, metadata


# --- torch files ---------------------------------------------------------------------------------


def _read_torch(path: Path, size: int, format_: Format) -> object:
    if format_ == "torch-zip":
        _check_zip(path, size)
    try:
        require_modest(path)
    except ValueError as reason:
        _refuse(path, f"is a damaged, truncated or hostile torch file: {reason}; fetch it again")
    try:
        # A stream, because torch lets the suffix of a path choose the format.
        with (
            warnings.catch_warnings(),
            path.open("rb") as stream,
            torch.serialization.safe_globals(STAND_INS),
        ):
            warnings.simplefilter("ignore")
            return torch.load(stream, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:
        offenders = _unsafe_globals(path, format_, str(error))
        if offenders:
            _refuse_globals(path, offenders)
        _refuse(
            path,
            f"is a damaged or truncated torch file ({_brief(error)}); fetch the file again",
        )


def _check_zip(path: Path, size: int) -> None:
    """Refuse archives that cannot come from ``torch.save`` before anything is allocated for them.

    ``torch.save`` stores without compression, so the entries of an honest file never add up to
    more than the file; a compressed or overlapping one may claim any amount of memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error) as error:
        _refuse(path, f"is a truncated or damaged zip archive ({_brief(error)}); fetch it again")
    names = [entry.filename for entry in entries]
    if not any(name.split("/")[-1] == "data.pkl" for name in names):
        kind = "a NumPy archive" if any(n.endswith(".npy") for n in names) else "a zip archive"
        _refuse(path, f"is {kind}, not a torch checkpoint (it has no data.pkl)")
    if any(name.split("/")[-1] == "constants.pkl" or "/code/" in name for name in names):
        _refuse(
            path,
            "is a TorchScript program, which is code and is never run; save model.state_dict() "
            "with torch.save instead",
        )
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        _refuse(
            path,
            "is a compressed or encrypted zip, which torch.save never writes; unpack it, or save "
            "it again with torch.save",
        )
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size:
        _refuse(
            path,
            f"claims {claimed} bytes of content in a file of {size}; it is damaged or hostile",
        )


def _unsafe_globals(path: Path, format_: Format, message: str) -> list[str]:
    """Name what a refused pickle wanted to import, without importing it."""
    if format_ == "torch-zip":
        with zipfile.ZipFile(path) as archive:
            entry = next(n for n in archive.namelist() if n.split("/")[-1] == "data.pkl")
            found = _pickle_globals(archive.read(entry))
    else:
        found = _pickle_globals(path.read_bytes())
    found += re.findall(r"Unsupported (?:global|class): GLOBAL ([\w.]+)", message)
    return _offenders(found)


def _offenders(names: Sequence[str]) -> list[str]:
    return [n for n in dict.fromkeys(names) if not _HARMLESS_GLOBALS.fullmatch(n)]


def _pickle_globals(data: bytes) -> list[str]:
    """Return ``module.name`` of every global in the pickles that `data` begins with, as text."""
    found: list[str] = []
    stream = io.BytesIO(data)
    try:
        # A legacy torch file is five pickles in a row: magic, version, system, content, keys.
        for _ in range(5):
            strings: list[str] = []
            for opcode, argument, _position in pickletools.genops(stream):
                if opcode.name == "GLOBAL":
                    found.append(str(argument).replace(" ", "."))
                elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                    found.append(".".join(strings[-2:]))
                elif isinstance(argument, str):
                    strings.append(argument)
    except Exception:
        # Damaged pickle: what was named up to here is all that can be said.
        return found
    return found


def _refuse_globals(path: Path, offenders: Sequence[str]) -> NoReturn:
    target = path.with_name(f"{path.stem}.weights.pt")
    command = shlex.join(["python", "-c", _RESAVE, str(path), str(target)])
    _refuse(
        path,
        f"holds more than weights: it asks to import {listed(offenders, 4)}, which could run "
        "code, and was not opened. If you trust the file (and only then), re-save its state dict, "
        f"from the project that wrote it: {command}",
    )


# --- Wrappers ------------------------------------------------------------------------------------


@dataclass
class _Found:
    tensors: dict[str, Tensor]
    wrappers: list[str] = field(default_factory=list)
    scalars: dict[str, Scalar] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    lightning: bool = False


def _is_lightning(content: object) -> bool:
    return isinstance(content, Mapping) and "pytorch-lightning_version" in content


def _find_state_dict(
    content: object,
    *,
    lightning: bool = False,
    depth: int = 0,
    searched: dict[int, tuple[int, str | None]] | None = None,
) -> _Found | str | None:
    """Return the state dict in `content`, a sentence if it is not clear which, or None.

    `searched` has the containers without one: from which depth on, and what was said. Dictionaries
    that hold one another many times over would otherwise be walked through in every combination.
    """
    if depth > _MAX_NESTING:
        return None
    searched = {} if searched is None else searched
    earlier, said = searched.get(id(content), (_MAX_NESTING + 1, None))
    if depth >= earlier:
        return said
    found = _search(content, lightning, depth, searched)
    if not isinstance(found, _Found):
        searched[id(content)] = depth, found
    return found


def _search(
    content: object, lightning: bool, depth: int, searched: dict[int, tuple[int, str | None]]
) -> _Found | str | None:
    """`_find_state_dict` one level down."""
    if isinstance(content, list | tuple) and len(content) == 1:
        inner = _find_state_dict(
            content[0], lightning=lightning, depth=depth + 1, searched=searched
        )
        if isinstance(inner, _Found):
            inner.wrappers.insert(0, "[0]")
        return inner
    if not isinstance(content, Mapping):
        return None
    for key in WRAPPERS:
        if key in content and not isinstance(content[key], Tensor):
            inner = _find_state_dict(
                content[key], lightning=lightning, depth=depth + 1, searched=searched
            )
            if isinstance(inner, _Found):
                return _beside(content, key, inner)
    tensors = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if any(tensor.ndim > 0 for tensor in tensors.values()):
        found = _Found(tensors, lightning=lightning)
        _sort_siblings({k: v for k, v in content.items() if k not in tensors}, found)
        return found
    candidates: list[tuple[str, _Found]] = []
    for key, value in content.items():
        if not isinstance(key, str) or key.startswith(("optim", "sched", "scaler")):
            continue
        inner = _find_state_dict(value, lightning=lightning, depth=depth + 1, searched=searched)
        if isinstance(inner, _Found):
            candidates.append((key, inner))
    if len(candidates) > 1:
        return f"holds several state dicts ({listed([key for key, _ in candidates], 4)})"
    return _beside(content, *candidates[0]) if candidates else None


def _beside(content: Mapping[Any, object], key: str, inner: _Found) -> _Found:
    inner.wrappers.insert(0, key)
    _sort_siblings({k: v for k, v in content.items() if k != key}, inner)
    return inner


def _sort_siblings(siblings: Mapping[Any, object], found: _Found) -> None:
    for key, value in siblings.items():
        if isinstance(value, Tensor) and value.numel() == 1 and not value.is_sparse:
            value = value.item()
        if isinstance(key, str) and isinstance(value, str | int | float | bool):
            found.scalars.setdefault(key, value)
        elif value is not None:
            found.ignored.append(f"{key} ({_describe(value)})")


def _drop_operation_counts(found: _Found) -> None:
    """Leave out what ``thop.profile`` registers in every module: counts of it, no part of it."""
    for name in ("total_ops", "total_params"):
        keys = [key for key in found.tensors if key.rpartition(".")[2] == name]
        for key in keys:
            del found.tensors[key]
        if keys:
            found.ignored.append(f"{name} ({len(keys)} tensor{'s' * (len(keys) != 1)})")


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return "1 tensor"
    count = sum(1 for _ in _tensors_in(value, set()))
    if count:
        return f"{count} tensor{'s' * (count != 1)}"
    if isinstance(value, StoredArray | StoredScalar):
        return str(value)
    if isinstance(value, Mapping | list | tuple):
        return f"a {type(value).__name__} of {len(value)} without tensors"
    return f"a {type(value).__name__}"


def _tensors_in(value: object, seen: set[int], depth: int = 0) -> Iterator[Tensor]:
    # Each container is walked once, so that lists that share or hold themselves come to an end.
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple) and depth < 10 and id(value) not in seen:
        seen.add(id(value))
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors_in(item, seen, depth + 1)


# --- Tensors -------------------------------------------------------------------------------------


def _check_plain(path: Path, tensors: Mapping[str, Tensor], size: int) -> None:
    total = 0
    for key, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.is_meta:
            _refuse(path, f"holds {key} as a sparse, quantised or empty tensor; save dense weights")
        total += tensor.numel() * tensor.element_size()
    # Tied weights are stored once and named often; a stride of zero can name terabytes.
    if total > 8 * size + 2**20:
        _refuse(path, f"claims {total} bytes of weights in a file of {size}; it is damaged")


def _on_cpu(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.to(torch.float32)
    return tensor.to("cpu")


def _check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    bad = {
        key: int((~torch.isfinite(tensor)).sum())
        for key, tensor in tensors.items()
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())
    }
    if bad:
        first = next(iter(bad))
        _refuse(
            path,
            f"has NaN or infinite weights: {bad[first]} of {tensors[first].numel()} in {first}, "
            f"{sum(bad.values())} in {len(bad)} of {len(tensors)} tensors; training diverged or "
            "the file is damaged: use an earlier checkpoint",
        )


@dataclass
class _Cleaning:
    """Takes prefixes and normalisation layers off, innermost last, until none is left."""

    tensors: dict[str, Tensor]
    lightning: bool
    removed: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    normalization: MeanStd | None = None

    def run(self, path: Path) -> None:
        # Averaging wrappers (torch.optim.swa_utils) count their updates beside the network.
        if "n_averaged" in self.tensors and len(self.tensors) > 1:
            del self.tensors["n_averaged"]
            self.ignored.append("n_averaged (1 tensor)")
        while self._strip_prefix() or self._pull_normalization(path):
            pass

    def _strip_prefix(self) -> bool:
        for prefix in PREFIXES:
            if self.tensors and all(key.startswith(prefix) for key in self.tensors):
                self._keep(prefix)
                return True
        if self.lightning:
            counts = {p: sum(k.startswith(p) for k in self.tensors) for p in PREFIXES}
            prefix = max(counts, key=lambda p: counts[p])
            # One look: beside the network only losses, metrics and the like are expected.
            self.lightning = False
            if 2 * counts[prefix] > len(self.tensors):
                rest = [key for key in self.tensors if not key.startswith(prefix)]
                tensors = f"{len(rest)} tensor{'s' * (len(rest) != 1)}"
                self.ignored.append(f"{listed(rest, 2)} ({tensors})")
                self._keep(prefix)
                return True
        return False

    def _keep(self, prefix: str) -> None:
        self.tensors = {
            key.removeprefix(prefix): tensor
            for key, tensor in self.tensors.items()
            if key.startswith(prefix)
        }
        self.removed.append(prefix)

    def _pull_normalization(self, path: Path) -> bool:
        if self.normalization is not None:
            return False
        parents = dict.fromkeys(_parent(key) for key in self.tensors)
        for parent in (p for p in parents if p.count(".") <= 1):
            for names in _MEAN_STD_NAMES:
                keys = [parent + name for name in names]
                constants = [_channel_constants(self.tensors.get(key)) for key in keys]
                if constants[0] is None or constants[1] is None:
                    continue
                mean, std = constants[0], constants[1]
                alone = sum(_parent(key) == parent for key in self.tensors) == 2
                rest = len(self.tensors) - 2
                if len(mean) != len(std) or not (alone or not parent) or rest == 0:
                    continue
                if min(std) <= 0 or not all(map(_is_finite, (*mean, *std))):
                    _refuse(path, f"has a normalisation layer with {keys[1]} = {list(std)}")
                self.normalization = (mean, std)
                for key in keys:
                    del self.tensors[key]
                self.removed.append(f"{parent}{names[0]}/{names[1]}")
                # nn.Sequential(normalise, network)
                if parent == "0." and all(key.startswith("1.") for key in self.tensors):
                    self._keep("1.")
                return True
        return False


def _parent(key: str) -> str:
    """Return what stands before the last name of a key, with its dot, e.g. ``"0."`` or ``""``."""
    head, dot, _ = key.rpartition(".")
    return head + dot


def _channel_constants(tensor: Tensor | None) -> tuple[float, ...] | None:
    """Return C numbers from a tensor of shape C, C×1×1 or 1×C×1×1 with C at most 4."""
    if tensor is None or tensor.is_complex() or not 1 <= tensor.numel() <= 4:
        return None
    channels = tensor.numel()
    if tuple(tensor.shape) not in ((channels,), (channels, 1, 1), (1, channels, 1, 1)):
        return None
    # Constants are typed as 0.4914 and stored as float32: the shortest spelling is what was typed.
    return tuple(float(str(value)) for value in tensor.flatten().to(torch.float32).numpy())


def _is_finite(value: float) -> bool:
    return value - value == 0
