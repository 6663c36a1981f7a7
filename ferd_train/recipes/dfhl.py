"""Recipes of DFHL: data-free hard-label robustness stealing."""

from __future__ import annotations

import dataclasses

from ferd_train.losses.dfhl import DFHLLossRecipe
from ferd_train.recipes.scales import laboratory
from ferd_train.recipes.student import DistillationRecipe, ReweightingRecipe, StudentRecipe
from ferd_train.synthesis.methods.dfhl import DFHLRecipe


def dfhl_cifar10() -> StudentRecipe:
    """DFHL as its authors have it for CIFAR-10: hard labels on high-entropy examples, 300 epochs.

    Source: Yuan et al., AAAI 2024, and the authors' release. Their log of a ResNet-18 taught by
    one: clean 77.86, PGD-20 40.07, AutoAttack 39.51; of the epoch that was best on the test set,
    where here the last one counts. Deviation: lr falls to 0, not to 2e-4. FERD (arXiv 2509.20793)
    tells no change to the method. For RSLAD's loss on the same images: --set loss.name=rslad.
    Hardware: one GPU; not measured here.
    """
    return StudentRecipe(
        variant="none",
        epochs=300,
        warmup=0,
        synthesis=DFHLRecipe(),
        reweighting=ReweightingRecipe(strategy="uniform"),
        loss=DFHLLossRecipe(),
        distillation=DistillationRecipe(steps=500, weight_decay=1e-4),
    )


def dfhl_cifar100() -> StudentRecipe:
    """DFHL as its authors have it for CIFAR-100: batches of 512, a quicker generator.

    Source and deviation as `dfhl_cifar10`; their log: clean 51.94, PGD-20 20.02, AutoAttack 19.30.
    """
    return dataclasses.replace(
        dfhl_cifar10(),
        batch_size=512,
        synthesis=DFHLRecipe(steps=15, lr=5e-3, latent_lr=0.015, smoothing=0.02),
    )


def dfhl_lab() -> StudentRecipe:
    """DFHL's images with RSLAD's soft labels, on a laptop: as `ferd-lab`, but for the images.

    Source: this project. Not the method as published, which has hard labels: see `dfhl_lab_hard`.
    Shrunk: 18 epochs of 80 steps, none to warm up, where the release has 300 of 500, and a
    generator of a quarter of the width.
    """
    return laboratory(DFHLRecipe(width=16), epochs=18, warmup=0)


def dfhl_lab_hard() -> StudentRecipe:
    """DFHL with its own hard labels, on a laptop: the images of `dfhl-lab`.

    Source and scale as `dfhl_lab`; the walk to high entropy is the release's.
    """
    return dataclasses.replace(dfhl_lab(), loss=DFHLLossRecipe())
