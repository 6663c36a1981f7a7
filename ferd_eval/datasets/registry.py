"""Every data set by name, and the reading of the one that a user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ferd_eval.datasets.cifar import CIFAR10, CIFAR100
from ferd_eval.datasets.cifar101 import CIFAR101, CIFAR101_V4
from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.datasets.corruptions import CIFAR10_C, CIFAR100_C, IMAGENET_C
from ferd_eval.datasets.data_folder import DataFolder, download_dataset
from ferd_eval.datasets.demo import DEMO
from ferd_eval.datasets.gtsrb import GTSRB
from ferd_eval.datasets.hugging_face import HUGGING_FACE
from ferd_eval.datasets.image_folder import IMAGE_FOLDER
from ferd_eval.datasets.info import DatasetInfo, OwnDataset, PackagedDataset, PublicDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.datasets.mnist import FASHION_MNIST, MNIST
from ferd_eval.datasets.npy import NPY
from ferd_eval.datasets.npz import NPZ
from ferd_eval.datasets.stl10 import STL10
from ferd_eval.datasets.svhn import SVHN
from ferd_eval.datasets.tiny_imagenet import TINY_IMAGENET
from ferd_eval.errors import UserError, did_you_mean, listed, require_kind

#: Every data set by name, in the order they are shown. A new one is one line here.
DATASETS: dict[str, DatasetInfo] = {
    info.name: info
    for info in (
        CIFAR10,
        CIFAR100,
        TINY_IMAGENET,
        FASHION_MNIST,
        MNIST,
        CIFAR101,
        CIFAR101_V4,
        SVHN,
        STL10,
        GTSRB,
        CIFAR10_C,
        CIFAR100_C,
        IMAGENET_C,
        IMAGE_FOLDER,
        NPZ,
        NPY,
        HUGGING_FACE,
        DEMO,
    )
}


def list_datasets() -> tuple[DatasetInfo, ...]:
    """The facts of every data set, in the order they are shown."""
    return tuple(DATASETS.values())


def dataset_info(spec: str) -> DatasetInfo:
    """The facts of the data set that ``spec`` (``cifar10``, ``folder:PATH`` ...) names.

    Raises:
        UserError: there is no such data set.
    """
    return _parse(spec)[0]


def load_dataset(
    spec: str,
    data_dir: Path | str | None = None,
    *,
    split: Split = "test",
    download: bool = False,
    classes: str | Sequence[str] | None = None,
    class_order: str | None = None,
) -> LabelledImages:
    """Load a data set into memory.

    Args:
        spec: a name of ``list_datasets``; a user's own set with its path, such as ``folder:PATH``.
        data_dir: the folder that holds public sets, directly or in the subfolders that their
            archives and torchvision make. Default: the environment variable ``FERD_DATA``, else
            ``./data``.
        split: ``"test"`` or ``"train"``. Tiny ImageNet's test split is its validation set.
        download: fetch a public set that is not there, with torchvision.
        classes: names of all classes of a user's own set in label order, or a file with one a line;
            of class folders exactly their names.
        class_order: of class folders: ``"text"``, as torchvision's ImageFolder and by default, or
            ``"natural"``, 2 before 10.

    Raises:
        UserError: the set is unknown, not found, damaged, or cannot be fetched, or its classes are
            others than said.
    """
    require_kind(spec, str, "the data set", "a name such as 'cifar10', folder:PATH or npz:PATH")
    require_kind(data_dir, str | Path | None, "data_dir", "a folder")
    if split not in ("test", "train"):
        raise UserError(f"no split {split!r}.{did_you_mean(str(split), ('test', 'train'))}")
    dataset, path = _parse(spec)
    order = ClassOrder.chosen(classes, class_order)
    if order and not _is_named_by_user(dataset):
        own = [f"{name}:PATH" for name, info in DATASETS.items() if _is_named_by_user(info)]
        raise UserError(
            f"data set {dataset.name} has its own classes: --classes and --class-order go "
            f"with {listed(own, len(own))}."
        )
    match dataset:
        case OwnDataset():
            assert path is not None
            images = dataset.read(path, split, order)
        case PackagedDataset():
            images = dataset.read(split)
        case PublicDataset():
            images = _load_public(dataset, DataFolder.choose(data_dir), split, download)
    return replace(images, default_eps=dataset.default_eps)


def _is_named_by_user(info: DatasetInfo) -> bool:
    """Whether the user says what its classes are called."""
    return isinstance(info, OwnDataset) and not info.class_names


def _load_public(
    dataset: PublicDataset, folder: DataFolder, split: Split, download: bool
) -> LabelledImages:
    if not any(layout.files(split) for layout in dataset.layouts):
        raise UserError(f"data set {dataset.name} has no {split} images; take another for that.")
    found = folder.find(dataset, split)
    if found is None and download:
        download_dataset(dataset, folder.path, split)
        found = folder.find(dataset, split)
    if found is None:
        public = [each for each in DATASETS.values() if isinstance(each, PublicDataset)]
        raise folder.missing(dataset, split, public)
    return dataset.read(dataset, *found, split)


def _parse(spec: str) -> tuple[DatasetInfo, Path | None]:
    name, colon, path = spec.partition(":")
    dataset = DATASETS.get(name)
    if dataset is None:
        raise UserError(f"no data set {spec!r}.{_near_miss(spec)}")
    if isinstance(dataset, OwnDataset):
        if not path:
            raise UserError(f"data set {name} needs a path: --dataset {name}:PATH.")
        return dataset, Path(path).expanduser()
    if colon:
        raise UserError(
            f"data set {name} takes no path, but got {spec!r}: use --dataset {name} "
            f"--data-dir {path or 'DIR'}."
        )
    return dataset, None


def _near_miss(spec: str) -> str:
    if spec.endswith((".npz", ".npy")):
        return f" Did you mean {spec[-3:]}:{spec}?"
    if Path(spec).expanduser().is_dir():
        return f" Did you mean folder:{spec}?"
    return did_you_mean(spec, DATASETS)
