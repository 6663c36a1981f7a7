"""Before any work: can the network be attacked, and does it belong to the data set?

B batch, K classes, C channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ferd_eval.attacks import PlannedAttack, frozen
from ferd_eval.datasets import LabelledImages, list_datasets
from ferd_eval.errors import UserError, brief, listed
from ferd_eval.metrics.sanity.check import LEVEL, excess_p
from ferd_eval.metrics.sanity.clean import near_chance
from ferd_eval.models import NORMALIZATIONS, Classifier, ModelFacts, build_classifier
from ferd_eval.models.checkpoint.load import Checkpoint
from ferd_eval.runtime.device import is_out_of_memory


def dtype_of(model: nn.Module) -> torch.dtype:
    """Precision the network computes in."""
    kinds = [p.dtype for p in model.parameters() if p.is_floating_point()]
    return kinds[0] if kinds else torch.get_default_dtype()


def memory_format_of(model: nn.Module) -> torch.memory_format:
    """Layout of the network's convolutions; images in the same one spare conversions."""
    last = any(
        kernel.is_contiguous(memory_format=torch.channels_last) and not kernel.is_contiguous()
        for kernel in model.parameters()
        if kernel.ndim == 4
    )
    return torch.channels_last if last else torch.contiguous_format


def need_gradient(plan: Sequence[PlannedAttack], data: LabelledImages) -> bool:
    """Whether any of the attacks makes a backward pass."""
    return any(planned.attack.passes_per_image(data.num_classes)[1] for planned in plan)


def check_network(
    model: nn.Module, data: LabelledImages, dtype: torch.dtype, *, by_gradient: bool = False
) -> None:
    """Send one image through: K logits must come out, with a gradient where attacks need it.

    UserError: the precision is below single, the image is not accepted, or the output is not B×K
    floating point, or has no gradient where one is needed.
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
    """Logits of one mid-grey image; one alone and two together must pass, whatever K is.

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
    """A network's output for so many images, if it is logits B×K; else UserError."""
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
    """A likely reason why the classes of a user's own set do not fit; may be empty."""
    counts = zip(data.class_names, data.class_counts, strict=True)
    empty, excess = [name for name, count in counts if not count], data.num_classes - logits
    match data.name.partition(":")[0]:
        case "npz" if excess == 1 and data.class_names[0] in empty:
            return "If its labels begin at 1, save labels - 1: classes are numbered from 0. "
        case "npz" if excess < 0:
            return (
                f"If it lacks images of some classes, name all {logits} in label order: "
                "class_names in the file, or --classes names.txt. "
            )
        case "folder" if excess < 0:
            return "If it lacks images of some classes, make an empty folder for each. "
        case "folder" if empty and excess > 0:
            folders = f"Folders without images count as classes ({listed(empty)})"
            return f"{folders}: remove those that are none. "
    return ""


def wrong_class_count(logits: int, data: LabelledImages) -> str:
    """The message for a network and a data set with different numbers of classes."""
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


#: Images tried, spread over the set: one in so many, but at least the second and at most the third.
_TRIED, _FEWEST, _MOST = 8, 32, 128

#: Gain in clean accuracy from which another reading is worth a warning.
_GAIN = 0.05


@dataclass(frozen=True)
class CleanTrial:
    """Clean accuracy on a few images, as the file was read and with other options."""

    images: int  #: how many
    accuracy: float  #: as the file was read
    others: Mapping[str, float]  #: options of ``score`` → accuracy with them in addition
    better: str | None  #: the options that do clearly better, None if none do

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def hint(self, facts: ModelFacts) -> str | None:
        """Propose the better options, if any; never taken by itself: that would be selection on
        test data.
        """
        if self.better is None:
            return None
        used = [f"as {facts.architecture}"] if "--arch" in self.better else []
        if "--normalize" in self.better:
            used.append(f"with the normalisation used ({facts.normalization_decided_by})")
        near = ", near chance," if near_chance(self.accuracy, facts.num_classes) else ""
        return (
            f"clean accuracy on {self.images} images is {self.accuracy:.1%}{near} "
            f"{' '.join(used)}, but {self.others[self.better]:.1%} with {self.better}"
            f"{self._equals(self.better)}: if the network was trained so, add that."
        )

    def _equals(self, better: str) -> str:
        """Options that so few images cannot tell from the better ones."""
        about = [
            options
            for options, accuracy in self.others.items()
            if accuracy > self.others[better] - _GAIN
            and options.count("--") == better.count("--")
            and options != better
        ]
        return f" (about the same with {listed(about)})" if about else ""


