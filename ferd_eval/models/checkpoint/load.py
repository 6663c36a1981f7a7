"""A file of weights, read without ever running what is in it.

`load_checkpoint` accepts what the field really leaves on disk (torch zip archives, torch files from
before 1.6, safetensors; bare state dicts and wrapped ones; ``module.`` and friends) and hands on
one frozen type. What it took off and what it left out is recorded, so that a report can say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from ferd_eval.errors import UserError, brief, require_kind
from ferd_eval.io.files import file_sha256
from ferd_eval.models.checkpoint.formats import (
    Format,
    check_file,
    read_safetensors,
    read_torch,
    refuse,
    sniff,
)
from ferd_eval.models.checkpoint.state_dict import (
    Cleaning,
    MeanStd,
    is_count,
    on_cpu,
    operation_counts,
    prefixes_of,
    require_finite,
    require_plain,
)
from ferd_eval.models.checkpoint.stored_networks import (
    Role,
    Scalar,
    choose_network,
    describe,
    left_behind,
    siblings,
    stored_networks,
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
        refuse(path, f"cannot be read ({error.strerror or error})")
    except Exception as error:
        # A parser met bytes that none of the checks below foresaw: still the user's file, not us.
        refuse(path, f"is not a readable checkpoint ({brief(error, 120)}); fetch the file again")


def _load(path: Path, role: Role, key: str | None) -> Checkpoint:
    size = check_file(path)
    format_ = sniff(path, size)
    content: object
    metadata: dict[str, Scalar] = {}
    if format_ == "safetensors":
        content, metadata = read_safetensors(path, size)
    else:
        content = read_torch(path, size, format_)
    networks = stored_networks(content)
    if not networks:
        refuse(
            path,
            f"holds no state dict (it is {describe(content)}); save model.state_dict() instead",
        )

    try:
        choice = choose_network(
            content,
            networks,
            role,
            key,
            lambda each: require_plain(path, each.tensors, size),
        )
    except ValueError as reason:
        refuse(path, str(reason))
    network = choice.network
    stored = network.tensors if choice.key else network.source.tensors
    require_plain(path, stored, size)
    counts = operation_counts(network.tensors)
    as_stored = {k: on_cpu(tensor) for k, tensor in stored.items() if not is_count(k)}
    cleaned = Cleaning(
        {k: as_stored[k] for k in network.keys if k in as_stored}, prefixes_of(network)
    )
    cleaned.run(path)
    if not cleaned.tensors:
        refuse(path, "holds no network parameters; save model.state_dict() instead")
    require_finite(path, cleaned.tensors)
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
