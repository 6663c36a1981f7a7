"""A look at clean accuracy before the attacks: is this the normalisation the network wants?"""

from __future__ import annotations

import numpy as np
import torch

from ferd_eval.attacks import frozen
from ferd_eval.datasets import LabelledImages
from ferd_eval.device import is_out_of_memory
from ferd_eval.models import NORMALIZATIONS, Classifier, ModelFacts, Normalization

#: Images looked at, spread over the set.
_SAMPLE = 128

#: Another normalisation is worth a warning from this gain in clean accuracy on.
_GAIN = 0.05


def normalization_hint(
    classifier: Classifier, facts: ModelFacts, data: LabelledImages, device: torch.device
) -> list[str]:
    """Warn when usual constants that were not chosen give clearly better clean accuracy.

    Nothing is changed by it: choosing constants by test accuracy would be selection on test data.
    Constants that the checkpoint itself records are not questioned, and a network too large for a
    look is not looked at.
    """
    alternatives = {
        name: normalization
        for name, normalization in {"none": None, **NORMALIZATIONS}.items()
        if normalization != facts.normalization
        and (normalization is None or len(normalization.mean) == data.image_shape[0])
    }
    if not alternatives or "metadata" in facts.normalization_decided_by:
        return []
    rows = np.linspace(0, len(data) - 1, min(_SAMPLE, len(data))).astype(np.int64)
    dtype = next((p.dtype for p in classifier.parameters()), torch.float32)
    pixels = torch.from_numpy(data.images_NCHW[rows]).to(device, dtype)
    x_BCHW = pixels / 255 if data.images_NCHW.dtype == np.uint8 else pixels
    labels_B = torch.from_numpy(data.labels_N[rows]).to(device)
    network = classifier.network.to(device)

    def accuracy(normalization: Normalization | None) -> float:
        candidate = Classifier(
            network, num_classes=classifier.num_classes, normalization=normalization
        ).to(device, dtype)
        with frozen(candidate), torch.no_grad():
            batches = [candidate(part_BCHW) for part_BCHW in torch.split(x_BCHW, 32)]
        return float((torch.cat(batches).argmax(1) == labels_B).float().mean())

    try:
        chosen = accuracy(facts.normalization)
        others = {name: accuracy(constants) for name, constants in alternatives.items()}
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return []
    best = max(others, key=others.__getitem__)
    if others[best] < chosen + _GAIN:
        return []
    return [
        f"clean accuracy on {len(rows)} images is {chosen:.1%} with the normalisation used "
        f"({facts.normalization_decided_by}) but {others[best]:.1%} with --normalize {best}: check "
        "how the network was trained."
    ]
