"""Files of adversarial images, as AutoAttack's users save them. N images, C × H × W pixels."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ferd_eval.attacks import Threat
from ferd_eval.attacks.base import LINF_SLACK
from ferd_eval.attacks.saved import SavedImages
from ferd_eval.datasets import LabelledImages
from ferd_eval.datasets.npz_archive import open_npz
from ferd_eval.errors import UserError
from ferd_eval.file_digest import file_sha256
from ferd_eval.torch_pickle import require_modest

#: Under which name a dictionary holds the images, first match wins.
_NAMES = ("adv_complete", "x_adv", "adv", "images")

#: Images compared with the clean ones at a time.
_AT_ONCE = 1000


@dataclass(frozen=True, eq=False)
class SavedFile:
    """Adversarial images as they are in a file.

    Attributes:
        images_NCHW: floating point, as stored; not yet compared with anything.
        indices_N: places in the data set, None where the file does not tell: then they are of the
            first N.
        labels_N: what the file says their classes are, where it does.
    """

    path: Path
    sha256: str
    images_NCHW: Tensor
    indices_N: Tensor | None = None
    labels_N: Tensor | None = None

    def __len__(self) -> int:
        return len(self.images_NCHW)

    def attack_on(self, data: LabelledImages, threat: Threat, name: str) -> SavedImages:
        """These images as an attack on a data set of which they are the first.

        Raises:
            UserError: they cannot be: another shape or number, pixels outside [0, 1], or farther
                than ε from the clean images.
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
        adv_NCHW = self.images_NCHW[:count].to(torch.float32).contiguous()
        low, high = float(adv_NCHW.min()), float(adv_NCHW.max())
        if not (low >= -LINF_SLACK and high <= 1 + LINF_SLACK):  # NaN is not either
            raise UserError(
                f"{self.path} has pixels from {low:g} to {high:g}, expected 0 to 1. Save the "
                "images before normalisation, and divide by 255 what goes up to 255."
            )
        return SavedImages(
            name,
            adv_NCHW,
            torch.from_numpy(data.indices_N),
            self.sha256,
            self._largest(adv_NCHW, data, threat),
        )

    def _require_same_order(self, data: LabelledImages) -> None:
        for said_N, expected_N, what in (
            (self.indices_N, data.indices_N, "index"),
            (self.labels_N, data.labels_N, "label"),
        ):
            if said_N is not None and not np.array_equal(said_N[: len(data)], expected_N):
                raise UserError(
                    f"{self.path}: its {what} is not that of the first {len(data)} images of "
                    f"{data.name}. Save the images in the order of the data set."
                )

    def _largest(self, adv_NCHW: Tensor, data: LabelledImages, threat: Threat) -> float:
        """The largest perturbation, once none is larger than ε."""
        distance_N = torch.cat(
            [
                threat.distance(_pixels(data, rows), adv_NCHW[rows])
                for start in range(0, len(data), _AT_ONCE)
                for rows in [slice(start, min(start + _AT_ONCE, len(data)))]
            ]
        )
        largest, beyond = float(distance_N.max()), distance_N > threat.radius + LINF_SLACK
        if count := int(beyond.sum()):
            raise UserError(
                f"{self.path}: {count} of {len(data)} images are farther than {threat} from those "
                f"of {data.name}, the farthest {largest:.4f} = {255 * largest:.2f}/255. Give the "
                "--eps they were made with; if it is right, they are of other images or in another "
                "order."
            )
        return largest


def read_saved_images(path: Path) -> SavedFile:
    """Read a file of adversarial images without executing anything in it.

    It may be what ``torch.save`` wrote, a tensor or a dictionary with one under ``adv_complete``,
    or NumPy's ``.npy`` or ``.npz``, such as ``--save-adv`` writes.

    Raises:
        UserError: it cannot be read, or holds no N×C×H×W floating-point images.
    """
    if not path.is_file():
        state = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"{path} {state}; give a file of adversarial images.")
    digest = file_sha256(path)
    more: dict[str, Tensor] = {}
    if path.suffix.lower() == ".npz":
        images, more = _read_npz(path)
    elif path.suffix.lower() == ".npy":
        images = _read_npy(path)
    else:
        images = _read_torch(path)
    if images.ndim != 4 or not images.is_floating_point() or not len(images):
        raise UserError(
            f"{path} holds {str(images.dtype).removeprefix('torch.')} of shape "
            f"{_times(tuple(images.shape))}, expected floating-point images N×C×H×W in [0, 1]."
        )
    return SavedFile(path, digest, images, more.get("index"), more.get("label"))


def _read_torch(path: Path) -> Tensor:
    try:
        require_modest(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as reason:
        raise UserError(f"{path} cannot be read: {reason.strerror or reason}.") from reason
    except ValueError as reason:
        raise UserError(
            f"{path} is damaged or hostile: {' '.join(str(reason).split())}. Save the "
            "images again with torch.save({'adv_complete': x_adv}, FILE)."
        ) from reason
    except pickle.UnpicklingError as reason:
        raise UserError(
            f"{path} holds more than tensors, or is no file of torch, and nothing in it is "
            "executed. Save the images with torch.save({'adv_complete': x_adv}, FILE)."
        ) from reason
    except Exception as reason:  # a damaged file can make torch raise almost anything
        raise UserError(
            f"{path} is no whole file of torch.save ({type(reason).__name__}). Save it again."
        ) from reason
    if isinstance(content, Tensor):
        return content.detach()
    entries = content if isinstance(content, Mapping) else {}
    tensors = {str(k): v.detach() for k, v in entries.items() if isinstance(v, Tensor)}
    images = {name: tensor for name, tensor in tensors.items() if tensor.ndim == 4}
    for name in _NAMES:
        if name in tensors:
            return tensors[name]
    if len(images) == 1:
        return next(iter(images.values()))
    found = ", ".join(map(str, entries)) if entries else f"a {type(content).__name__}"
    raise UserError(
        f"{path} holds {found[:200]}, expected a tensor of images, alone or as 'adv_complete'. "
        "Save them with torch.save({'adv_complete': x_adv}, FILE), each attack in a file."
    )


def _read_npz(path: Path) -> tuple[Tensor, dict[str, Tensor]]:
    with open_npz(path) as archive:
        images = archive.read(archive.pick(_NAMES, "adversarial images"))
        more = {key: archive.read(key) for key in ("index", "label") if key in archive.keys}
    return _tensor(path, images), {key: _tensor(path, values) for key, values in more.items()}


def _read_npy(path: Path) -> Tensor:
    try:
        _require_header(path)
        return _tensor(path, np.load(path, mmap_mode="c", allow_pickle=False))
    except UserError:
        raise
    except Exception as reason:  # a damaged file can make numpy raise almost anything
        raise UserError(
            f"{path} cannot be read as an array ({' '.join(str(reason).split())}). Save it with "
            "np.save."
        ) from reason


def _require_header(path: Path) -> None:
    """numpy makes room for as long a header as a file claims to have."""
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        claimed = int.from_bytes(file.read(2 if version == (1, 0) else 4), "little")
    if claimed > path.stat().st_size:
        raise ValueError(f"its header claims {claimed} bytes")


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
