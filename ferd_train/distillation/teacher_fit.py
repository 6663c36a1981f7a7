"""Whether a recipe fits its teacher: found before any training, and said all at once.

Image size and ε are the recipe's, but only the teacher's own make a good student: with others it
learns at chance level, or resists attacks that nobody makes. They are known from the teacher's
record, else guessed from the data set to score on, or from one with such images.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import torch

from ferd_eval.datasets import list_datasets
from ferd_eval.datasets.info import DatasetInfo
from ferd_eval.errors import UserError
from ferd_eval.evaluation.model_checks import probe
from ferd_eval.models import build_architecture
from ferd_train.config.recipe import flat, text_of
from ferd_train.config.unfit import UnfitError, Words, as_options
from ferd_train.distillation.teacher import FrozenTeacher, accepted_size, public_set
from ferd_train.losses.base import PGDLossRecipe
from ferd_train.recipes import find_student_recipe, made_for, relatives
from ferd_train.recipes.student import StudentRecipe

_BY_HAND = "set image_size and eps by hand as they are meant"

#: Raises `UnfitError` if something is wrong.
FitCheck = Callable[[StudentRecipe, FrozenTeacher], object]


def fitting_teacher(
    intention: Intention, load: Callable[[int], FrozenTeacher], usual: str, *checks: FitCheck
) -> FrozenTeacher:
    """Load the teacher for the recipe's image size and run all checks.

    Each finding is mended for the checks that follow, so the changes named in the end suffice.

    Args:
        intention: the run that the user asks for.
        load: from an image size to the teacher.
        usual: a student to be suggested.
        checks: after those of the images and the student, in their order.

    Raises:
        UserError: all findings at once, or something that no field of the recipe mends.
    """
    found: list[UnfitError] = []
    while True:
        try:
            changes = UnfitError.joined(found).changes if found else {}
            mended = intention.recipe.with_changes(changes)
            teacher = load(mended.image_size)
            differs = compare(replace(intention, recipe=mended), teacher)
            if differs.is_refused:
                raise differs
            require_student(mended, teacher, usual)
            for check in checks:
                check(mended, teacher)
        except UnfitError as unfit:
            stuck = unfit.changes.items() <= changes.items()
            found.append(unfit)
            if stuck:
                break
        except UserError as reason:
            if not found:
                raise
            reasons = "; ".join(UnfitError.joined(found).reasons)
            raise UserError(f"{reasons}; and when that is changed: {reason}") from reason
        else:
            break
    if found:
        raise UserError(UnfitError.joined(found).advise(intention.verb, intention.words))
    return teacher


def require_student(recipe: StudentRecipe, teacher: FrozenTeacher, usual: str) -> None:
    """Require a student that takes the teacher's images; `usual` is another one, to be suggested.

    Raises:
        UnfitError: it takes images of another size.
        UserError: there is no such architecture, or it takes none.
    """
    channels, size, _ = teacher.image_shape
    with torch.random.fork_rng():
        student = build_architecture(
            recipe.arch, num_classes=teacher.num_classes, in_channels=channels
        ).build()
        try:
            probe(student, teacher.image_shape, f"image_size {size}", by_gradient=False)
        except UserError:
            other = accepted_size(student, teacher.image_shape)
            if other is None or usual == recipe.arch:
                raise
            raise UnfitError(
                [
                    f"the student {recipe.arch} takes images of {other}×{other}, but image_size is "
                    f"{size}"
                ],
                {"arch": usual},
            ) from None


@dataclass(frozen=True)
class Intention:
    """A recipe and where it came from.

    Attributes:
        name: of a packaged recipe, or a file.
        recipe: with all changes.
        stated: fields that the user set by hand, on purpose.
        dataset: to score on; may be empty.
        verb, words: of advice, as of `UnfitError.advise`.
    """

    name: str
    recipe: StudentRecipe
    stated: Collection[str] = ()
    dataset: str = ""
    verb: str = "give "
    words: Words = as_options


def caution(intention: Intention, teacher: FrozenTeacher) -> str | None:
    """A line on anything that is not known to fit, or differs on purpose; None if nothing does."""
    unfit = compare(intention, teacher)
    if not unfit.reasons:
        return None
    return unfit.advise(f"to change that, {intention.verb}", intention.words)


def compare(intention: Intention, teacher: FrozenTeacher) -> UnfitError:
    """Differences in image size, channels, classes and ε; without `reasons` if there are none.

    Its `changes` leave out the user's own fields.
    """
    recipe, stated = intention.recipe, intention.stated
    by_hand = {"image_size", "eps"} <= {*stated}
    foreign, reasons = (False, []) if by_hand else _made_for_others(intention.name, teacher)
    found = {each.field: each for each in _norms(intention, teacher)}
    wrong = [
        norm
        for norm in found.values()
        if norm.differs and (norm.is_sure or norm.field not in stated)
    ]
    reasons += _clauses(wrong)
    unknown = [field for field in ("image_size", "eps") if field not in {*found, *stated}]
    if unknown:
        taken = " and ".join(f"{field} {flat(recipe)[field]}" for field in unknown)
        reasons.append(
            "the teacher's file does not say what it was trained at, so it is distilled at the "
            f"recipe's {taken}"
        )
    changes = {norm.field: text_of(norm.right) for norm in wrong if norm.field not in stated}
    eps = Fraction(changes.get("eps", recipe.eps))
    for name, step in _step_sizes(recipe):
        is_long = step > recipe.eps
        if is_long and "eps" not in changes:
            reasons.append(f"{name} is {text_of(step)}, beyond eps {text_of(recipe.eps)}")
        # In proportion to ε; at most a quarter of it if the step was beyond the ball.
        right = eps / 4 if is_long else step * eps / recipe.eps
        if right != step and name not in stated:
            changes[name] = text_of(right)
    unsaid = [norm.field for norm in wrong if norm.is_sure or foreign] + (
        unknown if foreign else []
    )
    is_refused = any(field not in stated for field in unsaid)
    others = _better_recipes(intention.name, teacher, found.values()) if reasons else []
    others += [_BY_HAND] if is_refused or unknown else []
    return UnfitError(reasons, changes, others, is_refused=is_refused)


@dataclass(frozen=True)
class _Norm:
    """The value that a field should have, `right`, and its source with a verb.

    `is_sure` if that is a fact of this teacher.
    """

    field: str
    value: int | Fraction
    right: int | Fraction
    says: str
    is_sure: bool

    @property
    def differs(self) -> bool:
        return self.value != self.right


def _clauses(wrong: Sequence[_Norm]) -> Iterator[str]:
    """A clause for each source."""
    for says in dict.fromkeys(norm.says for norm in wrong):
        norms = [norm for norm in wrong if norm.says == says]
        values = " and ".join(f"{norm.field} is {text_of(norm.value)}" for norm in norms)
        rights = " and ".join(f"{norm.field} {text_of(norm.right)}" for norm in norms)
        yield f"{values}, but {says} {rights}"


def _norms(intention: Intention, teacher: FrozenTeacher) -> Iterator[_Norm]:
    """For image size and ε: from the teacher's file, else the usual ones of a data set."""
    recipe, record = intention.recipe, teacher.record
    usual, why = _data_set(intention, teacher)
    by_file = "the teacher was trained at"
    if record.image_size is not None:
        yield _Norm("image_size", recipe.image_size, record.image_size, by_file, True)
    elif usual is not None and usual.image_shape is not None:
        yield _Norm("image_size", recipe.image_size, usual.image_shape[1], f"{why}, usually", False)
    if record.eps is not None:
        yield _Norm("eps", recipe.eps, record.eps, by_file, True)
    elif usual is not None:
        yield _Norm("eps", recipe.eps, usual.default_eps, f"{why}, usually", False)


