"""The network that makes images from noise.

FERD names its hyper-parameters only (arXiv 2509.20793); the layers are the common generator of
data-free distillation (Fang et al., "Contrastive model inversion", 2021). B batch, C channels,
H × W pixels, Z latent numbers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv_transpose2d, pad
from torch.nn.modules.batchnorm import _BatchNorm

from ferd_eval.errors import UserError
from ferd_train.synthesis.base import Setting
from ferd_train.training.seeds import Randomness
from ferd_train.training.sync_batchnorm import share_batch_norm

Layer = nn.Linear | nn.Conv2d | _BatchNorm
#: Draws a layer's weights, in place.
Draw = Callable[[Layer, torch.Generator], None]

_SLOPE = 0.2
_SPREAD = 0.02
# Two doublings lead from the first map to the image.
_FACTOR = 4


def run_generator(setting: Setting, latent: int, width: int, draw: Draw | None = None) -> Generator:
    """A `Generator` on the device, with batch normalisation over all processes.

    Its weights follow from the run's seed, so they are the same at each call.
    """
    stream = Randomness(setting.seed, 0).stream("generator")
    shape = setting.image_shape
    generator = Generator(shape, stream, latent=latent, width=width, draw=draw).to(setting.device)
    share_batch_norm(generator, setting.share)
    return generator


class Generator(nn.Module):
    """Latents B×Z to images B×C×H×W in [0, 1].

    A linear layer to 2·width maps of a quarter of the height and width, then twice: nearest
    upsampling, 3×3 convolution, batch normalisation, LeakyReLU 0.2 (2·width and width maps); a last
    3×3 convolution and a sigmoid. It stays in train mode: batch normalisation always uses the
    batch's statistics.

    Attributes:
        image_shape: C, H, W; H and W multiples of 4.
        latent: Z.

    Raises:
        UserError: H or W is no multiple of 4.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        generator: torch.Generator,
        *,
        latent: int = 100,
        width: int = 64,
        draw: Draw | None = None,
    ) -> None:
        """Make the network, its weights drawn from `generator` (on the CPU) as `reset` does.

        `width` is of the maps before the last layer; `draw` is None for `small_weights`.
        """
        super().__init__()
        self._draw = draw or small_weights
        channels, height, across = image_shape
        if height % _FACTOR or across % _FACTOR:
            raise UserError(
                f"images of {height}×{across} cannot be made; the generator doubles its maps "
                f"twice, so height and width must be multiples of {_FACTOR}."
            )
        self.image_shape = image_shape
        self.latent = latent
        with torch.random.fork_rng():  # the layers draw weights that `reset` replaces
            first = (2 * width, height // _FACTOR, across // _FACTOR)
            self.layers = nn.Sequential(
                nn.Linear(latent, 2 * width * first[1] * first[2]),
                nn.Unflatten(1, first),
                nn.BatchNorm2d(2 * width),
                *_doubling(2 * width, 2 * width),
                *_doubling(2 * width, width),
                nn.Conv2d(width, channels, 3, padding=1),
                nn.Sigmoid(),
            )
        self.reset(generator)

    def forward(self, z_BZ: Tensor) -> Tensor:
        x_BCHW: Tensor = self.layers(z_BZ)
        return x_BCHW

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw all weights anew, on the CPU so that every device has the same; clear statistics."""
        for layer in self.layers:
            if isinstance(layer, _BatchNorm):
                layer.reset_running_stats()
            if isinstance(layer, nn.Linear | nn.Conv2d | _BatchNorm):
                self._draw(layer, generator)
        self.zero_grad(set_to_none=True)

    def draw_latents(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` latents N(0, I), B×Z, drawn on the CPU, on the network's device."""
        z_BZ = torch.randn(count, self.latent, generator=generator)
        return z_BZ.to(next(self.parameters()).device)


def small_weights(layer: Layer, generator: torch.Generator) -> None:
    """Weights N(0, 0.02²), those of batch normalisation N(1, 0.02²), biases 0: as CMI's reset."""
    centre = 1.0 if isinstance(layer, _BatchNorm) else 0.0
    drawn = torch.randn(layer.weight.shape, generator=generator)
    layer.weight.copy_(drawn * _SPREAD + centre)
    if layer.bias is not None:
        layer.bias.zero_()


def usual_weights(layer: Layer, generator: torch.Generator) -> None:
    """Torch's defaults: U(−1/√n, 1/√n) for n inputs, batch normalisation 1 and 0.

    For the generators that public code makes once and never resets.
    """
    if isinstance(layer, _BatchNorm):
        layer.weight.fill_(1.0)
        layer.bias.zero_()
        return
    bound = layer.weight[0].numel() ** -0.5
    for tensor in (layer.weight, layer.bias):
        if tensor is not None:
            drawn = torch.rand(tensor.shape, generator=generator)
            tensor.copy_((2 * drawn - 1) * bound)


def _doubling(in_maps: int, out_maps: int) -> list[nn.Module]:
    """Twice the height and width; no bias, as batch normalisation would remove it."""
    return [
        _UpsampledConv2d(in_maps, out_maps, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_maps),
        nn.LeakyReLU(_SLOPE, inplace=True),
    ]


class _UpsampledConv2d(nn.Conv2d):
    """Nearest upsampling and a 3×3 convolution in one, B×I×H×W to B×O×2H×2W.

    Of the nine pixels under a kernel only four differ. Upsampling is a transposed convolution of
    stride 2 with ones, so both together are one with a kernel of 4×4: 4/9 of the multiplications,
    and the large maps in between are never made.
    """

    def forward(self, x_BIHW: Tensor) -> Tensor:
        turned_IO33 = self.weight.flip(2, 3).transpose(0, 1)
        # A full convolution with 2×2 ones, one axis after the other.
        tall_IO43 = pad(turned_IO33, (0, 0, 0, 1)) + pad(turned_IO33, (0, 0, 1, 0))
        kernel_IO44 = pad(tall_IO43, (0, 1)) + pad(tall_IO43, (1, 0))
        return conv_transpose2d(x_BIHW, kernel_IO44, stride=2, padding=1)
