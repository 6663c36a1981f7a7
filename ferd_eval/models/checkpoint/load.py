"""Read a file of weights without ever running code from it.

`load_checkpoint` accepts what the field really leaves on disk (torch zip archives, torch files from
before 1.6, safetensors, ONNX; bare state dicts and wrapped ones; ``module.`` and friends) and hands
on one frozen type. What it took off and what it left out is recorded, so that a report can say so.
"""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from ferd_eval.errors import UserError, brief, require_kind
from ferd_eval.io.files import file_sha256
from ferd_eval.models.checkpoint.formats import (
    Format,
    Refused,
    Scalar,
    check_file,
    read_safetensors,
    read_torch,
    sniff,
)
from ferd_eval.models.checkpoint.onnx_file import read_onnx
from ferd_eval.models.checkpoint.state_dict import Cleaning, MeanStd
from ferd_eval.models.checkpoint.stored_networks import (
    Role,
    choose_network,
    describe,
    left_behind,
    require_plain,
    siblings,
    stored_networks,
)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """The weights in a file, with everything known about where they came from."""

    name: str  #: file name without its suffix
    path: Path  #: the file as given
    sha256: str  #: of the whole file, hexadecimal
    size: int  #: of the file, in bytes
    format: Format  #: decided by the content, never by the suffix
    #: The state dict, without wrappers, prefixes and normalisation constants; on the CPU, half
    #: precision raised to float32.
    tensors: Mapping[str, Tensor]
    #: Safetensors metadata, or the plain scalars found beside the state dict.
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    unwrapped: str = ""  #: wrappers removed, e.g. ``"state_dict / module."``; may be empty
    ignored: tuple[str, ...] = ()  #: beside it, unused, e.g. ``"optimizer (62 tensors)"``
    #: Mean and standard deviation, C values each, of a normalisation layer that was saved with the
    #: network.
    embedded_normalization: MeanStd | None = None
    #: The same tensors under the names they have in the file, normalisation constants among them:
    #: for networks that are themselves built with a wrapper.
    as_stored: Mapping[str, Tensor] = field(default_factory=dict)
    key: str = ""  #: which network of the file, as ``--key`` takes it; empty where there is one
    choice: str = ""  #: which networks there are, and why this was taken: a sentence, or empty
    #: The whole ONNX file, which says itself what to compute with its weights; None of any other.
    program: bytes | None = None


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
        UserError: the bytes, whatever they are, are no usable checkpoint; one line says what they
            are instead and what to do.
    """
    require_kind(path, str | Path, "the checkpoint", "the path of a file of weights")
    path = Path(path)
    try:
        return _load(path, role, key)
    except Refused as reason:
        refused = reason
    except OSError as error:
        refused = Refused(f"cannot be read ({error.strerror or error})")
    except Exception as error:
        # A parser met bytes that none of the checks below foresaw: still the user's file, not us.
        said = brief(error, 120)
        refused = Refused(f"is not a readable checkpoint ({said}); fetch the file again")
    message = " ".join(f"checkpoint {path} {refused}".split())
    if refused.code:  # nothing may follow what is to be typed
        target = path.with_name(f"{path.stem}.weights.pt")
        command = shlex.join(["python", "-c", refused.code, str(path), str(target)])
        raise UserError(f"{message}: {command}") from refused
    ended = message.endswith((".", "?", "'"))
    raise UserError(message if ended else f"{message}.") from refused


def _load(path: Path, role: Role, key: str | None) -> Checkpoint:
    size = check_file(path)
    format_ = sniff(path, size)
    if format_ == "onnx":
        return _load_onnx(path, size, role, key)
    content: object
    metadata: dict[str, Scalar] = {}
    if format_ == "safetensors":
        content, metadata = read_safetensors(path, size)
    else:
        content = read_torch(path, size, format_)
    networks = stored_networks(content)
    if not networks:
        raise Refused(
            f"holds no state dict (it is {describe(content)}); save model.state_dict() instead"
        )
    choice = choose_network(content, networks, role, key, size)
    network = choice.network
    stored = network.tensors if choice.key else network.source.tensors
    require_plain(stored, size)
    cleaned = Cleaning.of(network, stored)
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
        ignored=(*beside, *left_behind(choice, networks), *cleaned.ignored),
        embedded_normalization=cleaned.normalization,
        as_stored=MappingProxyType(cleaned.as_stored),
        key=choice.key,
        choice=choice.said,
    )


def _load_onnx(path: Path, size: int, role: Role, key: str | None) -> Checkpoint:
    if role == "teacher":
        raise Refused(
            "is an ONNX file, which gives no gradients; distil from the checkpoint it was made of"
        )
    if key is not None:
        raise Refused(f"is an ONNX file with one network; leave --key {key} out")
    program, tensors, metadata = read_onnx(path)
    return Checkpoint(
        name=path.stem,
        path=path,
        sha256=hashlib.sha256(program).hexdigest(),
        size=size,
        format="onnx",
        tensors=MappingProxyType(tensors),
        metadata=MappingProxyType(metadata),
        program=program,
    )
