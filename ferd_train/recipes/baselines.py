"""Recipes of the methods that FERD is compared with, and of training on real images."""

from __future__ import annotations

import dataclasses

from ferd_train.losses.dfhl import DFHLLossRecipe
from ferd_train.losses.rslad import RSLADRecipe
from ferd_train.recipes.scales import CIFAR10, CIFAR100, TINY_IMAGENET, laboratory
from ferd_train.recipes.student import DistillationRecipe, ReweightingRecipe, StudentRecipe
from ferd_train.synthesis.methods.cmi import CMIRecipe
from ferd_train.synthesis.methods.deepinv import DeepInvRecipe
from ferd_train.synthesis.methods.dfhl import DFHLRecipe
from ferd_train.synthesis.methods.fast import FastRecipe
from ferd_train.synthesis.methods.real import RealRecipe
from ferd_train.synthesis.methods.zskt import ZSKTRecipe


def cmi_lab() -> StudentRecipe:
    """CMI on a laptop, the student and the steps of `ferd-lab`.

    Source: this project. Shrunk against the source: 60 steps a round in place of 200, with twice
    the rate, a generator of a quarter of the width, 512 negatives; features of all layers.
    """
    return laboratory(
        CMIRecipe(steps=60, lr=2e-3, width=16, negatives=512, remembered=4096, features="all")
    )


def cmi_cifar10() -> StudentRecipe:
    """CMI for CIFAR-10, made robust by RSLAD's loss as in FERD's tables.

    Source: Fang et al., IJCAI 2021 and the script of their code for CIFAR-10 (adv 0.5, bn 1, oh 1,
    cr 0.8 at temperature 0.2, also noted in FERD's release); FERD, arXiv 2509.20793, for the
    student (220 epochs, batches of 256, 400 steps, λ 5/6 clean and 1/6 attacked). Deviations: see
    `CMIRecipe`. The paper reports clean 68.3 (worst 51.2), PGD 43.1 (32.5), AutoAttack 26.9 (14.6).
    One GPU, not measured here.
    """
    return CIFAR10.student(CMIRecipe())


def cmi_cifar100() -> StudentRecipe:
    """CMI for CIFAR-100: as `cmi_cifar10`, in batches of 512.

    No constants for this set are public.
    """
    return CIFAR100.student(CMIRecipe())


def cmi_tiny_imagenet() -> StudentRecipe:
    """CMI for Tiny-ImageNet: as `cmi_cifar10`, PreActResNet-18 students, batches of 512.

    No constants for this set are public.
    """
    return TINY_IMAGENET.student(CMIRecipe())


def deepinv_lab() -> StudentRecipe:
    """DeepInversion on a laptop, the student and the steps of `ferd-lab`.

    Source: this project. Shrunk against the source: 150 steps in place of 1000, each twice
    as long.
    """
    return laboratory(DeepInvRecipe(steps=150, lr=0.05))


def deepinv_cifar10() -> StudentRecipe:
    """DeepInversion for CIFAR-10, made robust by RSLAD's loss as in FERD's tables.

    Source: Yin et al., CVPR 2020; constants of the public reimplementation in FERD's release (adv
    1, bn 10, oh 1, tv 0, l2 0, 1000 steps); FERD, arXiv 2509.20793, for the student (220 epochs,
    batches of 256, 400 steps, λ 5/6 clean and 1/6 attacked). Deviations: see `DeepInvRecipe`. The
    paper reports clean 71.2 (worst 58.9), PGD 42.2 (29.0). One GPU, not measured here: 220 × 1000
    passes of the teacher make it the dearest of the baselines.
    """
    return CIFAR10.student(DeepInvRecipe())


def deepinv_cifar100() -> StudentRecipe:
    """DeepInversion for CIFAR-100: as `deepinv_cifar10`, in batches of 512.

    No constants for this set are public.
    """
    return CIFAR100.student(DeepInvRecipe())


def deepinv_tiny_imagenet() -> StudentRecipe:
    """DeepInversion for Tiny-ImageNet: as `deepinv_cifar10`, with PreActResNet-18 students, B 512.

    No constants for this set are public.
    """
    return TINY_IMAGENET.student(DeepInvRecipe())


def fast_lab() -> StudentRecipe:
    """FastDFKD on a laptop, the student and the steps of `ferd-lab`.

    Source: this project. Shrunk against the source: 20 rounds in place of 220, so 10 steps a round
    with the authors' rates for 10; L_adv from the last round of the warm-up on, as there, and the
    first layer anew before the fourteenth, after the same share of the run; a generator of a
    quarter of the width.
    """
    return laboratory(
        FastRecipe(steps=10, lr=2e-3, latent_lr=0.01, width=16, competes_from=2, renewed_at=14)
    )


