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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NoReturn

import safetensors
import torch
from torch import Tensor

from ferd_eval.errors import UserError, listed, require_kind
from ferd_eval.io.files import file_sha256
from ferd_eval.io.inert_values import OLD_NAMES, PYTHON_STAND_INS
from ferd_eval.io.json import is_text
from ferd_eval.io.numpy_pickle import NUMPY_STAND_INS
from ferd_eval.io.torch_pickle import require_modest
from ferd_eval.models.checkpoint.stored_networks import (
    PREFIXES,
    Role,
    Scalar,
    StoredNetwork,
    choose_network,
    describe,
    left_behind,
    siblings,
    stored_networks,
    tensor_count,
)

Format = Literal["torch-zip", "torch-legacy", "safetensors"]
MeanStd = tuple[tuple[float, ...], tuple[float, ...]]

#: Names under which normalisation layers keep their constants.
_MEAN_STD_NAMES = (
    ("mean", "std"),
    ("means", "sds"),
    ("means", "stds"),
    ("mu", "sigma"),
    ("mu", "std"),
    ("_mean", "_std"),
    ("norm_mean", "norm_std"),
    ("new_mean", "new_std"),  # MadryLab's robustness
)

_TORCH_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")
#: Answered in place of what they name; nothing of them is imported or called.
_STAND_INS = (*NUMPY_STAND_INS, *PYTHON_STAND_INS)
# Globals that torch's own unpickler accepts. What else is in a refused file and has no stand-in is
# an offender.
_HARMLESS_GLOBALS = re.compile(
    r"collections\.(OrderedDict|Counter)"
    r"|torch\.(\w+Storage|Size|Tensor|device|u?int\d+|b?float\d+|bool|half|double|float|long)"
    r"|torch\.storage\.\w+Storage"
    r"|torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2"
    r"|torch\.serialization\._get_layout|torch\.nn\.parameter\.(Parameter|Buffer)|_codecs\.encode"
    r"|builtins\.(bytearray|set|complex)|" + "|".join(re.escape(name) for _, name in _STAND_INS)
)
# What the user is told to type, for a file that is trusted. It keeps tensors, names and numbers of
# whatever containers there are, so that what it writes is opened here; quantised tensors, such as
# those of torchao, become plain ones.
_RESAVE = (
    "import sys, torch; T = torch.Tensor; "
    "f = lambda o: f(o.state_dict()) if isinstance(o, torch.nn.Module) "
    "else {k: f(v) for k, v in o.items() if type(k) is str} if isinstance(o, dict) "
    "else [f(v) for v in o] if isinstance(o, (list, tuple)) "
    "else o.dequantize().as_subclass(T) if isinstance(o, T) and type(o) not in (T, "
    "torch.nn.Parameter) else o if isinstance(o, T) or type(o) in (str, int, float, bool) "
    "else None; "
    "torch.save(f(torch.load(sys.argv[1], map_location='cpu', weights_only=False)), sys.argv[2])"
)
#: Packages whose tensors are quantised.
_QUANTISERS = ("torchao.", "optimum.quanto.", "quanto.", "bitsandbytes.")
_FROM_SCRIPT = (
    "import sys, torch; torch.save(torch.jit.load(sys.argv[1], map_location='cpu').state_dict(), "
    "sys.argv[2])"
)
_FROM_EXPORT = (
    "import sys, torch; torch.save({**torch.export.load(sys.argv[1]).state_dict}, sys.argv[2])"
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
        key: which network of the file this is, as ``--key`` takes it; empty where there is one.
        choice: which networks the file holds, which was taken and why, as a sentence; empty where
            there was nothing to choose.
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
    key: str = ""
    choice: str = ""


def load_checkpoint(
    path: Path | str, *, role: Role = "student", key: str | None = None
) -> Checkpoint:
    """Read a checkpoint without executing anything in it.

    Args:
        path: the file.
        role: what it is wanted for. Of a student and its teacher in one file, the student is to be
            scored and the teacher to be distilled.
        key: name of the network to take where the file holds several, e.g. ``"student"``; the last
            parts of its path suffice. None leaves it to the rule.

    Raises:
        UserError: whatever the bytes are, if they are not a usable checkpoint; one line that says
            what they are instead and what to do.
    """
    require_kind(path, str | Path, "the checkpoint", "the path of a file of weights")
    path = Path(path)
    try:
        return _load(path, role, key)
    except UserError:
        raise
    except OSError as error:
        _refuse(path, f"cannot be read ({error.strerror or error})")
    except Exception as error:
        # A parser met bytes that none of the checks below foresaw: still the user's file, not us.
        _refuse(path, f"is not a readable checkpoint ({_brief(error)}); fetch the file again")


def _load(path: Path, role: Role, key: str | None) -> Checkpoint:
    size = _check_file(path)
    format_ = _sniff(path, size)
    content: object
    metadata: dict[str, Scalar] = {}
    if format_ == "safetensors":
        content, metadata = _read_safetensors(path, size)
    else:
        content = _read_torch(path, size, format_)
    networks = stored_networks(content)
    if not networks:
        _refuse(
            path,
            f"holds no state dict (it is {describe(content)}); save model.state_dict() instead",
        )

    def require_plain(network: StoredNetwork) -> None:
        _check_plain(path, network.tensors, size)

    try:
        choice = choose_network(content, networks, role, key, require_plain)
    except ValueError as reason:
        _refuse(path, str(reason))
    network = choice.network
    stored = network.tensors if choice.key else network.source.tensors
    _check_plain(path, stored, size)
    counts = _operation_counts(network.tensors)
    as_stored = {k: _on_cpu(tensor) for k, tensor in stored.items() if not _is_count(k)}
    cleaned = _Cleaning(
        {k: as_stored[k] for k in network.keys if k in as_stored}, _prefixes(network)
    )
    cleaned.run(path)
    if not cleaned.tensors:
        _refuse(path, "holds no network parameters; save model.state_dict() instead")
    _check_finite(path, cleaned.tensors)
    scalars, beside = siblings(network)
    return Checkpoint(
        name=path.stem,
        path=path,
        sha256=file_sha256(path),
        size=size,
        format=format_,
        tensors=MappingProxyType(cleaned.tensors),
        metadata=MappingProxyType({**metadata, **scalars}),
        unwrapped=" / ".join([*network.source.path, *cleaned.removed]),
        ignored=(*beside, *left_behind(choice, networks), *counts, *cleaned.ignored),
        embedded_normalization=cleaned.normalization,
        as_stored=MappingProxyType(as_stored),
        key=choice.key,
        choice=choice.said,
    )


# --- The file ------------------------------------------------------------------------------------


def _refuse(path: Path, what: str, command: str = "") -> NoReturn:
    """Say in one line what a file is; nothing may follow what is to be typed."""
    message = " ".join(f"checkpoint {path} {what}".split())
    if command:
        raise UserError(f"{message}: {command}")
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
            torch.serialization.safe_globals([*_STAND_INS]),
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
    _require_weights(path, names)
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


def _require_weights(path: Path, names: Sequence[str]) -> None:
    """Refuse archives of something else, by the names in them; say what to type where that helps.

    Raises:
        UserError: it is a program, arrays, or anything but what ``torch.save`` writes.
    """
    last = [name.split("/")[-1] for name in names]
    if "serialized_exported_program.json" in last or "archive_format" in last:
        if any("/aotinductor/" in name for name in names):
            _refuse(
                path,
                "is a program compiled by AOTInductor (.pt2), which is code and is never run; save "
                "the state_dict() of the network it was made from",
            )
        _refuse(
            path,
            "is a program of torch.export (.pt2), which is never run; its weights alone can be "
            "read. If you trust the file",
            _command(_FROM_EXPORT, path),
        )
    if "constants.pkl" in last or any("/code/" in name for name in names):
        _refuse(
            path,
            "is a TorchScript program, which is code and is never run; its weights alone can be "
            "read. If you trust the file",
            _command(_FROM_SCRIPT, path),
        )
    if "data.pkl" not in last:
        kind = "a NumPy archive" if any(n.endswith(".npy") for n in names) else "a zip archive"
        _refuse(path, f"is {kind}, not a torch checkpoint (it has no data.pkl)")


def _command(code: str, path: Path) -> str:
    target = path.with_name(f"{path.stem}.weights.pt")
    return shlex.join(["python", "-c", code, str(path), str(target)])


def _unsafe_globals(path: Path, format_: Format, message: str) -> list[str]:
    """Name what a refused pickle wanted to import, without importing it."""
    if format_ == "torch-zip":
        with zipfile.ZipFile(path) as archive:
            entry = next(n for n in archive.namelist() if n.split("/")[-1] == "data.pkl")
            found = _pickle_globals(archive.read(entry))
    else:
        found = _pickle_globals(path.read_bytes())
    refused = re.findall(r"Unsupported (?:global|class): GLOBAL ([\w.]+)", message)
    named = {name.rpartition(".")[2] for name in found}
    return _offenders([*found, *(name for name in refused if name not in named)])


def _offenders(names: Sequence[str]) -> list[str]:
    return [n for n in dict.fromkeys(names) if not _HARMLESS_GLOBALS.fullmatch(_today(n))]


def _today(name: str) -> str:
    """What Python 3 calls something that a pickle names as Python 2 did."""
    module, _, inner = name.rpartition(".")
    return f"builtins.{OLD_NAMES.get(inner, inner)}" if module == "__builtin__" else name


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
    command = _command(_RESAVE, path)
    quantised = [name for name in offenders if name.startswith(_QUANTISERS)]
    if quantised:
        _refuse(
            path,
            f"holds weights quantised by {quantised[0].partition('.')[0]} ({listed(quantised, 4)}"
            "), which are no plain tensors and were not opened. If you trust the file (and only "
            "then), save them dequantised, where that package is installed; the scores are then "
            "those of the dequantised network",
            command,
        )
    _refuse(
        path,
        f"holds more than weights: it asks to import {listed(offenders, 4)}, which could run "
        "code, and was not opened. If you trust the file (and only then), re-save its tensors, "
        "from the project that wrote it",
        command,
    )


# --- Tensors -------------------------------------------------------------------------------------


#: What ``thop.profile`` registers in every module: counts of it, no part of it.
_COUNTS = ("total_ops", "total_params")


def _is_count(key: str) -> bool:
    return key.rpartition(".")[2] in _COUNTS


def _operation_counts(tensors: Mapping[str, Tensor]) -> list[str]:
    found = [key.rpartition(".")[2] for key in tensors if _is_count(key)]
    return [f"{name} ({tensor_count(found.count(name))})" for name in _COUNTS if name in found]


def _prefixes(network: StoredNetwork) -> tuple[str, ...]:
    """What may stand before all of a network's keys and say nothing about it."""
    own = [f"{part}." for part in network.prefix.split(".")[:-1]]
    return (*PREFIXES, *(prefix for prefix in own if prefix not in PREFIXES))


def _check_plain(path: Path, tensors: Mapping[str, Tensor], size: int) -> None:
    total = 0
    for key, tensor in tensors.items():
        if tensor.is_quantized:
            _refuse(path, f"holds {key} quantised; save weights of which each was dequantize()d")
        if tensor.layout is not torch.strided:
            _refuse(path, f"holds {key} as a sparse tensor; save its to_dense()")
        if tensor.is_meta:
            _refuse(path, f"names {key} without its numbers (a meta tensor); save a loaded network")
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
    prefixes: tuple[str, ...]
    removed: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    normalization: MeanStd | None = None

    def run(self, path: Path) -> None:
        while self._drop_counter() or self._strip_prefix() or self._pull_normalization(path):
            pass

    def _drop_counter(self) -> bool:
        """Averaging wrappers (torch.optim.swa_utils) count their updates beside the network."""
        if "n_averaged" not in self.tensors or len(self.tensors) == 1:
            return False
        del self.tensors["n_averaged"]
        self.ignored.append("n_averaged (1 tensor)")
        return True

    def _strip_prefix(self) -> bool:
        for prefix in self.prefixes:
            if self.tensors and all(key.startswith(prefix) for key in self.tensors):
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
