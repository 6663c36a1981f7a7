"""Random numbers keyed by image and purpose, never by position in a batch.

The generator is Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
SC 2011): a counter goes in, four 32-bit words come out, and there is no state. The key is made of
(seed, stream), the counter of (block, draw, data-set index, target), so an image meets the same
noise whatever the batch size, the order, the shard or the machine. B batch, W words.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from math import prod
from typing import Self

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

Words = tuple[Tensor, Tensor, Tensor, Tensor]


def philox4x32(counter: Words, key: tuple[int, int]) -> Words:
    """Ten rounds of Philox on ``int64`` tensors, broadcast together, that hold 32-bit words."""
    shape = sum(counter[1:], start=counter[0]).shape
    c0, c1, c2, c3 = (word.expand(shape) for word in counter)
    k0, k1 = key
    for _ in range(_ROUNDS):
        # int64 products wrap modulo 2**64, so after masking both halves are the unsigned ones.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (
            (p1 >> 32).bitwise_and_(_MASK).bitwise_xor_(c1).bitwise_xor_(k0),
            p1.bitwise_and_(_MASK),
            (p0 >> 32).bitwise_and_(_MASK).bitwise_xor_(c3).bitwise_xor_(k1),
            p0.bitwise_and_(_MASK),
        )
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


@dataclass(frozen=True, eq=False)
class KeyedRng:
    """Keyed random numbers for a batch of images."""

    seed: int  #: the run's seed
    stream: str  #: purpose of the numbers, e.g. the attack's name; streams are independent
    indices_B: Tensor  #: data-set index, ``int64``, on the device where numbers are wanted
    targets_B: Tensor | None = None  #: class aimed at, or None; each target has its own numbers

    def uniform(self, shape: tuple[int, ...], dtype: torch.dtype, draw: int | Tensor = 0) -> Tensor:
        """Uniform numbers in [0, 1) of shape B × `shape`, multiples of 2⁻²⁴.

        `draw` tells apart the numbers of several iterations: one for all images, or one for each
        (shape B). The values are the same in float32 and float64 and on every device.
        """
        words_BW = self._words(-(-prod(shape) // 4), draw)
        top_bits_BW = (words_BW >> 8)[:, : prod(shape)]
        return (top_bits_BW.to(dtype) * 2.0**-24).reshape(-1, *shape)

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype, draw: int | Tensor = 0) -> Tensor:
        """Standard normal numbers of shape B × `shape`, by the Box–Muller transform."""
        pairs = self.uniform((2, *shape), dtype, draw)
        radius = (1 - pairs[:, 0]).log_().mul_(-2).sqrt_()
        return radius.mul_(pairs[:, 1].mul_(2 * torch.pi).cos_())

    def select(self, images_L: Tensor, targets_L: Tensor | None) -> Self:
        """The same source for some of the images, by index, with their targets."""
        return replace(self, indices_B=self.indices_B[images_L], targets_B=targets_L)

    def per_step(self, shape: tuple[int, ...], dtype: torch.dtype, draw: int | Tensor) -> Tensor:
        """Numbers that decide a step of a search. Here each image has its own."""
        return self.uniform(shape, dtype, draw)

    def _words(self, blocks: int, draw: int | Tensor) -> Tensor:
        digest = hashlib.sha256(f"{self.seed}:{self.stream}".encode()).digest()
        key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little"))
        # MPS lacks some 64-bit integer arithmetic: make the words on the CPU there.
        device = torch.device("cpu") if self.indices_B.device.type == "mps" else None
        index_B1 = self.indices_B.to(device or self.indices_B.device).unsqueeze(1)
        target_B1 = torch.zeros_like(index_B1)
        if self.targets_B is not None:
            target_B1 = self.targets_B.to(index_B1).unsqueeze(1) + 1
        draw_B1 = torch.as_tensor(draw, device=index_B1.device).to(index_B1).reshape(-1, 1)
        block_1W = torch.arange(blocks, device=index_B1.device).unsqueeze(0)
        counter = (block_1W, draw_B1, index_B1 & _MASK, target_B1)
        words = philox4x32(counter, key)
        return torch.stack(words, dim=-1).flatten(1).to(self.indices_B.device)


@dataclass(frozen=True, eq=False)
class ReferenceRng(KeyedRng):
    """The stream of the reference AutoAttack: torch's global generator, slot by slot.

    An image's numbers depend on its slot among the images of its batch, and search steps share
    theirs across the batch. Only for parity with the reference; the caller seeds the generator at
    the start of each batch. Numbers are drawn in float32 on the CPU, as there.
    """

    def uniform(self, shape: tuple[int, ...], dtype: torch.dtype, draw: int | Tensor = 0) -> Tensor:
        """The next B × `shape` numbers of the global generator."""
        return torch.rand(len(self.indices_B), *shape).to(self.indices_B.device, dtype)

    def per_step(self, shape: tuple[int, ...], dtype: torch.dtype, draw: int | Tensor) -> Tensor:
        """The next numbers of the global generator, the same for every image of the batch."""
        shared = torch.rand(shape).to(self.indices_B.device, dtype)
        return shared.expand(len(self.indices_B), *shape)
