"""What Hugging Face's `datasets` saves to disk: folders of Arrow files, read by pyarrow alone."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.datasets.image_folder import Encoded, decode_images, is_file_name, opened
from ferd_eval.datasets.info import OwnDataset, Split
from ferd_eval.datasets.labelled_images import LabelledImages
from ferd_eval.datasets.pixel_buffer import Pixels
from ferd_eval.datasets.stored_array import agreed_names, named_by, require_unit_range
from ferd_eval.errors import UserError, message_of
from ferd_eval.io.json import parse_json

_SPLITS: Mapping[Split, tuple[str, ...]] = {
    "test": ("test", "validation", "valid", "val"),
    "train": ("train",),
}
_IMAGE_NAMES = ("image", "img")
_LABEL_NAMES = ("label", "labels", "fine_label")
_MAX_JSON = 1 << 24


def read_hugging_face(path: Path, split: Split, order: ClassOrder) -> LabelledImages:
    """Read a folder of ``save_to_disk``: of a ``Dataset``, or the split's in a ``DatasetDict``.

    The images are the column of type Image, the labels the one of type ClassLabel, or of integers
    called ``label``. Grey images keep their one channel. Floating-point images, which `datasets`
    keeps as TIFF, stay ``float32``. UserError: the folder is none, a file is damaged, there is no
    such column, or its images are of several sizes or kinds or not in [0, 1].
    """
    folder = _of_split(path, split)
    features = _record(folder / "dataset_info.json").get("features")
    if not isinstance(features, dict):
        raise UserError(f"{folder}/dataset_info.json names no features; save the set again.")
    image = _column(folder, features, "Image", _IMAGE_NAMES)
    label = _column(folder, features, "ClassLabel", _LABEL_NAMES)
    pictures, labels = _rows(folder, image, label)
    if not pictures:
        raise UserError(f"{folder} holds no images; save a set with some.")
    labels_N = np.array(labels, dtype=np.int64)
    names = features[label].get("names")
    stored = tuple(map(str, names)) if isinstance(names, list) else ()
    called = agreed_names(order, stored, str(folder)) if stored else named_by(order, labels_N)
    return LabelledImages(
        name=f"hf:{path.resolve().name}",
        images_NCHW=_decoded(pictures),
        labels_N=labels_N,
        class_names=called,
        indices_N=np.arange(len(labels_N), dtype=np.int64),
        source=str(folder),
    )


def _of_split(path: Path, split: Split) -> Path:
    """The folder that holds one set: the path itself, or a split of it."""
    if (path / "state.json").is_file():
        return path
    wanted = _SPLITS[split]
    for name in wanted:
        if (path / name / "state.json").is_file():
            return path / name
    if (path / "dataset_dict.json").is_file():
        here = sorted(file.parent.name for file in path.glob("*/state.json"))
        raise UserError(
            f"{path} has {', '.join(here) or 'no split'}, but no {' or '.join(wanted)}; give the "
            f"folder of one split: --dataset hf:{path / here[0] if here else path}."
        )
    state = "has no state.json" if path.is_dir() else "is no folder"
    raise UserError(
        f"{path} {state}; give --dataset hf:DIR a folder of save_to_disk "
        "(datasets.load_dataset(...).save_to_disk(DIR))."
    )


def _record(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > _MAX_JSON:
            raise ValueError(f"more than {_MAX_JSON} bytes")
        found = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        raise UserError(
            f"{file} cannot be read ({message_of(reason)}); save the set again."
        ) from reason
    if not isinstance(found, dict):
        raise UserError(f"{file} is no record; save the set again.")
    return found


def _column(folder: Path, features: Mapping[str, Any], kind: str, names: Sequence[str]) -> str:
    """The one column of a kind; of several, or for integers, the one with the usual name."""
    kinds = {name: each.get("_type") for name, each in features.items() if isinstance(each, dict)}
    found = [name for name, its in kinds.items() if its == kind]
    usual = [name for name in names if name in found]
    if not found and kind == "ClassLabel":
        usual = [
            name
            for name in names
            if kinds.get(name) == "Value" and "int" in str(features[name].get("dtype"))
        ]
    if len(found) == 1 or usual:
        return found[0] if len(found) == 1 else usual[0]
    columns = ", ".join(f"{name} ({its})" for name, its in kinds.items())
    what = "images" if kind == "Image" else "labels"
    raise UserError(
        f"{folder} has {columns[:200] or 'no columns'}: which holds the {what} is not clear. Cast "
        f"it (cast_column to {kind}), call it {names[0]}, and save again."
    )


def _rows(folder: Path, image: str, label: str) -> tuple[list[Encoded], list[int]]:
    """Encoded images, which stay in their mapped files, and labels."""
    pictures: list[Encoded] = []
    labels: list[int] = []
    files = _record(folder / "state.json").get("_data_files")
    for entry in files if isinstance(files, list) else []:
        name = entry.get("filename") if isinstance(entry, dict) else None
        if not (isinstance(name, str) and is_file_name(name)):
            raise UserError(
                f"{folder}/state.json names {str(name)[:80]!r}, which is no file in it."
            )
        file = folder / name
        for batch in _batches(file):
            try:
                contents, values = batch.column(image), batch.column(label).to_pylist()
                contents = contents.flatten()[contents.type.get_field_index("bytes")]
                found = [each.as_buffer() for each in contents]
            except Exception as error:  # a column may have any type, whatever the record says
                raise _damaged(file, message_of(error)) from error
            for content, value in zip(found, values, strict=True):
                where = f"{file}: image {len(pictures)}"
                if content is None:
                    raise UserError(
                        f"{where} is not in the file, which only says where it was; load the set "
                        "where its images are and save it again, which takes them in."
                    )
                if type(value) is not int or not -(2**31) < value < 2**31:
                    raise UserError(f"{where} has label {str(value)[:40]}, which is no class.")
                pictures.append(Encoded(where, memoryview(content)))
                labels.append(value)
    return pictures, labels


def _batches(file: Path) -> list[Any]:
    """The record batches of a stream, mapped and validated; nothing in it is unpacked."""
    import pyarrow as pa

    try:
        with pa.memory_map(str(file)) as source:
            for message in pa.ipc.MessageReader.open_stream(source):
                plain = message.type == "schema" or message.type == "record batch"
                if not plain or _is_compressed(message):
                    raise ValueError(f"a {message.type} that is compressed, or of another kind")
        with pa.memory_map(str(file)) as source, pa.ipc.open_stream(source) as reader:
            batches = list(reader)
        for batch in batches:
            batch.validate(full=True)  # offsets are used unchecked from here on
    except Exception as error:  # a damaged file can make pyarrow raise almost anything
        raise _damaged(file, message_of(error)) from error
    return batches


def _is_compressed(message: Any) -> bool:
    """Whether buffers are to be inflated: entry 3 of the record batch, which is entry 2 of the
    message (Arrow's ``Message.fbs``, as a flatbuffer)."""
    if message.type == "schema":
        return False
    content = message.metadata.to_pybytes()

    def entry(table: int, number: int) -> int:
        directory = table - int(struct.unpack_from("<i", content, table)[0])
        length, at = int(struct.unpack_from("<H", content, directory)[0]), 4 + 2 * number
        offset = int(struct.unpack_from("<H", content, directory + at)[0]) if at < length else 0
        return table + offset if offset else 0

    def follow(place: int) -> int:
        return place + int(struct.unpack_from("<I", content, place)[0])

    return entry(follow(entry(follow(0), 2)), 3) != 0


def _damaged(file: Path, said: str) -> UserError:
    return UserError(f"{file} is no whole Arrow file of images ({said[:200]}); save the set again.")


def _decoded(pictures: Sequence[Encoded]) -> Pixels:
    modes = set()
    for picture in pictures:
        with opened(picture, floats=True) as image:
            modes.add(image.mode)
            if len(modes) == 1:
                size = image.size
            if "F" in modes and (image.size != size or len(modes) > 1):
                raise UserError(
                    f"{picture} is {image.width} x {image.height} in mode {image.mode}, the first "
                    f"{size[0]} x {size[1]}; where images are floating-point numbers, all have to "
                    "be, and of one size."
                )
    advice = "resize them all to the size your model takes, and save again."
    if modes != {"F"}:
        return decode_images(pictures, advice=advice, grey=modes == {"L"})
    images_NCHW = np.empty((len(pictures), 1, size[1], size[0]), dtype=np.float32)
    for pixels_CHW, picture in zip(images_NCHW, pictures, strict=True):
        with opened(picture, floats=True) as image:
            try:
                pixels_CHW[0] = np.asarray(image)
            except Exception as error:  # a decoder raises whatever its parser tripped over
                raise _damaged(Path(picture.where), message_of(error)) from error
    require_unit_range(images_NCHW, pictures[0].where.partition(": image")[0])
    return images_NCHW


HUGGING_FACE = OwnDataset(
    name="hf",
    title="your Hugging Face data set on disk",
    layout="hf:DIR as save_to_disk writes it: a set, or a folder with its test or train split",
    read=read_hugging_face,
)
