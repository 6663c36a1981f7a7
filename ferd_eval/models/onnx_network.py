"""A network in an ONNX file, run by onnxruntime: logits, and no gradients.

B batch, C channels, K classes, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ferd_eval.errors import UserError, brief

#: Packages that an ONNX file needs.
INSTALL = "pip install onnx onnxruntime"

_FIXED = "torch.onnx.export with dynamic_shapes, or ferd-train export, leaves the batch size open"


class OnnxNetwork(nn.Module):
    """A module that sends images through onnxruntime on the CPU, with as many threads as torch.

    Attributes:
        num_classes: K, None where the file leaves it open.
        in_channels: C, None where the file leaves it open.
    """

    def __init__(self, program: bytes) -> None:
        """From a whole ONNX file. It can name operators of onnxruntime only: none is loaded.

        Raises:
            UserError: onnxruntime is missing or refuses the file, or the file does not map one
                batch of float32 images, of any size, to one batch of logits.
        """
        super().__init__()
        self._program = program
        self._session = _session(program)
        (image,) = _only_one(self._session.get_inputs(), "input")
        (logits,) = _only_one(self._session.get_outputs(), "output")
        for each, dimensions, what in ((image, 4, "images B×C×H×W"), (logits, 2, "logits B×K")):
            if each.type != "tensor(float)" or len(each.shape) != dimensions:
                raise UserError(
                    f"its {each.name} is {each.type} of shape {_shape(each.shape)}; export a "
                    f"network with float32 {what}."
                )
        if isinstance(image.shape[0], int):
            raise UserError(f"it takes batches of exactly {image.shape[0]}: {_FIXED}.")
        self._names = image.name, logits.name
        self.in_channels = image.shape[1] if isinstance(image.shape[1], int) else None
        self.num_classes = logits.shape[1] if isinstance(logits.shape[1], int) else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits B×K, float32, on the images' device.

        Raises:
            UserError: a gradient is wanted, or the images are none that the network takes.
        """
        if x_BCHW.requires_grad and torch.is_grad_enabled():
            raise UserError(
                "a network in an ONNX file gives logits and no gradients; take the checkpoint it "
                "was exported from."
            )
        images = x_BCHW.detach().to("cpu", torch.float32).contiguous().numpy()
        image, logits = self._names
        try:
            (output,) = self._session.run([logits], {image: images})
        except Exception as error:  # onnxruntime has exceptions of its own
            shape = "×".join(map(str, images.shape))
            raise UserError(
                f"onnxruntime does not run it on images {shape}: {brief(error)}. Check --dataset."
            ) from error
        return torch.from_numpy(output).to(x_BCHW.device)

    def __reduce__(self) -> tuple[type[OnnxNetwork], tuple[bytes]]:
        """Copies and other processes open a session of their own."""
        return type(self), (self._program,)


def _session(program: bytes) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"an ONNX file is run by onnxruntime: {INSTALL}.") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what is wrong is in the exception
    try:
        return onnxruntime.InferenceSession(program, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has exceptions of its own
        raise UserError(f"onnxruntime cannot open it: {brief(error)}.") from error


def _only_one(values: Sequence[Any], what: str) -> Sequence[Any]:
    if len(values) != 1:
        names = ", ".join(each.name for each in values[:4])
        raise UserError(f"it has {len(values)} {what}s ({names}); export one with one {what}.")
    return values


def _shape(shape: Sequence[Any]) -> str:
    return "×".join("?" if each is None else str(each) for each in shape) or "()"
