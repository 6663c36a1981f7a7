"""Formats of weight files: told by their content, refused with a reason, never executed."""

from __future__ import annotations

import io
import json
import pickletools
import re
import struct
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import safetensors
import torch
from torch import Tensor

from ferd_eval.errors import brief, listed
from ferd_eval.io.inert_values import OLD_NAMES, PYTHON_STAND_INS
from ferd_eval.io.json import is_text
from ferd_eval.io.numpy_pickle import NUMPY_STAND_INS
from ferd_eval.io.torch_pickle import require_modest

Scalar = str | int | float | bool
Format = Literal["torch-zip", "torch-legacy", "safetensors", "onnx"]

#: How an ONNX file begins, which has no magic number: the version of its format, then a text or
#: number of its head, or the graph.
_ONNX_HEAD = re.compile(rb"\x08[\x01-\x7f][\x12\x1a\x22\x28\x32\x3a\x42]")
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


class Refused(Exception):  # noqa: N818
    """A file is no usable checkpoint. The message begins with a verb; the file comes before it.

    Attributes:
        code: Python to type for a usable one, given this file and the new one.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


def check_file(path: Path) -> int:
    """The size of a regular, non-empty file."""
    if not path.exists():
        near = sorted(p.name for p in path.parent.glob("*") if p.stem == path.stem and p.is_file())
        hint = f"; there is {', '.join(near[:3])} beside it" if near else "; check the path"
        raise Refused(f"does not exist{hint}")
    if not is_text(str(path)):
        raise Refused("has a name that is no text in UTF-8; rename it")
    if path.is_dir():
        raise Refused("is a folder; name the file of weights inside it")
    if not path.is_file():
        raise Refused("is not a regular file")
    size = path.stat().st_size
    if size == 0:
        raise Refused("is empty; fetch the file again")
    return size


def sniff(path: Path, size: int) -> Format:
    """The format, by the first bytes."""
    with path.open("rb") as stream:
        head = stream.read(512)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if head.startswith(b"PK\x03\x04"):
        return "torch-zip"
    if head.startswith(b"\x80") and _TORCH_LEGACY_MAGIC in head[:32]:
        return "torch-legacy"
    if text.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")) or b"<html" in text:
        raise Refused(
            "is a web page, not a checkpoint: the download was answered with HTML (a login, a "
            "virus-scan notice or a missing file); download again, from the direct link"
        )
    if text.startswith(b"version https://git-lfs"):
        raise Refused("is a git-lfs pointer, not the file itself; run 'git lfs pull'")
    if len(head) > 8 and head[8:9] == b"{":
        length = struct.unpack("<Q", head[:8])[0]
        if length > size - 8:
            raise Refused(
                f"looks like safetensors, but its header claims {length} bytes and the file "
                f"has {size}; it is truncated or damaged: fetch it again"
            )
        return "safetensors"
    if head.startswith(b"\x80"):
        offenders = _offenders(_pickle_globals(path.read_bytes()))
        named = f" (it asks for {listed(offenders, 4)})" if offenders else ""
        raise Refused(
            f"is a plain pickle{named}, which is never opened because unpickling runs code; "
            "save model.state_dict() with torch.save or safetensors"
        )
    if _ONNX_HEAD.match(head):
        return "onnx"
    kinds = {
        b"\x1f\x8b": "gzip: unpack it first",
        b"\x89HDF": "HDF5 (Keras?): only PyTorch weights can be scored",
        b"\x93NUMPY": "a NumPy array: only PyTorch weights can be scored",
        b"{": "JSON",
    }
    for magic, kind in kinds.items():
        if head.startswith(magic):
            raise Refused(f"is not a checkpoint but {kind}")
    raise Refused(
        f"is not a checkpoint: its first bytes, {head[:8]!r}, are those of neither a torch file "
        "nor safetensors"
    )


def read_safetensors(path: Path, size: int) -> tuple[dict[str, Tensor], dict[str, Scalar]]:
    """Tensors and metadata of a safetensors file."""
    with path.open("rb") as stream:
        length = struct.unpack("<Q", stream.read(8))[0]
        try:
            header = json.loads(stream.read(length))
        except (ValueError, RecursionError) as error:
            raise Refused(
                f"has a damaged safetensors header ({brief(error, 120)}); fetch the file again"
            ) from error
    if not isinstance(header, dict):
        raise Refused("has a damaged safetensors header; fetch the file again")
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except OSError:
        raise
    except Exception as error:
        raise Refused(
            f"is damaged safetensors ({brief(error, 120)}); fetch the file again"
        ) from error
    if not tensors:
        raise Refused("holds no tensors")
    return tensors, metadata


def read_torch(path: Path, size: int, format_: Format) -> object:
    """The content of a torch file, by torch's restricted unpickler."""
    if format_ == "torch-zip":
        _check_zip(path, size)
    try:
        require_modest(path)
    except ValueError as reason:
        raise Refused(
            f"is a damaged, truncated or hostile torch file: {reason}; fetch it again"
        ) from reason
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
            raise _refusal_of(offenders) from error
        raise Refused(
            f"is a damaged or truncated torch file ({brief(error, 120)}); fetch the file again"
        ) from error


