"""An ONNX file: data that says what to compute, with everything it needs inside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ferd_eval.errors import brief, listed
from ferd_eval.models.checkpoint.formats import Refused, Scalar
from ferd_eval.models.onnx_network import INSTALL

#: Sets of operators that onnxruntime brings with it; any other would be a library of code.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")


def read_onnx(path: Path) -> tuple[bytes, dict[str, Tensor], dict[str, Scalar]]:
    """The file's bytes, its weights by name, and its metadata."""
    try:
        import onnx
    except ImportError as error:
        raise Refused(f"is an ONNX file, read by onnx and onnxruntime: {INSTALL}") from error
    program = path.read_bytes()
    try:
        model = onnx.load_model_from_string(program)
    except Exception as error:  # protobuf's own
        raise Refused(f"is a damaged ONNX file ({brief(error, 120)}); fetch it again") from error
    if not model.graph.node:
        raise Refused("is no ONNX file with a network in it; export it again")
    _require_own_operators(model)
    weights: dict[str, Tensor] = {}
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
            raise Refused(
                "keeps weights in other files, and no file is read on the word of another; save it "
                "in one piece: onnx.save(onnx.load(FILE), NEW)"
            )
    for tensor in model.graph.initializer:
        try:
            values = onnx.numpy_helper.to_array(tensor)
            weights[tensor.name] = torch.from_numpy(values.copy())
        except Exception as error:
            raise Refused(
                f"is a damaged ONNX file: {tensor.name} ({brief(error, 120)}); fetch it again"
            ) from error
    metadata: dict[str, Scalar] = {each.key: each.value for each in model.metadata_props}
    return program, weights, metadata


def _require_own_operators(model: Any) -> None:
    nodes = [*model.graph.node, *(node for each in model.functions for node in each.node)]
    local = {each.domain for each in model.functions}
    others = {node.domain for node in nodes} - {*_DOMAINS, *local}
    if others:
        raise Refused(
            f"needs operators of {listed(sorted(others), 4)}, which are libraries of code, and "
            "none is loaded; export it with standard operators"
        )


def _tensors(graph: Any) -> Iterator[Any]:
    """All of a graph and of the graphs inside it."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
