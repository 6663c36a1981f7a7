"""From a checkpoint to a classifier."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ferd_eval.errors import UserError, listed, require_kind
from ferd_eval.models.architectures.base import Architecture, Fit, load_weights
from ferd_eval.models.architectures.external import (
    ExternalNetwork,
    build_external,
    build_from_file,
    is_external,
)
from ferd_eval.models.architectures.registry import (
    UnknownNetworkError,
    detect,
    guess_in_channels,
    guess_num_classes,
)
from ferd_eval.models.checkpoint.load import Checkpoint, load_checkpoint
from ferd_eval.models.checkpoint.state_dict import MeanStd
from ferd_eval.models.checkpoint.stored_networks import whole_parts
from ferd_eval.models.classifier import Classifier
from ferd_eval.models.normalization import Normalization, parse_normalization
from ferd_eval.models.onnx_network import OnnxNetwork

# RobustBench networks bring these constants themselves; its files may or may not repeat them.
_OWN_CONSTANTS = re.compile(r"(.*\.)?(mu|sigma|mean|std)")


@dataclass(frozen=True)
class ModelFacts:
    """What a report says about a model, and how each thing was decided."""

    architecture: str  #: name, as ``--arch`` takes it
    decided_by: str  #: how the architecture was found, a sentence
    num_classes: int  #: K, the number of logits
    in_channels: int | None  #: C, None where a user's factory does not tell
    parameters: int = 0  #: number of trained numbers
    normalization: Normalization | None = None  #: constants in the classifier, None without
    normalization_decided_by: str = ""  #: how they were found, a sentence
    unused_keys: tuple[str, ...] = ()  #: keys of the file that play no part in the forward pass
    model_file_sha256: str | None = None  #: of the user's ``--model-file``
    caution: str = ""  #: an assumption that the file does not confirm; empty if none
    #: Architectures with the same keys and another forward pass, by name, the likeliest first; none
    #: where the file itself names its own.
    same_keys: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the facts as values that `json.dumps` takes."""
        return {
            **vars(self),
            "normalization": self.normalization and self.normalization.to_json(),
            "unused_keys": list(self.unused_keys),
            "same_keys": list(self.same_keys),
        }


@dataclass(frozen=True, eq=False)
class _Built:
    """A network with its weights, before its normalisation is decided."""

    network: nn.Module
    facts: ModelFacts
    #: The normalisation that its source is used to, and a sentence that says so.
    default: tuple[Normalization, str] | None = None
    normalizes_itself: bool = False


