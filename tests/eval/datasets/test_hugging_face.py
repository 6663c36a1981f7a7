"""Folders of `save_to_disk`: written by pyarrow, and by `datasets` where that is installed."""

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from ferd_eval.datasets import load_dataset

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (5, 6, 7, 3), dtype=np.uint8)
FLOATS = RNG.random((5, 6, 7)).astype(np.float32)
LABELS = [2, 0, 1, 1, 0]
FEATURES = {
    "image": {"_type": "Image"},
    "label": {"_type": "ClassLabel", "names": ["cat", "dog", "owl"]},
}


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write(folder, contents, labels=LABELS, features=FEATURES, files=2, options=None, **more):
    """Two files of record batches of two rows, and the two records beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    image = pa.array([{"bytes": each, "path": None} for each in contents],
                     pa.struct({"bytes": pa.binary(), "path": pa.string()}))  # fmt: skip
    names = [*features][:2]
    table = pa.table({names[0]: image, names[1]: pa.array(labels, pa.int64()), **more})
    at = np.linspace(0, len(labels), files + 1).astype(int)
    names = []
    for i, (start, stop) in enumerate(zip(at[:-1], at[1:], strict=True)):
        names.append({"filename": f"data-{i:05}-of-{files:05}.arrow"})
        with pa.ipc.new_stream(folder / names[-1]["filename"], table.schema, options=options) as to:
            to.write_table(table.slice(start, stop - start), max_chunksize=2)
    (folder / "dataset_info.json").write_text(json.dumps({"features": features}))
    (folder / "state.json").write_text(json.dumps({"_data_files": names, "_split": None}))
    return f"hf:{folder}"


def test_colour_images(tmp_path):
    data = load_dataset(write(tmp_path / "birds", map(encoded, COLOUR)))
    assert (data.images_NCHW.transpose(0, 2, 3, 1) == COLOUR).all()
    assert data.labels_N.tolist() == LABELS
    assert data.class_names == ("cat", "dog", "owl")
    assert data.name == "hf:birds"


def test_grey_images_keep_one_channel(tmp_path):
    data = load_dataset(write(tmp_path / "g", [encoded(each) for each in COLOUR[..., 0]]))
    assert (data.images_NCHW[:, 0] == COLOUR[..., 0]).all()
    assert data.image_shape == (1, 6, 7)


def test_some_grey_images_among_colour_get_three_channels(tmp_path):
    mixed = [encoded(COLOUR[0, ..., 0]), *map(encoded, COLOUR[1:])]
    data = load_dataset(write(tmp_path / "m", mixed))
    assert (data.images_NCHW[0] == COLOUR[0, ..., 0]).all()
    assert (data.images_NCHW[1:].transpose(0, 2, 3, 1) == COLOUR[1:]).all()


def test_floating_point_tiffs_are_not_black(tmp_path, refused):
    data = load_dataset(write(tmp_path / "f", [encoded(each, "TIFF") for each in FLOATS]))
    assert data.images_NCHW.dtype == np.float32
    assert (data.images_NCHW[:, 0] == FLOATS).all()
    with refused("floats from", "divide by 255"):
        load_dataset(write(tmp_path / "f", [encoded(255 * each, "TIFF") for each in FLOATS]))
    with refused("not finite"):
        load_dataset(write(tmp_path / "f", [encoded(each * np.nan, "TIFF") for each in FLOATS]))
    mixed = [encoded(FLOATS[0], "TIFF"), *map(encoded, COLOUR[1:])]
    for contents in (mixed, mixed[::-1]):
        with refused("mode", "all have to be"):
            load_dataset(write(tmp_path / "f", contents))
    with refused("more than 8 bits", "I;16"):
        load_dataset(write(tmp_path / "f", [encoded(COLOUR[0, ..., 0].astype(np.uint16))] * 5))


def test_splits(tmp_path, refused):
    root = tmp_path / "dict"
    write(root / "train", map(encoded, COLOUR))
    (root / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with refused("has train", "no test or validation", f"--dataset hf:{root / 'train'}"):
        load_dataset(f"hf:{root}")
    write(root / "validation", map(encoded, COLOUR[:2]), LABELS[:2])
    assert len(load_dataset(f"hf:{root}")) == 2
    assert len(load_dataset(f"hf:{root}", split="train")) == 5
    write(root / "test", map(encoded, COLOUR[:3]), LABELS[:3])
    assert len(load_dataset(f"hf:{root}")) == 3


def test_names_of_columns_and_classes(tmp_path, refused):
    numbers = {"img": {"_type": "Image"}, "label": {"_type": "Value", "dtype": "int64"}}
    spec = write(tmp_path / "n", map(encoded, COLOUR), features=numbers)
    assert load_dataset(spec).class_names == ("0", "1", "2")
    assert load_dataset(spec, classes="a,b,c,d").class_names == tuple("abcd")
    spec = write(tmp_path / "n", map(encoded, COLOUR))
    with refused("class 0 is 'dog'", "'cat' in class_names"):
        load_dataset(spec, classes="dog,cat,owl")
    with refused("numbers already"):
        load_dataset(spec, class_order="natural")
    both = {"img": {"_type": "Image"}, "fine_label": {"_type": "ClassLabel", "names": ["x"] * 3},
            "coarse_label": {"_type": "ClassLabel", "names": ["y"]}}  # fmt: skip
    both["fine_label"]["names"] = ["x", "y", "z"]
    coarse = pa.array([0] * 5, pa.int64())
    spec = write(tmp_path / "n", map(encoded, COLOUR), features=both, coarse_label=coarse)
    assert load_dataset(spec).class_names == ("x", "y", "z")
    for features, said in (
        ({"image": {"_type": "Image"}, "kind": {"_type": "Value", "dtype": "int64"}}, "labels"),
        ({"a": {"_type": "Image"}, "b": {"_type": "Image"}, "label": {}}, "images"),
    ):
        spec = write(tmp_path / "n", map(encoded, COLOUR), features=features)
        with refused(f"which holds the {said} is not clear", "cast_column"):
            load_dataset(spec)


def test_what_is_refused(tmp_path, refused):
    with refused("is no folder", "save_to_disk"):
        load_dataset(f"hf:{tmp_path / 'nowhere'}")
    with refused("has no state.json"):
        load_dataset(f"hf:{tmp_path}")
    folder = tmp_path / "set"
    with refused("holds no images"):
        load_dataset(write(folder, [], []))
    with refused("image 1 is not in the file", "save it again"):
        load_dataset(write(folder, [encoded(COLOUR[0]), None], [0, 1]))
    with refused("image 1 has label None"):
        load_dataset(write(folder, [encoded(COLOUR[0])] * 2, [0, None]))
    with refused("labels from -1"):
        load_dataset(write(folder, [encoded(COLOUR[0])] * 2, [0, -1]))
    with refused("image 1", "cannot identify"):
        load_dataset(write(folder, [encoded(COLOUR[0]), b"no image"], [0, 1]))
    with refused("image 1 has 6 x 6", "resize"):
        load_dataset(write(folder, [encoded(COLOUR[0]), encoded(COLOUR[0, :, 1:])], [0, 1]))
    spec = write(folder, map(encoded, COLOUR))
    (folder / "state.json").write_text('{"_data_files": [{"filename": "../x.arrow"}]}')
    with refused("'../x.arrow'", "no file in it"):
        load_dataset(spec)
    (folder / "state.json").write_text("[" * 9000)
    with refused("state.json cannot be read"):
        load_dataset(spec)
    (folder / "dataset_info.json").write_text("{}")
    with refused("names no features"):
        load_dataset(spec)


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_compressed_batches_are_not_unpacked(tmp_path, refused, codec):
    options = pa.ipc.IpcWriteOptions(compression=codec)
    spec = write(tmp_path / "z", [bytes(1 << 20)] * 5, options=options)
    with refused("is compressed"):
        load_dataset(spec)


def test_damaged_files_are_read_or_refused(tmp_path):
    from ferd_eval.errors import UserError

    spec = write(tmp_path / "d", map(encoded, COLOUR), files=1)
    file = tmp_path / "d" / "data-00000-of-00001.arrow"
    whole, at, found = file.read_bytes(), np.random.default_rng(1), 0
    for _ in range(300):
        content = bytearray(whole[: at.integers(1, len(whole) + 1)] if at.random() < 0.3 else whole)
        for place in at.integers(0, len(content), at.integers(1, 6)):
            content[place] = at.integers(0, 256)
        file.write_bytes(content)
        try:
            load_dataset(spec)
        except UserError:
            found += 1
    assert found > 100


def test_what_the_real_package_writes(tmp_path):
    datasets = pytest.importorskip("datasets", reason="Hugging Face's datasets is not installed")
    if not hasattr(datasets, "Dataset"):  # a folder of that name
        pytest.skip("Hugging Face's datasets is not installed")
    datasets.disable_progress_bars()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "owl"])}
    )
    for pixels in (COLOUR, COLOUR[..., 0], FLOATS):
        made = datasets.Dataset.from_dict({"image": [*pixels], "label": LABELS}, features=features)
        folder = tmp_path / f"{pixels.dtype}-{pixels.ndim}"
        datasets.DatasetDict(train=made.select([0]), test=made).save_to_disk(
            folder, num_shards=None
        )
        data = load_dataset(f"hf:{folder}")
        ours = data.images_NCHW.transpose(0, 2, 3, 1).reshape(pixels.shape)
        assert (ours == pixels).all()
        assert ours.dtype == pixels.dtype
        assert (data.labels_N.tolist(), data.class_names) == (LABELS, ("cat", "dog", "owl"))
        made.shuffle(seed=1).save_to_disk(tmp_path / "shuffled")
        order = made.shuffle(seed=1)["label"]
        assert load_dataset(f"hf:{tmp_path / 'shuffled'}").labels_N.tolist() == [*order]
