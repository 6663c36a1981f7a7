"""Small ONNX files, made without an exporter."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def linear(weight_KD: NDArray[np.float32], bias_K: NDArray[np.float32], shape: tuple[Any, ...]):
    """Flatten, then weight · pixels + bias: a model for images of shape B×C×H×W."""
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [shape[0], len(bias_K)])],
        [
            numpy_helper.from_array(weight_KD, "weight"),
            numpy_helper.from_array(bias_K, "bias"),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, producer_name="test", ir_version=9, opset_imports=opset)


def random_linear(num_classes: int, image_shape: tuple[int, int, int], seed: int = 0):
    """Its weights and bias, and the model."""
    rng = np.random.default_rng(seed)
    weight_KD = rng.normal(size=(num_classes, int(np.prod(image_shape)))).astype(np.float32)
    bias_K = rng.normal(size=num_classes).astype(np.float32)
    return weight_KD, bias_K, linear(weight_KD, bias_K, ("batch", *image_shape))