def build_classifier(
    checkpoint: Checkpoint | Path | str,
    *,
    arch: str | None = None,
    model_file: Path | str | None = None,
    normalize: str = "auto",
    num_classes: int | None = None,
) -> tuple[Classifier, ModelFacts]:
    """Turn weights into a classifier, in eval mode on the CPU, and say how it was done.

    Args:
        checkpoint: from `load_checkpoint`, or the path of one.
        arch: architecture name; None takes the file's own metadata or detects it.
        model_file: ``FILE.py:FACTORY`` of the user, run instead of `arch`.
        normalize: ``auto``, ``none``, a name or ``M,M,M/S,S,S``. ``auto`` takes the file's
            metadata, else a normalisation layer saved in it, else what torchvision and timm
            networks are used to, else none: robust networks take images in [0, 1]. Constants for
            pixels of 0 to 255 are divided by 255.
        num_classes: K where the file does not tell.

    Raises:
        UserError: the architecture cannot be decided or does not fit, or an option is wrong.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(checkpoint)
    if isinstance(model_file, Path):
        model_file = str(model_file)
    require_kind(arch, str | None, "arch", "a name or None")
    require_kind(model_file, str | None, "model_file", "FILE.py:FACTORY or None")
    require_kind(normalize, str, "normalize", "auto, none, a name or M,M,M/S,S,S")
    require_kind(num_classes, int | None, "num_classes", "a whole number or None")
    wanted = None if normalize == "auto" else parse_normalization(normalize)
    try:
        built = _build(checkpoint, arch, model_file, num_classes)
        if normalize == "auto":
            stored, decided_by = _automatic_normalization(checkpoint, built)
        else:
            stored, decided_by = wanted, f"--normalize {normalize}"
        normalization = stored and stored.for_unit_pixels()
    except UnknownNetworkError as error:
        raise UnknownNetworkError(f"{checkpoint.path}: {error}{_parts(checkpoint)}") from error
    except UserError as error:
        raise UserError(f"{checkpoint.path}: {error}") from error
    if normalization != stored:
        decided_by += ", divided by 255: the constants are for pixels of 0 to 255"
    overruled = checkpoint.embedded_normalization
    if normalize != "auto" and built.normalizes_itself:
        decided_by += ", before the network's own normalisation"
    elif normalize != "auto" and overruled is not None and Normalization(*overruled) != stored:
        decided_by += f", overruling the file's own layer {Normalization(*overruled)}"
    facts = replace(
        built.facts,
        parameters=built.facts.parameters or sum(p.numel() for p in built.network.parameters()),
        normalization=normalization,
        normalization_decided_by=decided_by,
    )
    classifier = Classifier(
        built.network,
        num_classes=facts.num_classes,
        in_channels=facts.in_channels,
        normalization=normalization,
    )
    return classifier, facts


def _parts(checkpoint: Checkpoint) -> str:
    """Advice where a state dict may be several networks that no name tells apart."""
    names = whole_parts(checkpoint.tensors)
    if len(names) < 2:
        return ""
    return f" If {listed(names, 4)} are networks of their own, choose one with --key {names[0]}."


def _automatic_normalization(
    checkpoint: Checkpoint, built: _Built
) -> tuple[Normalization | None, str]:
    recorded = checkpoint.metadata.get("ferd.normalization")
    if recorded is not None:
        return Normalization.from_json(str(recorded)), "recorded in the checkpoint's metadata"
    if built.normalizes_itself:
        return None, "none added: the network normalises for itself"
    if checkpoint.embedded_normalization is not None:
        return Normalization(*checkpoint.embedded_normalization), "a layer saved in the checkpoint"
    return built.default or (None, "none found: the network is given images in [0, 1]")


def _build(
    checkpoint: Checkpoint, arch: str | None, model_file: str | None, num_classes: int | None
) -> _Built:
    if arch is not None and model_file is not None:
        raise UserError("--arch and --model-file exclude each other; pass one.")
    if checkpoint.program is not None:
        return _run(checkpoint, checkpoint.program, arch or model_file, num_classes)
    sizes = {
        "num_classes": guess_num_classes(checkpoint.tensors) or num_classes,
        "in_channels": guess_in_channels(checkpoint.tensors),
    }
    if model_file is not None:
        return _fill(build_from_file(model_file, **sizes), checkpoint, num_classes)
    recorded = checkpoint.metadata.get("ferd.arch")
    if arch is not None and is_external(arch):
        return _fill(build_external(arch, **sizes), checkpoint, num_classes)
    decided_by = "detected from the checkpoint's keys and shapes"
    if arch is not None:
        decided_by = "named with --arch, verified against the checkpoint's keys and shapes"
    elif recorded is not None:
        decided_by = "recorded in the checkpoint's metadata, verified against its keys and shapes"
        arch = str(recorded)
    match = detect(checkpoint.tensors, name=arch)
    architecture = match.architecture
    _check_recorded(checkpoint, architecture)
    with torch.device("meta"):
        network = architecture.build()
    network = load_weights(network, architecture.canonical(checkpoint.tensors))
    facts = ModelFacts(
        architecture.name,
        decided_by,
        architecture.num_classes,
        architecture.in_channels,
        unused_keys=match.fit.unused,
        caution=_caution(architecture) if arch is None else "",
        same_keys=() if recorded is not None else tuple(each.name for each in architecture.twins),
    )
    # Measured 5 to 30 % faster than the default layout for every family; our own forward passes
    # accept it, which a user's `view` might not.
    return _Built(network.to(memory_format=torch.channels_last), facts)


def _run(
    checkpoint: Checkpoint, program: bytes, named: str | None, num_classes: int | None
) -> _Built:
    """The network that an ONNX file describes."""
    if named is not None:
        raise UserError(f"an ONNX file brings its architecture with it; leave {named} out.")
    network = OnnxNetwork(program)
    classes = network.num_classes or num_classes
    if classes is None:
        raise UserError("the file does not tell its number of classes; pass --dataset.")
    weights = checkpoint.tensors.values()
    facts = ModelFacts(
        "onnx",
        "the file says what to compute",
        classes,
        network.in_channels,
        sum(t.numel() for t in weights if t.is_floating_point() or t.dtype == torch.int8),
    )
    return _Built(network, facts, normalizes_itself=True)


def _caution(taken: Architecture) -> str:
    """Say which rarer networks have the same keys: detection cannot tell them apart."""
    if not taken.public_twins:
        return ""
    others = [
        f"{each.name} ({each.summary})" if each.summary else each.name
        for each in taken.public_twins
    ]
    return (
        f"taken for {taken.name} ({taken.summary}); the same keys fit "
        f"{listed(others, last='or')}: if the network was trained so, name it with --arch."
    )


def _check_recorded(checkpoint: Checkpoint, architecture: Architecture) -> None:
    for key, value in (
        ("ferd.num_classes", architecture.num_classes),
        ("ferd.in_channels", architecture.in_channels),
    ):
        recorded = checkpoint.metadata.get(key)
        if recorded is not None and str(recorded) != str(value):
            raise UserError(
                f"its metadata says {key} = {recorded}, but its weights say {value}; the file was "
                "edited or damaged: use the original."
            )


def _fill(external: ExternalNetwork, checkpoint: Checkpoint, num_classes: int | None) -> _Built:
    """Load the weights into somebody else's network, under the names it uses."""
    expected = external.network.state_dict()
    if not expected:
        raise UserError(f"{external.name} has no parameters to load the checkpoint into.")
    optional = _OWN_CONSTANTS if external.name.startswith("robustbench:") else None
    # A network that is built with its wrapper or its normalisation wants the file's own names.
    readings: list[Mapping[str, Tensor]] = [checkpoint.tensors, checkpoint.as_stored]
    fits = [Fit.between(expected, tensors, optional_keys=optional) for tensors in readings]
    best = min(range(len(fits)), key=lambda i: fits[i].distance)
    if not fits[best].exact:
        raise UserError(
            f"the checkpoint does not fit {external.name}: {fits[best]}. Change the factory, or "
            "leave --arch and --model-file out to detect the architecture."
        )
    tensors = readings[best]
    classes = guess_num_classes(tensors) or num_classes
    if classes is None:
        raise UserError(f"{external.name} does not tell its number of classes; pass --dataset.")
    has_constants = best == 1 and checkpoint.embedded_normalization is not None
    facts = ModelFacts(
        external.name,
        external.decided_by,
        classes,
        None if external.file_sha256 else guess_in_channels(tensors),
        model_file_sha256=external.file_sha256,
        caution=_unit_caution(checkpoint.embedded_normalization) if has_constants else "",
    )
    usual, source = external.normalization, external.name.partition(":")[0]
    return _Built(
        load_weights(external.network, tensors),
        facts,
        None if usual is None else (usual, f"what {source} networks are used to"),
        normalizes_itself=has_constants or optional is not None,
    )


def _unit_caution(constants: MeanStd | None) -> str:
    """Warn where the network's own normalisation layer expects other pixels."""
    assert constants is not None
    own = Normalization(*constants)
    try:
        expects_bytes = own.for_unit_pixels() != own
    except UserError:
        expects_bytes = False
    if not expects_bytes:
        return ""
    count = len(own.mean)
    to_bytes = f"{','.join(['0'] * count)}/{','.join([f'{1 / 255:.8f}'] * count)}"
    return (
        f"the network's own normalisation, {own}, is for pixels of 0 to 255, and it is given "
        f"pixels of 0 to 1: unless its forward pass multiplies by 255, add --normalize {to_bytes}."
    )
