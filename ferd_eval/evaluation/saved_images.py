"""Adversarial images made elsewhere: read from a file, checked, and looked up as an attack.

N images, C channels, H × W pixels.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ferd_eval.attacks import Threat
from ferd_eval.attacks.base import LINF_SLACK, Attack
from ferd_eval.attacks.problem import Problem
from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.evaluation.pixel_rounding import Rounding
from ferd_eval.io.files import file_sha256
from ferd_eval.io.npy import map_npy
from ferd_eval.io.npz import open_npz
from ferd_eval.io.torch_pickle import require_modest
from ferd_eval.results.attack_id import known_attack


@dataclass(frozen=True, eq=False)
class SavedImages(Attack):
    """Answers with the image saved for each index; the base moves it into the ball."""

    family: str  #: id of the attack that made them
    images_NCHW: Tensor  #: pixels in [0, 1]
    indices_N: Tensor  #: places of the images in their data set, in increasing order
    sha256: str  #: of the file
    largest: float  #: the largest ‖x_adv − x‖∞
    eps_is_stated: bool = True  #: whether the user said for which ε they were made
    rounding: Rounding | None = None  #: the numbers they were stored in, where that may matter
    beyond: int = 0  #: images that rounding moved out of the ball
    steps = 0  # of ours

    def perturb(self, problem: Problem) -> Tensor:
        wanted_B = problem.noise.indices_B.cpu()
        rows_B = torch.searchsorted(self.indices_N, wanted_B)
        assert torch.equal(self.indices_N[rows_B], wanted_B), "an image was not saved"
        return self.images_NCHW[rows_B].to(problem.x_BCHW)

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        known: dict[str, Any] = {"largest_linf": self.largest, "images_sha256": self.sha256}
        if not self.eps_is_stated:
            known |= {"eps": None, "eps_text": None}
        if self.rounding is not None:
            known |= {
                "stored_in": self.rounding.type,
                "rounding_tolerance": self.rounding.most,
                "moved_back_to_eps": self.beyond,
            }
        return known

    def passes_per_image(self, num_classes: int) -> tuple[int, int]:
        return 1, 0


#: Names of the images in a file, first match wins; ``adv_inputs`` is torchattacks'.
_NAMES = ("adv_complete", "x_adv", "adv_inputs", "adv", "images")

#: Names of arrays beside them.
_INDEX_NAMES = ("index", "indices")
_LABEL_NAMES = ("label", "labels", "y", "y_test", "y_true")
_CLEAN_NAMES = ("x", "x_test", "inputs")

#: Images compared with the clean ones at a time.
_AT_ONCE = 1000

#: Tolerance for clean images in the file: a normalisation and its inverse.
_CLEAN_SLACK = 1e-4


@dataclass(frozen=True, eq=False)
class SavedFile:
    """Adversarial images as they are in a file."""

    path: Path
    sha256: str
    images_NCHW: Tensor  #: floating point in [0, 1] or uint8, as stored; unchecked
    made_by: str | None = None  #: ``AutoAttack`` or ``torchattacks``, by the names in the file
    indices_N: Tensor | None = None  #: places in the data set; None means the first N
    labels_N: Tensor | None = None  #: classes according to the file, if given
    clean_NCHW: Tensor | None = None  #: clean images according to the file, if given

    def __len__(self) -> int:
        return len(self.images_NCHW)

    def attack_on(
        self, data: LabelledImages, threat: Threat, name: str, *, eps_is_stated: bool
    ) -> SavedImages:
        """These images as an attack on the first images of a data set, under an id.

        UserError: another shape or number, pixels outside [0, 1], labels or clean images that are
        not those of the data set, farther than ε from the clean images, or unchanged.
        """
        shape, count = tuple(self.images_NCHW.shape[1:]), len(data)
        if shape != data.image_shape:
            raise UserError(
                f"{self.path} holds images of shape {_times(shape)}, but those of {data.name} are "
                f"{_times(data.image_shape)}. Give the data set they were made from."
            )
        if len(self) < count:
            raise UserError(
                f"{self.path} holds {len(self)} images, but asked for are {count} of {data.name}. "
                f"Give --limit {len(self)} or less."
            )
        self._require_same_order(data)
        stored_NCHW = self.images_NCHW[:count]
        adv_NCHW = _as_floats(stored_NCHW).contiguous()
        low, high = float(adv_NCHW.min()), float(adv_NCHW.max())
        if not (low >= -LINF_SLACK and high <= 1 + LINF_SLACK):  # NaN is not either
            raise UserError(
                f"{self.path} has pixels from {low:g} to {high:g}, expected 0 to 1. Save the "
                "images before normalisation, and divide by 255 what goes up to 255."
            )
        rounding = Rounding.of(stored_NCHW)
        change = _measured(adv_NCHW, data, threat, rounding)
        self._require_within(change, rounding, data, threat)
        is_coarse = stored_NCHW.dtype not in (torch.float32, torch.float64)
        return SavedImages(
            name,
            adv_NCHW,
            torch.from_numpy(data.indices_N),
            self.sha256,
            change.largest,
            eps_is_stated,
            rounding if is_coarse or change.beyond else None,
            change.beyond,
        )

    def _require_same_order(self, data: LabelledImages) -> None:
        """Indices, labels and clean images of the file are those of the data set."""
        for said_N, expected_N, what in (
            (self.indices_N, data.indices_N, "index"),
            (self.labels_N, data.labels_N, "label"),
        ):
            if said_N is None:
                continue
            if len(said_N) < len(data):
                raise UserError(
                    f"{self.path} has {len(said_N)} values of {what} for {len(self)} images. Save "
                    f"one for each, or leave {what} out."
                )
            wrong = np.flatnonzero(said_N[: len(data)].numpy() != expected_N)
            if len(wrong):
                raise UserError(
                    f"{self.path}: its {what} is not that of the first {len(data)} images of "
                    f"{data.name}: {len(wrong)} differ, first {said_N[wrong[0]]} for "
                    f"{expected_N[wrong[0]]} at place {wrong[0]}. Save the images in the order of "
                    "the data set, or give the data set they were made from."
                )
        if self.clean_NCHW is not None:
            self._require_same_clean(self.clean_NCHW[: len(data)], data)

    def _require_same_clean(self, clean_NCHW: Tensor, data: LabelledImages) -> None:
        if len(clean_NCHW) < len(data) or tuple(clean_NCHW.shape[1:]) != data.image_shape:
            raise UserError(
                f"{self.path} has clean images {_times(tuple(clean_NCHW.shape))}, but those of "
                f"{data.name} are {_times((len(data), *data.image_shape))}. Give the data set they "
                "were made from, or --limit."
            )
        rounding = Rounding.of(clean_NCHW)
        slack = _CLEAN_SLACK + (rounding.most if rounding else 0)
        difference_N = torch.cat(
            [
                (_as_floats(clean_NCHW[rows]) - _pixels(data, rows)).flatten(1).abs().amax(1)
                for rows in _slices(len(data))
            ]
        )
        wrong = torch.nonzero(~(difference_N <= slack)).flatten()
        if len(wrong):
            raise UserError(
                f"{self.path}: its clean images are not the first {len(data)} of {data.name}: "
                f"{len(wrong)} differ, the one at place {int(wrong[0])} by "
                f"{255 * float(difference_N[wrong[0]]):.1f}/255. Give the data set they were made "
                "from, in its order, without augmentation."
            )

    def _require_within(
        self, change: _Change, rounding: Rounding | None, data: LabelledImages, threat: Threat
    ) -> None:
        if change.is_nothing:
            raise UserError(
                f"{self.path} holds the images of {data.name} as they are: nothing was attacked. "
                "Save the attacked ones; for clean accuracy type: ferd-eval score --attacks clean."
            )
        if not change.too_far:
            return
        rounded = rounding and (
            f" Their pixels are {rounding.type}, which may move one by "
            f"{255 * rounding.most:.2f}/255; that does not explain it."
        )
        raise UserError(
            f"{self.path}: {change.too_far} of {len(data)} images are farther than {threat} from "
            f"those of {data.name}, the farthest {change.largest:.4f} = "
            f"{255 * change.largest:.2f}/255.{rounded or ''} Give the --eps they were made with; "
            "if it is right, they are of other images or in another order."
        )


class _Change(NamedTuple):
    """How far images are from the clean ones."""

    largest: float  #: ‖x_adv − x‖∞ of the farthest image
    beyond: int  #: images that rounding may have moved out of the ball
    too_far: int  #: images whose own attack left it
    is_nothing: bool  #: whether no pixel changed by more than rounding may


def _measured(
    adv_NCHW: Tensor, data: LabelledImages, threat: Threat, rounding: Rounding | None
) -> _Change:
    most, largest, outside, beyond, least = threat.radius + LINF_SLACK, 0.0, 0, 0, -1.0
    for rows in _slices(len(data)):
        x_BCHW, adv_BCHW = _pixels(data, rows), adv_NCHW[rows]
        delta_BCHW = adv_BCHW - x_BCHW
        below, above = rounding.room(x_BCHW, adv_BCHW) if rounding else (0.0, 0.0)
        least_BCHW = torch.maximum(delta_BCHW - above, -delta_BCHW - below)
        distance_B = threat.distance(x_BCHW, adv_BCHW)
        least_B = least_BCHW.flatten(1).amax(dim=1)
        largest, least = max(largest, float(distance_B.max())), max(least, float(least_B.max()))
        outside += int((distance_B > most).sum())
        beyond += int((least_B > most).sum())
    # Rounding that moves pixels as far as the attack may says nothing of how far that went.
    if rounding is not None and rounding.most < threat.radius:
        return _Change(largest, outside - beyond, beyond, least <= LINF_SLACK)
    return _Change(largest, 0, outside, largest <= LINF_SLACK)


def read_saved_images(path: Path) -> SavedFile:
    """Read a file of adversarial images without executing anything in it.

    Formats: ``torch.save`` of a tensor, or of a dictionary with one under ``adv_complete``
    (AutoAttack) or ``adv_inputs`` (torchattacks' ``save``); NumPy's ``.npy`` or ``.npz``, such as
    ``--save-adv`` writes. UserError: it cannot be read, or holds no N×C×H×W images, floating point
    or uint8.
    """
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {state}; give a file of adversarial images.")
    digest = file_sha256(path)
    if path.suffix.lower() == ".npz":
        found = _read_npz(path)
    elif path.suffix.lower() == ".npy":
        found = {"images": _tensor(path, map_npy(path))}
    else:
        found = _read_torch(path)
    name = _images_name(path, found)
    images = found[name]
    is_image = images.is_floating_point() or images.dtype == torch.uint8
    if images.ndim != 4 or not is_image or not len(images):
        raise UserError(
            f"{path} holds {str(images.dtype).removeprefix('torch.')} of shape "
            f"{_times(tuple(images.shape))}, expected images N×C×H×W, floating point in [0, 1] or "
            "uint8."
        )
    clean = [each for each in found if each != name and _is_clean(each) and found[each].ndim == 4]
    makers = {"adv_complete": "AutoAttack", "adv_inputs": "torchattacks"}
    return SavedFile(
        path,
        digest,
        images,
        makers.get(name),
        _vector(path, found, _INDEX_NAMES),
        _vector(path, found, _LABEL_NAMES),
        found[clean[0]] if clean else None,
    )


def _images_name(path: Path, found: Mapping[str, Tensor]) -> str:
    for name in _NAMES:
        if name in found:
            return name
    images = [name for name, tensor in found.items() if tensor.ndim == 4]
    attacked = [name for name in images if not _is_clean(name)]
    if len(attacked) == 1:
        return attacked[0]
    if len(found) == 1 and not images:
        return next(iter(found))  # of another shape, which has its own message
    what = ", ".join(found)[:200] or "no tensor"
    what += " (clean images)" if images and not attacked else ""
    raise UserError(
        f"{path} holds {what}, expected a tensor of images, alone or as 'adv_complete'. "
        f"Save them with {_SAVE}, each attack in a file."
    )


def _is_clean(name: str) -> bool:
    return name in _CLEAN_NAMES or known_attack(name.removeprefix("x_")) == "clean"


def _vector(path: Path, found: Mapping[str, Tensor], names: Sequence[str]) -> Tensor | None:
    """N whole numbers, if the file has them; N×1 is N."""
    name = next((each for each in names if each in found), None)
    if name is None:
        return None
    values = found[name]
    if values.ndim == 2 and values.shape[1] == 1:
        values = values.flatten()
    if values.ndim != 1 or values.is_complex():
        raise UserError(
            f"{path}: {name} has shape {_times(tuple(values.shape))}; save one number for each "
            f"image, or leave {name} out."
        )
    return values


def _as_floats(stored: Tensor) -> Tensor:
    return stored.to(torch.float32) / 255 if stored.dtype == torch.uint8 else stored.float()


def _slices(count: int) -> Iterator[slice]:
    return (slice(at, min(at + _AT_ONCE, count)) for at in range(0, count, _AT_ONCE))


_SAVE = "torch.save({'adv_complete': x_adv}, FILE)"


def _read_torch(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names; one alone is called images."""
    try:
        require_modest(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as reason:  # a damaged file can make torch raise almost anything
        match reason:
            case OSError():
                said = f"cannot be read: {reason.strerror or reason}."
            case pickle.UnpicklingError():
                said = (
                    "holds more than tensors, or is no file of torch, and nothing in it is "
                    f"executed. Save the images with {_SAVE}."
                )
            case ValueError():
                said = (
                    f"is damaged or hostile: {' '.join(str(reason).split())}. Save the images "
                    f"again with {_SAVE}."
                )
            case _:
                said = f"is no whole file of torch.save ({type(reason).__name__}). Save it again."
        raise UserError(f"{path} {said}") from reason
    if isinstance(content, Tensor):
        return {"images": content.detach()}
    entries = content if isinstance(content, Mapping) else {}
    if not entries:
        raise UserError(
            f"{path} holds a {type(content).__name__}, expected a tensor of images, alone or as "
            f"'adv_complete'. Save them with {_SAVE}."
        )
    return {str(k).lower(): v.detach() for k, v in entries.items() if isinstance(v, Tensor)}


def _read_npz(path: Path) -> dict[str, Tensor]:
    with open_npz(path) as archive:
        images = archive.pick(_NAMES, "adversarial images")
        beside = {*_INDEX_NAMES, *_LABEL_NAMES}
        wanted = [key for key in archive.keys if key in beside or _is_clean(key)]
        return {key: _tensor(path, archive.read(key)) for key in [images, *wanted]}


def _tensor(path: Path, values: np.ndarray) -> Tensor:
    try:
        return torch.from_numpy(values.astype(values.dtype.newbyteorder("="), copy=False))
    except TypeError as reason:
        raise UserError(f"{path} holds {values.dtype}; save float32.") from reason


def _pixels(data: LabelledImages, rows: slice) -> Tensor:
    pixels = torch.from_numpy(data.images_NCHW[rows])
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "()"
