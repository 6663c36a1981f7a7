"""What a student's training is told: every constant, by section.

arXiv 2509.20793 where nothing else is said; "release" is the authors' code. Defaults are those of
FERD, in the variant `ferd`, at the scale of CIFAR-10.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from fractions import Fraction
from typing import Any

from ferd_eval.errors import UserError
from ferd_train.config.checks import (
    require_at_least,
    require_not_negative,
    require_one_of,
    require_positive,
    require_seed,
    require_share,
)
from ferd_train.config.recipe import Recipe, flat, kinds
from ferd_train.losses import LOSSES, FERDLossRecipe, LossRecipe
from ferd_train.synthesis import METHODS, FERDRecipe, RealRecipe, SynthesisRecipe
from ferd_train.synthesis.class_sampling import STRATEGIES, Reweighting
from ferd_train.synthesis.components.bottleneck import PAPER, RELEASE, Bottleneck
from ferd_train.training.augmentation import AugmentationRecipe

#: Images that class weights can be measured on.
MEASURED_ON = ("kept", "last")


@dataclass(frozen=True)
class ReweightingRecipe:
    """How often each class is asked for. A strategy uses those constants that it has.

    Attributes:
        strategy: a name in `STRATEGIES`.
        temperature: τ of the softmaxes; 1 in the paper.
        unit: what margins are measured on: logits or probabilities.
        low: share of the least vulnerable class, for ``margin-minmax``.
        high: that of the most vulnerable.
        floor: least accuracy that counts, for ``inverse-accuracy``.
        smoothing: share of the last epoch's vulnerabilities in this one's; 0 in the paper.
        measured_on: the kept batch (paper), or the last step's, augmented (release).
        attack_steps: of PGD.
        step_size: length of one.
    """

    strategy: str = "margin-softmax"
    temperature: float = 4.0
    unit: str = "logits"
    low: float = 0.05
    high: float = 0.2
    floor: float = 0.05
    smoothing: float = 0.0
    measured_on: str = "kept"
    attack_steps: int = 20
    step_size: Fraction = Fraction(2, 255)

    def __post_init__(self) -> None:
        require_one_of(self, "strategy", STRATEGIES)
        require_one_of(self, "measured_on", MEASURED_ON)
        require_at_least(self, 1, "attack_steps")
        require_share(self, "smoothing")
        self.build()

    def build(self) -> Reweighting:
        """The strategy with its constants."""
        strategy = STRATEGIES[self.strategy]
        constants = [each.name for each in fields(strategy)]  # type: ignore[arg-type]
        return strategy(**{name: getattr(self, name) for name in constants})


@dataclass(frozen=True)
class DistillationRecipe:
    """The student's steps.

    Attributes:
        steps: N_S, student steps an epoch.
        lr: of SGD, at the start of its cosine, which begins with the first epoch.
        momentum: of SGD.
        weight_decay: of SGD, on all parameters.
    """

    steps: int = 400
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4

    def __post_init__(self) -> None:
        require_at_least(self, 1, "steps")
        require_positive(self, "lr")
        require_share(self, "momentum")
        require_not_negative(self, "weight_decay")


@dataclass(frozen=True)
class ValidationRecipe:
    """Figures on real images while training goes on. Nothing is selected by them.

    Attributes:
        dataset: whose training split the images come from, the last of each class in file order;
            empty for none, as data-free training should have it.
        per_class: images of each class.
    """

    dataset: str = ""
    per_class: int = 100

    def __post_init__(self) -> None:
        require_at_least(self, 1, "per_class")


@dataclass(frozen=True)
class StudentRecipe(Recipe):
    """Robust distillation, without data unless the method says so.

    Attributes:
        arch: registered architecture of the student.
        image_size: height and width of the images to make, a multiple of 4.
        eps: radius of the L∞ ball in the pixel range [0, 1].
        variant: whose reading of FERD the fields began from, a name in `VARIANTS`. Setting it sets
            all fields that the variants differ in. Other methods have none.
        ablation: what of FERD was switched off, a name in `ABLATIONS`. Setting it switches that
            off.
        epochs: E; an epoch makes one batch, then trains the student on all batches so far.
        warmup: epochs at the start that only make batches.
        batch_size: B.
        synthesis: how images are made, by which method.
        reweighting: how often each class is asked for.
        loss: what the student lowers, on which adversarial images.
        distillation: the student's steps.
        augmentation: of synthetic images.
        validation: figures on real images.
        seed: of everything random.
    """

    arch: str = "resnet18"
    image_size: int = 32
    eps: Fraction = Fraction(8, 255)
    variant: str = "ferd"
    ablation: str = "none"
    epochs: int = 220
    warmup: int = 20
    batch_size: int = 256
    synthesis: SynthesisRecipe = field(
        default_factory=FERDRecipe, metadata=kinds(METHODS, by="method")
    )
    reweighting: ReweightingRecipe = field(default_factory=ReweightingRecipe)
    loss: LossRecipe = field(default_factory=FERDLossRecipe, metadata=kinds(LOSSES, by="name"))
    distillation: DistillationRecipe = field(default_factory=DistillationRecipe)
    augmentation: AugmentationRecipe = field(default_factory=AugmentationRecipe)
    validation: ValidationRecipe = field(default_factory=ValidationRecipe)
    seed: int = 0

    def __post_init__(self) -> None:
        require_at_least(self, 1, "epochs", "image_size")
        require_at_least(self, 0, "warmup")
        require_at_least(self, 2, "batch_size")
        if self.image_size % 4:
            raise UserError(
                f"image_size is {self.image_size}; give a multiple of 4, for the generator doubles "
                "its maps twice."
            )
        require_one_of(self, "variant", VARIANTS)
        require_one_of(self, "ablation", ABLATIONS)
        self._require_parts()
        require_seed(self)
        if self.warmup >= self.epochs:
            raise UserError(
                f"warmup is {self.warmup} of {self.epochs} epochs, so the student would never be "
                "trained; lower warmup or raise epochs."
            )
        self.loss.require_epochs(self.warmup, self.epochs)

    def _require_parts(self) -> None:
        """Variants and ablations are of methods that have what they change."""
        method, loss = self.synthesis.method, self.loss.name
        if not isinstance(self.synthesis, FERDRecipe):
            for name in ("variant", "ablation"):
                if getattr(self, name) != "none":
                    raise UserError(
                        f"{name} {getattr(self, name)} is one of FERD, but synthesis.method is "
                        f"{method}; leave {name} out, or set it to none."
                    )
        if isinstance(self.synthesis, RealRecipe):
            self._require_real(self.synthesis)
        if "utae" in self.ablation and not isinstance(self.loss, FERDLossRecipe):
            raise UserError(
                f"ablation {self.ablation} switches FERD's attack off, but loss.name is {loss}; "
                "leave it out, or set loss.name to ferd."
            )

    def _require_real(self, synthesis: RealRecipe) -> None:
        """What makes images has nothing to do where there are some."""
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

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> StudentRecipe:
        """The default recipe with these fields, see `with_changes`."""
        return cls().with_changes(fields)

    def with_changes(self, changes: Mapping[str, Any]) -> StudentRecipe:
        """The recipe with some fields replaced, by dotted name.

        What ``variant`` and ``ablation`` set may be set otherwise beside them.

        Raises:
            UserError: an unknown field, or a value that is wrong or does not go with the others.
        """
        method = METHODS.get(str(changes.get("synthesis.method")))
        if method is not None and method is not type(self.synthesis):
            changes = {**method.implied, **changes}
        changed = super().with_changes(changes)
        implied: dict[str, Any] = {}
        if "variant" in changes:
            implied |= VARIANTS[changed.variant](changed)
        if "variant" in changes or "ablation" in changes:
            # A variant sets fields that an earlier ablation may have switched off.
            implied |= ABLATIONS[changed.ablation](changed)
        if not isinstance(changed.loss, FERDLossRecipe):
            implied = {name: each for name, each in implied.items() if not name.startswith("loss.")}
        return super().with_changes({**implied, **changes})


Changes = Mapping[str, Any]


def _bottleneck(choices: Bottleneck) -> Changes:
    names = ("noise", "regulariser", "mask_scale", "mask_maximum")
    return {f"synthesis.bottleneck.{name}": flat(choices)[name] for name in names}


def _paper(recipe: StudentRecipe) -> Changes:
    """As arXiv v2 has it: as many generator steps as student steps."""
    return {
        **_bottleneck(PAPER),
        "synthesis.steps": recipe.distillation.steps,
        "synthesis.adversarial": "kl",
        "synthesis.match_student": True,
        "reweighting.strategy": "margin-softmax",
        "reweighting.temperature": 1.0,
        "reweighting.smoothing": 0.0,
        "reweighting.measured_on": "kept",
        "loss.network": "teacher",
        "loss.gamma": 0.5,
        "loss.divergence": "kl",
        "loss.clean_weight": 5 / 6,
        "loss.adversarial_weight": 1 / 6,
    }


def _release(recipe: StudentRecipe) -> Changes:
    """As the authors' code has it: half as many generator steps as student steps."""
    return {
        **_bottleneck(RELEASE),
        "synthesis.steps": max(1, recipe.distillation.steps // 2),
        "synthesis.adversarial": "decoupled",
        "synthesis.match_student": False,
        "reweighting.strategy": "margin-minmax",
        "reweighting.smoothing": 0.0,
        "reweighting.measured_on": "last",
        "loss.network": "student",
        "loss.gamma": 0.0,
        "loss.divergence": "soft-cross-entropy",
        "loss.clean_weight": 5 / 6,
        "loss.adversarial_weight": 1 / 6,
    }


def _ferd(recipe: StudentRecipe) -> Changes:
    """This project's choices, made on held-out training images: docs/decisions/0007."""
    return {
        **_bottleneck(Bottleneck()),
        "synthesis.adversarial": "kl",
        "synthesis.match_student": False,
        "reweighting.strategy": "margin-softmax",
        "reweighting.temperature": 4.0,
        "reweighting.smoothing": 0.0,
        "reweighting.measured_on": "kept",
        "loss.network": "student",
        "loss.gamma": 0.5,
        "loss.divergence": "kl",
        "loss.clean_weight": 0.5,
        "loss.adversarial_weight": 0.5,
    }


#: Readings of FERD, and that of no such method: recipe → the fields that they differ in.
VARIANTS: Mapping[str, Callable[[StudentRecipe], Changes]] = {
    "ferd": _ferd,
    "paper": _paper,
    "release": _release,
    "none": lambda recipe: {},
}

_NO_FAE: Changes = {"synthesis.lambda_uni": 0.0}
_NO_UTAE: Changes = {"loss.gamma": 0.0}

#: The switches of the paper's Table 3: recipe → the fields that switch a part off.
ABLATIONS: Mapping[str, Callable[[StudentRecipe], Changes]] = {
    "none": lambda recipe: {},
    "no-reweight": lambda recipe: {"reweighting.strategy": "uniform"},
    "no-fae": lambda recipe: _NO_FAE,
    "no-utae": lambda recipe: _NO_UTAE,
    "no-fae-no-utae": lambda recipe: {**_NO_FAE, **_NO_UTAE},
}