def try_readings(
    checkpoint: Checkpoint,
    classifier: Classifier,
    facts: ModelFacts,
    data: LabelledImages,
    device: torch.device,
) -> CleanTrial | None:
    """Test whether usual normalisations, or architectures with the same keys, do clearly better.

    Architectures are tried only where clean accuracy is implausible. What the checkpoint itself
    records is not questioned. None where memory is too short, or there is nothing to try.
    """
    try:
        return _try(checkpoint, classifier, facts, data, device)
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            return None
        raise


def _try(
    checkpoint: Checkpoint,
    classifier: Classifier,
    facts: ModelFacts,
    data: LabelledImages,
    device: torch.device,
) -> CleanTrial | None:
    count = min(max(len(data) // _TRIED, _FEWEST), _MOST, len(data))
    rows = np.linspace(0, len(data) - 1, count).astype(np.int64)
    x_BCHW = as_images(data.images_NCHW[rows], classifier, device)
    labels_B = torch.from_numpy(data.labels_N[rows]).to(device)
    normalizations = {"": facts.normalization}
    if "metadata" not in facts.normalization_decided_by:
        normalizations |= {
            f"--normalize {name}": normalization
            for name, normalization in {"none": None, **NORMALIZATIONS}.items()
            if normalization != facts.normalization
            and (normalization is None or len(normalization.mean) == data.image_shape[0])
        }
    right_B: dict[str, torch.Tensor] = {}

    def look(arch: str, network: nn.Module) -> None:
        for name, normalization in normalizations.items():
            candidate = Classifier(
                network, num_classes=classifier.num_classes, normalization=normalization
            ).to(device, x_BCHW.dtype)
            with frozen(candidate), torch.no_grad():
                batches = [candidate(part_BCHW) for part_BCHW in torch.split(x_BCHW, 32)]
            predicted_B = torch.cat(batches).argmax(1)
            right_B[" ".join(filter(None, (arch, name)))] = (predicted_B == labels_B).cpu()

    look("", classifier.network)
    if right_B[""].float().mean() < (1 + 1 / facts.num_classes) / 2:
        for name in facts.same_keys:
            twin, _ = build_classifier(checkpoint, arch=name, normalize="none")
            look(f"--arch {name}", twin.network)
    first_B = right_B.pop("")
    if not right_B:
        return None
    accuracy = {options: float(each_B.float().mean()) for options, each_B in right_B.items()}
    better = [
        options
        for options, each_B in right_B.items()
        if _is_better(each_B, first_B, level=LEVEL / len(right_B))
    ]
    most = max((accuracy[options] for options in better), default=0)
    # The fewest options that do about as well as any.
    enough = [options for options in better if accuracy[options] > most - _GAIN]
    return CleanTrial(
        images=len(rows),
        accuracy=float(first_B.float().mean()),
        others=accuracy,
        better=min(enough, key=lambda o: (o.count("--"), -accuracy[o]), default=None),
    )


def _is_better(right_B: torch.Tensor, first_B: torch.Tensor, *, level: float) -> bool:
    """Whether a reading gains enough, and more than chance explains (sign test)."""
    gained, lost = int((right_B & ~first_B).sum()), int((first_B & ~right_B).sum())
    sure = float(excess_p(gained, gained + lost, 0.5)) < level
    return sure and gained - lost >= _GAIN * len(right_B)