def _data_set(intention: Intention, teacher: FrozenTeacher) -> tuple[DatasetInfo | None, str]:
    """The public data set that the teacher was or may have been trained on, and why."""
    named, own = public_set(intention.dataset), teacher.record.info
    if own is not None:
        return own, f"the teacher was trained on {own.name}"
    if teacher.dataset:  # the user's own images
        return None, ""
    if named is not None:
        return named, f"it is to be scored on {named.name}"
    channels, classes = teacher.image_shape[0], teacher.num_classes
    alike = [
        info
        for info in list_datasets()
        if info.num_classes == classes and info.image_shape and info.image_shape[0] == channels
    ]
    if not alike:
        return None, ""
    values = intention.recipe.image_size, intention.recipe.eps

    def differences(info: DatasetInfo) -> int:
        assert info.image_shape is not None
        theirs = info.image_shape[1], info.default_eps
        return sum(a != b for a, b in zip(values, theirs, strict=True))

    nearest = min(alike, key=differences)
    return nearest, f"{_channels(channels)} and {classes} classes look like {nearest.name}"


def _made_for_others(name: str, teacher: FrozenTeacher) -> tuple[bool, list[str]]:
    """Whether the recipe is for images of other channels; and a clause if it is for others."""
    made = made_for(name)
    if made is None or made.image_shape is None:
        return False, []
    channels, classes = teacher.image_shape[0], teacher.num_classes
    if made.image_shape[0] != channels:
        shape = "×".join(map(str, made.image_shape))
        return True, [
            f"recipe {name} is for images of {shape}, but the teacher's have {_channels(channels)}"
        ]
    if made.num_classes != classes:
        return False, [
            f"recipe {name} is for {made.num_classes} classes, but the teacher has {classes}"
        ]
    return False, []


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _better_recipes(name: str, teacher: FrozenTeacher, norms: Iterable[_Norm]) -> list[str]:
    """A recipe of the same method for the teacher's images."""
    right = {norm.field: norm.right for norm in norms}
    for other in relatives(name):
        made, recipe = made_for(other), find_student_recipe(other)
        assert made is not None
        assert made.image_shape is not None
        alike = (made.image_shape[0], made.num_classes) == (
            teacher.image_shape[0],
            teacher.num_classes,
        )
        if alike and all(getattr(recipe, field) == value for field, value in right.items()):
            return [f"take recipe {other}"]
    return []


def _step_sizes(recipe: StudentRecipe) -> Iterator[tuple[str, Fraction]]:
    """Step sizes of the attacks within the ball, by field."""
    if recipe.reweighting.build().sees == "attacked":
        yield "reweighting.step_size", recipe.reweighting.step_size
    if isinstance(recipe.loss, PGDLossRecipe):
        yield "loss.step_size", recipe.loss.step_size
