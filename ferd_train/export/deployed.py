"""The network as it is shipped: nothing but its arithmetic, the normalisation inside.

B batch, C channels, K classes, H × W pixels.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from ferd_eval.models import Classifier


class Deployed(nn.Module):
    """Images in [0, 1], float32, B×C×H×W, to logits, float32, B×K, for any B.

    A `Classifier` looks at shapes, which would fix the batch size of an exported program.
    """

    mean_C11: Tensor | None
    std_C11: Tensor | None

    def __init__(self, classifier: Classifier, *, half: bool) -> None:
        """Of a copy of the classifier's network; `half` makes it compute in float16.

        The normalisation stays in float32: pixels are rounded after it, not before.
        """
        super().__init__()
        self._dtype = torch.float16 if half else torch.float32
        network = copy.deepcopy(classifier.network).to(self._dtype).requires_grad_(False)
        # Weights that lie channels last are stored twice by torch.export.
        self.network = network.to(memory_format=torch.contiguous_format)
        for name, constants_C in (("mean", classifier.mean_C), ("std", classifier.std_C)):
            constants_C11 = None if constants_C is None else constants_C.view(-1, 1, 1)
            self.register_buffer(f"{name}_C11", constants_C11)
        self.eval()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if self.mean_C11 is not None and self.std_C11 is not None:
            x_BCHW = (x_BCHW - self.mean_C11) / self.std_C11
        logits_BK: Tensor = self.network(x_BCHW.to(self._dtype))
        return logits_BK.float()