def _check_zip(path: Path, size: int) -> None:
    """Refuse archives that cannot come from ``torch.save`` before anything is allocated for them.

    ``torch.save`` stores without compression, so the entries of an honest file never add up to
    more than the file; a compressed or overlapping one may claim any amount of memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError, struct.error) as error:
        raise Refused(
            f"is a truncated or damaged zip archive ({brief(error, 120)}); fetch it again"
        ) from error
    names = [entry.filename for entry in entries]
    _require_weights(names)
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 for entry in entries):
        raise Refused(
            "is a compressed or encrypted zip, which torch.save never writes; unpack it, or save "
            "it again with torch.save"
        )
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size:
        raise Refused(
            f"claims {claimed} bytes of content in a file of {size}; it is damaged or hostile"
        )


def _require_weights(names: Sequence[str]) -> None:
    """Refuse programs, arrays and all else that ``torch.save`` does not write, by their names."""
    last = [name.split("/")[-1] for name in names]
    if "serialized_exported_program.json" in last or "archive_format" in last:
        if any("/aotinductor/" in name for name in names):
            raise Refused(
                "is a program compiled by AOTInductor (.pt2), which is code and is never run; save "
                "the state_dict() of the network it was made from"
            )
        raise Refused(
            "is a program of torch.export (.pt2), which is never run, since loading it unpickles; "
            "score its checkpoint, or an ONNX file of it. Its weights alone can be read. If you "
            "trust the file",
            _FROM_EXPORT,
        )
    if "constants.pkl" in last or any("/code/" in name for name in names):
        raise Refused(
            "is a TorchScript program, which is code and is never run; its weights alone can be "
            "read. If you trust the file",
            _FROM_SCRIPT,
        )
    if "data.pkl" not in last:
        kind = "a NumPy archive" if any(n.endswith(".npy") for n in names) else "a zip archive"
        raise Refused(f"is {kind}, not a torch checkpoint (it has no data.pkl)")


def _unsafe_globals(path: Path, format_: Format, message: str) -> list[str]:
    """Name the imports that a refused pickle asks for, without importing them."""
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


def _refusal_of(offenders: Sequence[str]) -> Refused:
    quantised = [name for name in offenders if name.startswith(_QUANTISERS)]
    if quantised:
        return Refused(
            f"holds weights quantised by {quantised[0].partition('.')[0]} ({listed(quantised, 4)}"
            "), which are no plain tensors and were not opened. If you trust the file (and only "
            "then), save them dequantised, where that package is installed; the scores are then "
            "those of the dequantised network",
            _RESAVE,
        )
    return Refused(
        f"holds more than weights: it asks to import {listed(offenders, 4)}, which could run "
        "code, and was not opened. If you trust the file (and only then), re-save its tensors, "
        "from the project that wrote it",
        _RESAVE,
    )
