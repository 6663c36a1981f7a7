"""The one kind of network that attacks and metrics see: images in [0, 1] to logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ferd_eval.errors import UserError, require_kind
from ferd_eval.models.normalization import Normalization


class Classifier(nn.Module):
    """A network with its normalisation inside, in eval mode.

    Attributes:
        network: B×C×H×W, normalised, to logits B×K.
        num_classes: K.
        in_channels: C, None where the network's own code decides.
    """

    #: Buffers with the normalisation's constants; None if there is none, and then the images reach
    #: the network untouched.
    mean_C: Tensor | None
    std_C: Tensor | None

    def __init__(
        self,
        network: nn.Module,
        *,
        num_classes: int,
        in_channels: int | None = None,
        normalization: Normalization | None = None,
    ) -> None:
        super().__init__()
        require_kind(network, nn.Module, "the network", "a torch.nn.Module")
        require_kind(num_classes, int, "num_classes", "the number of logits")
        require_kind(
            normalization, Normalization | None, "normalization", "a Normalization or None"
        )
        if (
            normalization is not None
            and in_channels is not None
            and len(normalization.mean) != in_channels
        ):
            raise UserError(
                f"normalisation {normalization} is for {len(normalization.mean)} channels, but "
                f"the network takes {in_channels}; pass --normalize none or one value per channel."
            )
        self.network = network
        self.num_classes = num_classes
        self.in_channels = in_channels
        constants: tuple[Tensor | None, Tensor | None] = (None, None)
        if normalization is not None:
            constants = (torch.tensor(normalization.mean), torch.tensor(normalization.std))
        self.register_buffer("mean_C", constants[0])
        self.register_buffer("std_C", constants[1])
        self.eval()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits B×K for images in [0, 1].

        Raises:
            UserError: the images or the logits do not have the shape they should.
        """
        channels = self.in_channels
        if channels is None and self.mean_C is not None:
            channels = len(self.mean_C)
        if channels is not None and x_BCHW.shape[1] != channels:
            raise UserError(
                f"the network takes images of {channels} channel{'s' * (channels != 1)}, but these "
                f"have {x_BCHW.shape[1]}; use another --dataset."
            )
        if self.mean_C is not None and self.std_C is not None:
            x_BCHW = (x_BCHW - self.mean_C.view(-1, 1, 1)) / self.std_C.view(-1, 1, 1)
        logits_BK = self.network(x_BCHW)
        if not isinstance(logits_BK, Tensor):
            raise UserError(
                f"the network returns a {type(logits_BK).__name__}, not a tensor of logits; wrap "
                "it in a factory (--model-file) that returns only the logits."
            )
        if logits_BK.shape != (len(x_BCHW), self.num_classes) or not logits_BK.is_floating_point():
            shape = "×".join(map(str, logits_BK.shape))
            raise UserError(
                f"the network returns {logits_BK.dtype} of shape {shape}, not floating-point "
                f"logits of shape {len(x_BCHW)}×{self.num_classes}; check --arch "
                "and --model-file."
            )
        return logits_BK
