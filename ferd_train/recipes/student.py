"""Recipe of a student: every constant, by section.

Source: arXiv 2509.20793 unless said otherwise; "release" is the authors' code. Defaults are FERD's,
variant `ferd`, at the scale of CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Annotated, Any

from ferd_eval.errors import UserError
from ferd_train.config.checks import (
    Bound,
    Checked,
    Count,
    CountFromZero,
    NotNegative,
    OneOf,
    Positive,
    Seed,
    Share,
    at_least,
)
from ferd_train.config.recipe import RunRecipe, kinds
from ferd_train.losses.base import LossRecipe
from ferd_train.losses.ferd import FERDLossRecipe
from ferd_train.losses.registry import LOSSES
from ferd_train.recipes.variants import ABLATIONS, VARIANTS, variant_fields
from ferd_train.synthesis.base import SynthesisRecipe
from ferd_train.synthesis.class_sampling import STRATEGIES, Reweighting
from ferd_train.synthesis.image_bank import LABELS
from ferd_train.synthesis.methods.ferd import FERDRecipe
from ferd_train.synthesis.methods.real import RealRecipe
from ferd_train.synthesis.registry import METHODS
from ferd_train.training.augmentation import AugmentationRecipe

#: Images that class weights can be measured on.
MEASURED_ON = ("kept", "last")


@dataclass(frozen=True)
class ReweightingRecipe(Checked):
    """How often each class is drawn. A strategy uses those constants that it has.

    Attributes:
        strategy: a name in `STRATEGIES`.
        temperature: τ of the softmaxes; 1 in the paper.
        unit: of margins: logits or probabilities.
        low, high: share of the least and the most vulnerable class, for ``margin-minmax``.
        floor: least accuracy that counts, for ``inverse-accuracy``.
        cap: most that the largest weight may be in units of the smallest; 0 for any (paper).
        smoothing: share of the last epoch's vulnerabilities in this one's; 0 in the paper.
        measured_on: the kept batch (paper), or the last step's, augmented (release).
        attack_steps, step_size: number of PGD's steps, and length of one.
    """

    strategy: Annotated[str, OneOf(STRATEGIES)] = "uniform"
    temperature: float = 1.0
    unit: str = "logits"
    low: float = 0.05
    high: float = 0.2
    floor: float = 0.05
    cap: Annotated[float, Bound(lambda cap: cap == 0 or cap > 1, "0, or more than 1")] = 4.0
    smoothing: Share = 0.0
    measured_on: Annotated[str, OneOf(MEASURED_ON)] = "kept"
    attack_steps: Count = 20
    step_size: Fraction = Fraction(2, 255)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.build()

    def build(self) -> Reweighting:
        """The strategy; its fields are among temperature, unit, low, high and floor."""
        strategy = STRATEGIES[self.strategy]
        names = [each.name for each in fields(strategy)]  # type: ignore[arg-type]
        return strategy(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class DistillationRecipe(Checked):
    """The student's steps.

    Attributes:
        steps: N_S, student steps an epoch.
        lr: of SGD, at the start of its cosine, which begins with the first epoch.
        momentum, weight_decay: of SGD, on all parameters.
        awp: γ of adversarial weight perturbation (`perturbed_weights`), relative to each weight's
            norm; 0 for none. It doubles the passes that have a gradient of the weights.
        awp_from: share of the epochs, warm-up included, that go without it.
    """

    steps: Count = 400
    lr: Positive = 0.1
    momentum: Share = 0.9
    weight_decay: NotNegative = 5e-4
    awp: NotNegative = 0.0
    awp_from: Share = 0.5


@dataclass(frozen=True)
class ValidationRecipe(Checked):
    """Figures on real images during training. Nothing is selected by them.

    Attributes:
        dataset: images of its training split, the last of each class in file order; empty for none,
            as data-free training should have it.
        per_class: images of each class.
    """

    dataset: str = ""
    per_class: Count = 100


#: Networks that a run may end with.
KEPT = ("last", "best")


@dataclass(frozen=True)
class HeldOutRecipe(Checked):
    """Synthetic images that are never trained on, and what is chosen by them. This project's.

    Student and teacher are compared on them after each student epoch: clean and under PGD-10.

    Attributes:
        share: of each batch, its last rows, at least one; 0 for none. A share of each batch rather
            than each tenth batch: there are figures from the first student epoch on, of images of
            every epoch, and no epoch is without new images to train on. Methods that make no images
            hold none out. Class weights are measured on the whole batch.
        keep: the network that the run ends with: that of the last epoch, or of the epoch with the
            best agreement under attack, average and lowest class in equal parts.
        patience: student epochs without a better one after which the run ends; 0 for never. The
            learning rate's cosine still belongs to all epochs.
    """

    share: Share = 0.1
    keep: Annotated[str, OneOf(KEPT)] = "last"
    patience: CountFromZero = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.selects and not self.share:
            raise UserError(
                f"keep is {self.keep} and patience {self.patience}, but share is 0, so there is "
                "nothing to choose by; raise share, or set keep to last and patience to 0."
            )

    @property
    def selects(self) -> bool:
        """Whether anything is chosen by these images."""
        return self.keep == "best" or self.patience > 0

    def rows(self, batch_size: int) -> int:
        """Images of a batch that are held out; some are left to train on."""
        if not self.share:
            return 0
        return min(max(1, round(self.share * batch_size)), batch_size - 1)


@dataclass(frozen=True)
class StudentRecipe(RunRecipe):
    """Robust distillation, without data unless the method says so.

    Attributes:
        arch: registered architecture of the student.
        image_size: height and width of the images to make, a multiple of 4.
        eps: radius of the L∞ ball in the pixel range [0, 1].
        variant: the reading of FERD that the fields began from, one of `VARIANTS`; "none" for other
            methods. Setting it sets all fields that variants differ in.
        ablation: the part of FERD that is off, a name in `ABLATIONS`. Setting it switches that off.
        epochs: E; an epoch makes one batch, then trains the student on all batches so far.
        warmup: epochs at the start that only make batches.
        batch_size: B.
        synthesis: how images are made, by which method.
        labels: the class that counts as an image's own in the student's loss, a name in `LABELS`.
        reweighting: how often each class is drawn.
        loss: the student's, and its adversarial images.
        distillation: the student's steps.
        augmentation: of synthetic images.
        validation: figures on real images.
        held_out: synthetic images that are kept from training.
        seed: of everything random.
    """

    arch: str = "resnet18"
    image_size: Count = 32
    eps: Fraction = Fraction(8, 255)
    variant: Annotated[str, OneOf(VARIANTS)] = "ferd"
    ablation: Annotated[str, OneOf(ABLATIONS)] = "none"
    epochs: Count = 220
    warmup: CountFromZero = 20
    batch_size: Annotated[int, at_least(2)] = 256
    synthesis: SynthesisRecipe = field(
        default_factory=FERDRecipe, metadata=kinds(METHODS, by="method")
    )
    labels: Annotated[str, OneOf(LABELS)] = "teacher"
    reweighting: ReweightingRecipe = field(default_factory=ReweightingRecipe)
    loss: LossRecipe = field(default_factory=FERDLossRecipe, metadata=kinds(LOSSES, by="name"))
    distillation: DistillationRecipe = field(default_factory=DistillationRecipe)
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    validation: ValidationRecipe = field(default_factory=ValidationRecipe)
    held_out: HeldOutRecipe = field(default_factory=HeldOutRecipe)
    seed: Seed = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.image_size % 4:
            raise UserError(
                f"image_size is {self.image_size}; give a multiple of 4, for the generator doubles "
                "its maps twice."
            )
        self._require_parts()
        if self.warmup >= self.epochs:
            raise UserError(
                f"warmup is {self.warmup} of {self.epochs} epochs, so the student would never be "
                "trained; lower warmup or raise epochs."
            )
        self.loss.require_epochs(self.warmup, self.epochs)

    def _require_parts(self) -> None:
        """Variants and ablations belong to methods that have the part they change."""
        method, loss = self.synthesis.method, self.loss.name
        if not isinstance(self.synthesis, FERDRecipe):
            for name, value in (("variant", self.variant), ("ablation", self.ablation)):
                if value != "none":
                    raise UserError(
                        f"{name} {value} is one of FERD, but synthesis.method is {method}; leave "
                        f"{name} out, or set it to none."
                    )
        if isinstance(self.synthesis, RealRecipe):
            self._require_real(self.synthesis)
        if "utae" in self.ablation and not isinstance(self.loss, FERDLossRecipe):
            raise UserError(
                f"ablation {self.ablation} switches FERD's attack off, but loss.name is {loss}; "
                "leave it out, or set loss.name to ferd."
            )

    def _require_real(self, synthesis: RealRecipe) -> None:
        """Method data makes no images."""
        if not synthesis.dataset:
            raise UserError(
                "synthesis.method data learns from real images; name them, e.g. --set "
                "synthesis.dataset=fashion-mnist."
            )
        if self.warmup:
            raise UserError(
                f"warmup is {self.warmup}, but synthesis.method data has no images to make "
                "beforehand; set warmup to 0."
            )
        if self.reweighting.strategy != "uniform":
            raise UserError(
                f"reweighting.strategy {self.reweighting.strategy} decides which images are made, "
                "but synthesis.method data makes none; set it to uniform."
            )
        if self.held_out.selects:
            raise UserError(
                f"held_out.keep is {self.held_out.keep} and held_out.patience "
                f"{self.held_out.patience}, but synthesis.method data makes no images to choose "
                "by; set them to last and 0."
            )

    @property
    def held_out_rows(self) -> int:
        """Images of each batch that are held out."""
        is_real = isinstance(self.synthesis, RealRecipe)
        return 0 if is_real else self.held_out.rows(self.batch_size)

    def with_changes(self, changes: Mapping[str, Any]) -> StudentRecipe:
        """The recipe with some fields replaced, by dotted name.

        Fields that ``variant`` and ``ablation`` set may be set otherwise beside them.

        Raises:
            UserError: an unknown field, or a value that is wrong or does not go with the others.
        """
        method = METHODS.get(str(changes.get("synthesis.method")))
        if method is not None and method is not type(self.synthesis):
            changes = {**method.implied, **changes}
        changed = super().with_changes(changes)
        implied: dict[str, Any] = {}
        if "variant" in changes:
            implied |= variant_fields(changed.variant, changed.distillation.steps)
        if "variant" in changes or "ablation" in changes:
            # A variant sets fields that an earlier ablation may have switched off.
            implied |= ABLATIONS[changed.ablation]
        if not isinstance(changed.loss, FERDLossRecipe):
            implied = {name: each for name, each in implied.items() if not name.startswith("loss.")}
        return super().with_changes({**implied, **changes})
