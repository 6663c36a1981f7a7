"""Formats of shipped networks: how each is written, and opened again to be checked.

Only bytes that were written a moment ago, in this process, are opened here: programs of torch can
run code when they are loaded. B batch, C channels, K classes, H × W pixels.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from ferd_eval.errors import UserError, brief
from ferd_eval.models.onnx_network import OnnxNetwork
from ferd_train.export.deployed import Deployed

#: Images B×C×H×W to logits B×K.
Program = Callable[[Tensor], Tensor]


class Format(Protocol):
    """A kind of file."""

    packages: tuple[str, ...]  #: that it needs beside torch

    def write(self, network: Deployed, x_BCHW: Tensor, metadata: Mapping[str, str]) -> bytes:
        """The file, whole, for images like these and any number of them."""
        ...

    def open(self, content: bytes) -> Program:
        """The network in what `write` has just made."""
        ...


class Onnx:
    """ONNX by torch.onnx.export, opened as `ferd_eval` opens any ONNX file."""

    packages: tuple[str, ...] = ("onnx", "onnxscript", "onnxruntime")

    def write(self, network: Deployed, x_BCHW: Tensor, metadata: Mapping[str, str]) -> bytes:
        program = torch.onnx.export(
            network,
            (x_BCHW,),
            dynamo=True,
            verbose=False,
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
        assert program is not None
        model = program.model_proto
        for key, value in metadata.items():
            model.metadata_props.add(key=key, value=value)
        content: bytes = model.SerializeToString()
        return content

    def open(self, content: bytes) -> Program:
        return OnnxNetwork(content)


class ExportedProgram:
    """torch.export.save."""

    packages: tuple[str, ...] = ()

    def write(self, network: Deployed, x_BCHW: Tensor, metadata: Mapping[str, str]) -> bytes:
        any_number = ({0: torch.export.Dim("batch")},)
        program = torch.export.export(network, (x_BCHW,), dynamic_shapes=any_number)
        file = io.BytesIO()
        torch.export.save(program, file, extra_files=dict(metadata))
        return file.getvalue()

    def open(self, content: bytes) -> Program:
        opened: Program = torch.export.load(io.BytesIO(content)).module()
        return opened


class TorchScript:
    """torch.jit.trace, which torch has deprecated."""

    packages: tuple[str, ...] = ()

    def write(self, network: Deployed, x_BCHW: Tensor, metadata: Mapping[str, str]) -> bytes:
        file = io.BytesIO()
        traced = torch.jit.trace(network, x_BCHW)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, file, _extra_files=dict(metadata))
        return file.getvalue()

    def open(self, content: bytes) -> Program:
        opened: Program = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
        return opened


#: By the name ``--format`` takes.
FORMATS: Mapping[str, Format] = {
    "onnx": Onnx(),
    "pt2": ExportedProgram(),
    "torchscript": TorchScript(),
}


@contextmanager
def exporting(what: str) -> Iterator[None]:
    """Quietly; UserError where the exporter cannot make this network's file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except Exception as error:  # exporters raise anything at all
        raise UserError(
            f"this network cannot be written as {what}: {brief(error)}. Choose another --format."
        ) from error
