"""Whether a network can be attacked, and whether it belongs to a data set: asked before any work.

B batch, K classes, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferd_eval.attacks import PlannedAttack, frozen
from ferd_eval.datasets import LabelledImages, list_datasets
from ferd_eval.device import is_out_of_memory
from ferd_eval.errors import UserError
from ferd_eval.name_list import listed
from ferd_eval.user_code import brief


def dtype_of(model: nn.Module) -> torch.dtype:
    """Precision the network computes in."""
    kinds = [p.dtype for p in model.parameters() if p.is_floating_point()]
    return kinds[0] if kinds else torch.get_default_dtype()


def memory_format_of(model: nn.Module) -> torch.memory_format:
    """Layout of the network's convolutions; images in the same one spare it conversions."""
    kernels = [parameter for parameter in model.parameters() if parameter.ndim == 4]
    last = any(
        kernel.is_contiguous(memory_format=torch.channels_last) and not kernel.is_contiguous()
        for kernel in kernels
    )
    return torch.channels_last if last else torch.contiguous_format


def need_gradient(plan: Sequence[PlannedAttack], data: LabelledImages) -> bool:
    """Whether any of the attacks makes a backward pass."""
    return any(planned.attack.passes_per_image(data.num_classes)[1] for planned in plan)


def check_network(
    model: nn.Module, data: LabelledImages, dtype: torch.dtype, *, by_gradient: bool = False
) -> None:
    """Send one image through and see that K logits come out.

    Args:
        model: what is to be attacked.
        data: what its images and classes must fit.
        dtype: the network's precision.
        by_gradient: whether an attack needs the gradient of its output.

    Raises:
        UserError: the precision is below single, the image is not accepted, or the output is not
            B×K floating point, or has no gradient where one is needed.
    """
    if dtype not in (torch.float32, torch.float64):
        raise UserError(
            f"the network computes in {str(dtype).removeprefix('torch.')}, in which a perturbation "
            "of ε is rounded away. Convert it with model.float()."
        )
    if data.num_classes < 2:
        raise UserError(
            f"{data.name} has {data.num_classes} class; there is nothing it could be taken for. "
            "Give images of two classes or more."
        )
    logits_BK = probe(model, data.image_shape, data.name, by_gradient=by_gradient)
    if logits_BK.shape[1] != data.num_classes:
        raise UserError(wrong_class_count(logits_BK.shape[1], data))


def as_images(
    images_NCHW: NDArray[np.uint8] | NDArray[np.float32], model: nn.Module, device: torch.device
) -> Tensor:
    """Pixels in [0, 1], on the device, in the network's precision and layout."""
    scale = 255.0 if images_NCHW.dtype == np.uint8 else 1.0
    x_NCHW = torch.from_numpy(images_NCHW).to(device).to(dtype_of(model)).div_(scale)
    return x_NCHW.contiguous(memory_format=memory_format_of(model))


def probe(
    model: nn.Module,
    image_shape: tuple[int, ...],
    dataset: str,
    *,
    by_gradient: bool,
    advice: str | None = None,
) -> Tensor:
    """Logits of mid-grey images, one alone and two together, checked but for their number K.

    `advice` is the next step where the images are not accepted, in place of one for scoring.
    """
    logits_1K = _probe(model, (1, *image_shape), dataset, advice, by_gradient=by_gradient)
    with suppress(torch.OutOfMemoryError):  # then batches will be of one image
        _probe(model, (2, *image_shape), dataset, advice, by_gradient=by_gradient)
    return logits_1K


def _probe(
    model: nn.Module, shape: tuple[int, ...], dataset: str, advice: str | None, *, by_gradient: bool
) -> Tensor:
    where = next(model.parameters(), torch.empty(0)).device
    x_BCHW = torch.full(shape, 0.5, dtype=dtype_of(model), device=where)
    try:
        with frozen(model):
            output = model(x_BCHW.requires_grad_(by_gradient))
    except UserError as reason:
        if advice is None:
            raise
        raise UserError(f"{reason} {advice}") from reason
    except Exception as reason:
        if is_out_of_memory(reason):
            raise torch.OutOfMemoryError(str(reason)) from reason
        images = "images" if shape[0] == 1 else f"{shape[0]} images at a time"
        raise UserError(
            f"the network does not accept {images} of {dataset} ({'×'.join(map(str, shape[1:]))}): "
            f"{brief(reason)}. {advice or 'Check --dataset and --arch.'}"
        ) from reason
    logits_BK = as_logits(output, shape[0])
    if by_gradient and not logits_BK.requires_grad:
        raise UserError(
            "the network's output has no gradient with respect to the image (no_grad, detach or "
            "argmax inside it?), which the attacks need. Take that out, or give --attacks clean."
        )
    return logits_BK.detach()


def as_logits(output: object, images: int) -> Tensor:
    """What a network returned for so many images, as logits B×K.

    Raises:
        UserError: it is something else.
    """
    if not isinstance(output, Tensor):
        got = f"a {type(output).__name__}"
    elif output.ndim != 2 or len(output) != images or not output.is_floating_point():
        got = f"{output.dtype} of shape {tuple(output.shape)}"
    else:
        return output
    raise UserError(
        f"the network returns {got} for {images} image{'s' if images > 1 else ''}, expected "
        f"floating-point logits of shape ({images}, K). Wrap it so that it returns a B×K tensor."
    )


def _way_out(logits: int, data: LabelledImages) -> str:
    """What may be amiss with the classes of a user's own set; empty where nothing is seen."""
    kind = data.name.partition(":")[0]
    empty = [
        name for name, count in zip(data.class_names, data.class_counts, strict=True) if not count
    ]
    if kind == "npz" and data.num_classes == logits + 1 and data.class_names[0] in empty:
        return "If its labels begin at 1, save labels - 1: classes are numbered from 0. "
    if kind == "npz" and data.num_classes < logits:
        return (
            f"If it lacks images of some classes, name all {logits} in label order: class_names in "
            "the file, or --classes names.txt. "
        )
    if kind == "folder" and data.num_classes < logits:
        return "If it lacks images of some classes, make an empty folder for each. "
    if kind == "folder" and empty and data.num_classes > logits:
        return (
            f"Folders without images count as classes ({listed(empty)}): remove those that are "
            "none. "
        )
    return ""


def wrong_class_count(logits: int, data: LabelledImages) -> str:
    """The message for a network and a data set that do not belong together."""
    if data.name not in {info.name for info in list_datasets()}:
        return (
            f"the network has {logits} logits but {data.name} has {data.num_classes} classes. "
            f"{_way_out(logits, data)}Choose the checkpoint and the images that belong together."
        )
    usual = {10: "cifar10", 100: "cifar100", 200: "tiny-imagenet"}.get(logits)
    hint = f" Did you mean --dataset {usual}?" if usual and usual != data.name else ""
    return (
        f"checkpoint has {logits} logits but --dataset {data.name} has "
        f"{data.num_classes} classes.{hint or ' Choose the data set it was trained for.'}"
    )