def fast_cifar10() -> StudentRecipe:
    """FastDFKD for CIFAR-10, made robust by RSLAD's loss as in FERD's tables.

    Source: Fang et al., AAAI 2022 and their code (five steps a round, coefficients for WideResNet
    teachers, first-order MAML, L_adv from round 20 on); FERD, arXiv 2509.20793, for the student
    (220 epochs, batches of 256, 400 steps, λ 5/6 clean and 1/6 attacked), whose settings for this
    method are not public. The paper reports clean 72.2 (worst 57.8), PGD 54.7 (37.0),
    AutoAttack 33.2 (17.6). One GPU, not measured here.
    """
    return CIFAR10.student(FastRecipe(lambda_adv=1.1, lambda_oh=0.4))


def fast_cifar100() -> StudentRecipe:
    """FastDFKD for CIFAR-100: as `fast_cifar10`, in batches of 512.

    Its authors have the same coefficients for both sets.
    """
    return CIFAR100.student(FastRecipe(lambda_adv=1.1, lambda_oh=0.4))


def fast_tiny_imagenet() -> StudentRecipe:
    """FastDFKD for Tiny-ImageNet: as `fast_cifar10`, PreActResNet-18 students, batches of 512.

    No constants for this set are public; the coefficients are those for ResNet teachers.
    """
    return TINY_IMAGENET.student(FastRecipe())


def zskt_cifar10() -> StudentRecipe:
    """ZSKT with RSLAD's loss at the scale of FERD's tables for CIFAR-10: 220 epochs × 400 steps.

    Source: FERD (arXiv 2509.20793) says no more than that its baselines' images are distilled with
    RSLAD's loss, so images are made with the constants of the re-implementation in CMI's code (see
    `ZSKTRecipe`) and the student is trained with those of FERD. Deviations: 20 epochs pass before
    the student learns, as with the other methods, though nothing is gathered in them. The
    loss's weights are in FERD's order, λ 5/6 clean and 1/6 attacked. Hardware: one GPU; not
    measured here.
    """
    return CIFAR10.student(ZSKTRecipe())


def zskt_cifar100() -> StudentRecipe:
    """ZSKT for CIFAR-100: as `zskt_cifar10`, in batches of 512.

    No constants for this set are public.
    """
    return CIFAR100.student(ZSKTRecipe())


def zskt_tiny_imagenet() -> StudentRecipe:
    """ZSKT for Tiny-ImageNet: as `zskt_cifar10`, PreActResNet-18 students, batches of 512.

    No constants for this set are public.
    """
    return TINY_IMAGENET.student(ZSKTRecipe())


def zskt_lab() -> StudentRecipe:
    """ZSKT on a laptop: as `ferd-lab`, but each step's images are new, for disagreement alone.

    Source: this project. Shrunk against the re-implementation: 1440 steps of the student where it
    takes 80 000, a generator of a quarter of the width.
    """
    return laboratory(ZSKTRecipe(width=16))


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


def dfhl_tiny_imagenet() -> StudentRecipe:
    """DFHL for Tiny-ImageNet: as `dfhl_cifar100`, PreActResNet-18 students.

    No constants for this set are public.
    """
    return dataclasses.replace(dfhl_cifar100(), arch="preactresnet18", image_size=64)


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


def rslad_lab() -> StudentRecipe:
    """Not data-free: the laboratory's student and loss on Fashion-MNIST's training images.

    Source: this project. As many student steps as `ferd-lab`, so three passes over the data.
    """
    return laboratory(RealRecipe(dataset="fashion-mnist"), epochs=18, warmup=0)


def rslad_cifar10() -> StudentRecipe:
    """Not data-free: RSLAD on CIFAR-10, ResNet-18 students, 300 epochs of batches of 128.

    Source: Zi et al., ICCV 2021 and the authors' code: 5/6 on attacked images, 10 steps of 2/255,
    SGD 0.1, weight decay 2e-4. Deviations: the loss is the batch mean (theirs a tenth of it), and
    the learning rate falls by a cosine (theirs by tenths). 383 steps an epoch are a pass over the
    49 000 images that are not held out. Not measured here.
    """
    return _with_data("cifar10", steps=383)


def rslad_cifar100() -> StudentRecipe:
    """Not data-free: RSLAD on CIFAR-100, as `rslad_cifar10`.

    The authors' loss is ten times theirs for CIFAR-10, so here too the batch mean. 312 steps an
    epoch are a pass over the 40 000 images that are not held out.
    """
    return _with_data("cifar100", steps=312)


def rslad_tiny_imagenet() -> StudentRecipe:
    """Not data-free: RSLAD on Tiny-ImageNet, PreActResNet-18 students, otherwise as on CIFAR-10.

    625 steps an epoch are a pass over the 80 000 images that are not held out.
    """
    recipe = _with_data("tiny-imagenet", steps=625)
    return dataclasses.replace(recipe, arch="preactresnet18", image_size=64)


def _with_data(dataset: str, steps: int) -> StudentRecipe:
    return StudentRecipe(
        variant="none",
        epochs=300,
        warmup=0,
        batch_size=128,
        synthesis=RealRecipe(dataset=dataset),
        reweighting=ReweightingRecipe(strategy="uniform"),
        loss=RSLADRecipe(),
        distillation=DistillationRecipe(steps=steps, weight_decay=2e-4),
    )
