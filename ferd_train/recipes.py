"""Recipes are functions: each returns a full configuration and says what it costs and gives."""

from __future__ import annotations

import dataclasses
import inspect
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Self, get_type_hints

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.quantity import format_quantity, parse_quantity

#: Names of the losses; `ferd_train.losses` makes them.
LOSS_NAMES = ("pgd-at", "trades")

_SMALLEST = {
    "inner_steps": 1,
    "epochs": 1,
    "batch_size": 1,
    "crop_padding": 0,
    "validation_per_class": 1,
}
# torch takes no larger seed, and no factor beyond single precision.
_SEEDS = 2**63
_LARGEST = 1e30


@dataclass(frozen=True)
class TeacherRecipe:
    """Adversarial training of a network from data.

    Attributes:
        dataset: name for `ferd_eval.load_dataset`; its training split is used.
        arch: registered architecture.
        loss: ``"pgd-at"`` (Madry et al., ICLR 2018) or ``"trades"`` (Zhang et al., ICML 2019).
        eps: radius of the L∞ ball in the pixel range [0, 1].
        inner_steps: signed gradient steps of the inner attack.
        inner_step: length of one, in the pixel range.
        trades_beta: weight of the robust term of TRADES; unused by PGD-AT.
        epochs: passes over the training part.
        batch_size: images per optimiser step.
        lr: peak of the one-cycle schedule (SGD with Nesterov momentum).
        momentum: of SGD.
        weight_decay: of SGD, on all parameters.
        crop_padding: random-crop padding in pixels; 0 for no cropping.
        flip: mirror images at random.
        ema_decay: decay per step of the averaged weights, which are what is saved.
        validation_per_class: training images of each class held out, the last in file order.
        seed: of initial weights, order, augmentation and attacks.
    """

    dataset: str
    arch: str
    eps: Fraction
    inner_step: Fraction
    loss: str = "pgd-at"
    inner_steps: int = 5
    trades_beta: float = 6.0
    epochs: int = 10
    batch_size: int = 128
    lr: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    crop_padding: int = 0
    flip: bool = False
    ema_decay: float = 0.995
    validation_per_class: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.loss not in LOSS_NAMES:
            raise UserError(
                f"no loss is called {self.loss!r}.{did_you_mean(self.loss, LOSS_NAMES)}"
            )
        for name, smallest in _SMALLEST.items():
            if getattr(self, name) < smallest:
                raise UserError(f"{name} is {getattr(self, name)}; give {smallest} or more.")
        for name in ("momentum", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; give 0 <= {name} < 1.")
        for name in ("trades_beta", "weight_decay"):
            if not 0 <= getattr(self, name) < _LARGEST:
                raise UserError(f"{name} is {getattr(self, name)}; give 0 <= {name} < 1e30.")
        if not 0 < self.lr < _LARGEST:
            raise UserError(f"lr is {self.lr}; give 0 < lr < 1e30.")
        if not 0 <= self.seed < _SEEDS:
            raise UserError(f"seed is {self.seed}; give 0 or more, below 2**63.")

    def to_json(self) -> dict[str, Any]:
        """Plain values; sizes as people write them (``"8/255"``), always exact."""
        return {
            key: _exact_text(value) if isinstance(value, Fraction) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Self:
        """A recipe from its fields by name; strings are read as the field's type.

        Raises:
            UserError: an unknown or a missing field, or a value of a wrong type.
        """
        values = _read_fields(fields)
        needed = [f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING]
        missing = [name for name in needed if name not in values]
        if missing:
            raise UserError(f"a recipe needs {', '.join(needed)}: add {', '.join(missing)}.")
        return cls(**values)

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """Replace fields by name; strings are read as the field's type.

        Raises:
            UserError: an unknown field, or a value of a wrong type.
        """
        return dataclasses.replace(self, **_read_fields(changes))


def cifar10_resnet18() -> TeacherRecipe:
    """ResNet-18 on CIFAR-10 at 8/255 by PGD-AT: the usual small robust teacher.

    Source: Madry et al. 2018 with the one-cycle schedule of Rice et al. 2020 shortened. Hardware:
    one GPU; not measured here (about 2 h on a 2020s data-centre card by pass counts).
    """
    return TeacherRecipe(
        dataset="cifar10",
        arch="resnet18",
        eps=Fraction(8, 255),
        inner_step=Fraction(2, 255),
        inner_steps=10,
        epochs=60,
        lr=0.1,
        crop_padding=4,
        flip=True,
        ema_decay=0.999,
    )


def demo_resnet8() -> TeacherRecipe:
    """ResNet-8 on Fashion-MNIST at ε = 0.1: the larger of the two packaged networks."""
    return TeacherRecipe(
        dataset="fashion-mnist",
        arch="resnet8",
        eps=Fraction("0.1"),
        inner_step=Fraction("0.04"),
        inner_steps=4,
        epochs=6,
    )


def demo_cnn() -> TeacherRecipe:
    """A three-layer CNN on Fashion-MNIST at ε = 0.1: the smaller of the two packaged networks."""
    return dataclasses.replace(demo_resnet8(), arch="cnn28-16", epochs=15)


#: Recipes by the name the command line knows.
RECIPES: Mapping[str, Callable[[], TeacherRecipe]] = {
    "cifar10-resnet18": cifar10_resnet18,
    "demo-resnet8": demo_resnet8,
    "demo-cnn": demo_cnn,
}


def find_recipe(name: str) -> TeacherRecipe:
    """The recipe of that name, or the one in a ``.toml`` file.

    Raises:
        UserError: there is none, or the file holds none.
    """
    if name.endswith(".toml"):
        return read_recipe(Path(name))
    if name not in RECIPES:
        raise UserError(
            f"no recipe is called {name!r}.{did_you_mean(name, RECIPES)} A recipe of your own is "
            "a file that ends in .toml."
        )
    return RECIPES[name]()


def read_recipe(file: Path) -> TeacherRecipe:
    """Read a TOML file whose keys are the fields of `TeacherRecipe`.

    Raises:
        UserError: it cannot be read, or a field is unknown, missing or wrong.
    """
    try:
        return TeacherRecipe.from_fields(tomllib.loads(file.read_text(encoding="utf-8")))
    except OSError as reason:
        raise UserError(
            f"recipe {file} cannot be read ({reason.strerror}); give --recipe a file or a name of "
            "ferd-train ls."
        ) from reason
    except ValueError as reason:
        raise UserError(
            f"recipe {file} is no TOML ({reason}); write lines such as epochs = 30."
        ) from reason
    except UserError as reason:
        raise UserError(f"recipe {file}: {reason}") from reason


def summary(name: str) -> str:
    """First line of a recipe's docstring."""
    return (inspect.getdoc(RECIPES[name]) or "").splitlines()[0]


def _read_fields(fields: Mapping[str, Any]) -> dict[str, Any]:
    kinds = get_type_hints(TeacherRecipe)
    for name in fields:
        if name not in kinds:
            raise UserError(f"a recipe has no field {name!r}.{did_you_mean(name, kinds)}")
    return {name: _read(name, str(value), kinds[name]) for name, value in fields.items()}


def _read(name: str, text: str, kind: type) -> Any:
    if kind is Fraction:
        return parse_quantity(text, name)
    expected, read = _READERS[kind]
    try:
        return read(text)
    except (ValueError, KeyError):
        raise UserError(f"{name} is {text!r}; give {expected}.") from None


_TRUTHS = {"true": True, "1": True, "false": False, "0": False}

_READERS: Mapping[type, tuple[str, Callable[[str], Any]]] = {
    str: ("a text", str),
    int: ("a whole number", int),
    float: ("a number", float),
    bool: ("true or false", lambda text: _TRUTHS[text.lower()]),
}


def _exact_text(value: Fraction) -> str:
    short = format_quantity(value)
    numerator, _, denominator = short.partition("/")
    return short if Fraction(numerator) == value * Fraction(denominator or 1) else str(value)
