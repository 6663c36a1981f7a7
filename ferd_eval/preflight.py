"""A look at clean accuracy before the attacks: was the network trained as its file is read?

B images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from ferd_eval.acceptance import as_images
from ferd_eval.attacks import frozen
from ferd_eval.checkpoint import Checkpoint
from ferd_eval.datasets import LabelledImages
from ferd_eval.device import is_out_of_memory
from ferd_eval.metrics.check import LEVEL, excess_p
from ferd_eval.metrics.clean import near_chance
from ferd_eval.models import NORMALIZATIONS, Classifier, ModelFacts, build_classifier
from ferd_eval.name_list import listed

#: Images looked at, spread over the set.
_SAMPLE = 128

#: Another reading is worth a warning from this gain in clean accuracy on.
_GAIN = 0.05


@dataclass(frozen=True)
class Trial:
    """Clean accuracy on a few images, as a file was read and as it could be read.

    Attributes:
        images: how many.
        accuracy: as the file was read.
        others: options of ``score`` → accuracy with them in addition.
        better: the options that do clearly better, None if none do.
    """

    images: int
    accuracy: float
    others: Mapping[str, float]
    better: str | None

    def to_json(self) -> dict[str, Any]:
        """Return the trial as `json.dumps` takes it."""
        return asdict(self)

    def hint(self, facts: ModelFacts) -> str | None:
        """Propose what did clearly better, None if nothing did.

        It is never taken: choosing by test accuracy would be selection on test data.
        """
        if self.better is None:
            return None
        used = [f"as {facts.architecture}"] if "--arch" in self.better else []
        if "--normalize" in self.better:
            used.append(f"with the normalisation used ({facts.normalization_decided_by})")
        near = ", near chance," if near_chance(self.accuracy, facts.num_classes) else ""
        return (
            f"clean accuracy on {self.images} images is {self.accuracy:.1%}{near} "
            f"{' '.join(used)}, but {self.others[self.better]:.1%} with {self.better}{self._or()}: "
            "if the network was trained so, add that."
        )

    def _or(self) -> str:
        """Those that so few images cannot tell from the better one."""
        assert self.better is not None
        least, changes = self.others[self.better] - _GAIN, self.better.count("--")
        about = [
            options
            for options, accuracy in self.others.items()
            if accuracy > least and options.count("--") == changes and options != self.better
        ]
        return f" (about the same with {listed(about)})" if about else ""


def try_readings(
    checkpoint: Checkpoint,
    classifier: Classifier,
    facts: ModelFacts,
    data: LabelledImages,
    device: torch.device,
) -> Trial | None:
    """Look whether usual constants, or an architecture with the same keys, do clearly better.

    Architectures are tried only where clean accuracy is implausible. What the checkpoint itself
    records is not questioned, and a network too large for a look is not looked at: None.
    """
    try:
        return _try(checkpoint, classifier, facts, data, device)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _try(
    checkpoint: Checkpoint,
    classifier: Classifier,
    facts: ModelFacts,
    data: LabelledImages,
    device: torch.device,
) -> Trial | None:
    rows = np.linspace(0, len(data) - 1, min(_SAMPLE, len(data))).astype(np.int64)
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
    return Trial(
        images=len(rows),
        accuracy=float(first_B.float().mean()),
        others=accuracy,
        better=min(enough, key=lambda o: (o.count("--"), -accuracy[o]), default=None),
    )


def _is_better(right_B: torch.Tensor, first_B: torch.Tensor, *, level: float) -> bool:
    """Whether a reading gains enough, and more than chance explains (sign test on the images)."""
    gained, lost = int((right_B & ~first_B).sum()), int((first_B & ~right_B).sum())
    sure = float(excess_p(gained, gained + lost, 0.5)) < level
    return sure and gained - lost >= _GAIN * len(right_B)
