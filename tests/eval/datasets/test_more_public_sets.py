"""CIFAR-10.1, SVHN, STL-10, GTSRB and MedMNIST: tiny files in the published formats.

What they hold is read a second time by torchvision, or was drawn here.
"""

import csv

import numpy as np
import pytest
import scipy.io
from PIL import Image

from ferd_eval.datasets import dataset_info, load_dataset
from ferd_eval.datasets.registry import DATASETS

RNG = np.random.default_rng(0)


def torchvision_sets():
    return pytest.importorskip("torchvision.datasets", exc_type=ImportError)


# CIFAR-10.1


@pytest.mark.parametrize(("name", "version"), [("cifar10.1", "v6"), ("cifar10.1-v4", "v4")])
def test_cifar101(tmp_path, refused, name, version):
    pixels = RNG.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)
    folder = tmp_path / "CIFAR-10.1" / "datasets"
    folder.mkdir(parents=True)
    np.save(folder / f"cifar10.1_{version}_data.npy", pixels)
    np.save(folder / f"cifar10.1_{version}_labels.npy", np.array([9, 0, 1, 2, 3], np.int32))
    data = load_dataset(name, tmp_path)
    assert (data.images_NCHW.transpose(0, 2, 3, 1) == pixels).all()
    assert data.labels_N.tolist() == [9, 0, 1, 2, 3]
    assert data.class_names == dataset_info("cifar10").class_names
    with refused(f"{name} has no train images"):
        load_dataset(name, tmp_path, split="train")
    with refused("its own classes"):
        load_dataset(name, tmp_path, classes="a,b")
    np.save(folder / f"cifar10.1_{version}_data.npy", pixels[:, :28, :28])
    with refused("(5, 3, 28, 28)", "32 × 32 × 3"):
        load_dataset(name, tmp_path)
    (folder / f"cifar10.1_{version}_labels.npy").unlink()
    with refused("labels.npy does not exist"):
        load_dataset(name, tmp_path)


# SVHN

DIGITS = np.array([1, 10, 9, 2])
STREET = RNG.integers(0, 256, (32, 32, 3, 4), dtype=np.uint8)


def svhn(folder, name="test_32x32.mat", packed=True, **variables):
    variables = {"X": STREET, "y": DIGITS[:, None].astype(np.uint8), **variables}
    kept = {key: value for key, value in variables.items() if value is not None}
    scipy.io.savemat(folder / name, kept, do_compression=packed)


@pytest.mark.parametrize("packed", [True, False])
def test_svhn_is_as_torchvision_reads_it(packed, tmp_path, monkeypatch):
    svhn(tmp_path, packed=packed, long_name_of_another_variable=np.eye(2), t="text")
    svhn(tmp_path, "train_32x32.mat", packed, X=STREET[..., :2], y=DIGITS[:2, None] * 1.0)
    sets = torchvision_sets()
    monkeypatch.setattr(sets.SVHN, "_check_integrity", lambda self: True)
    for split in ("test", "train"):
        ours, theirs = load_dataset("svhn", tmp_path, split=split), sets.SVHN(tmp_path, split=split)
        assert (ours.images_NCHW == theirs.data).all()
        assert ours.labels_N.tolist() == theirs.labels.tolist()
    assert load_dataset("svhn", tmp_path).labels_N.tolist() == [1, 0, 9, 2]
    assert dataset_info("svhn").class_names[0] == "0"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"y": np.array([[0], [1], [2], [3]])}, "label 0 in record 0"),
        ({"y": np.array([[1], [1.5], [2], [3]])}, "label 1.5 in record 1"),
        ({"y": np.array([[1], [np.nan], [2], [3]])}, "label nan"),
        ({"y": np.array([[1], [11], [2], [3]])}, "label 11 in record 1"),
        ({"y": DIGITS[:3]}, "3 labels"),
        ({"X": STREET[:28]}, "(28, 32, 3, 4)"),
        ({"X": STREET * 1.0}, "float64"),
        ({"X": None}, "no X"),
        ({"X": {"a": 1}}, "X is a struct"),
        ({"X": np.array([STREET, "x"], dtype=object)}, "X is a cell"),
    ],
)
def test_svhn_that_is_none(tmp_path, refused, variables, said):
    svhn(tmp_path, **variables)
    with refused(said, tmp_path / "test_32x32.mat"):
        load_dataset("svhn", tmp_path)


def test_svhn_that_is_cut_short_or_a_bomb(tmp_path, refused):
    svhn(tmp_path)
    file = tmp_path / "test_32x32.mat"
    whole = file.read_bytes()
    for content in (b"", whole[:100], whole[:2000], b"\0" * 200):
        file.write_bytes(content)
        with refused("no MATLAB file of SVHN", "fetch it again"):
            load_dataset("svhn", tmp_path)
    svhn(tmp_path, X=np.zeros((32, 32, 3, 6000), np.uint8))
    assert file.stat().st_size < 100_000
    with refused("values in a file of"):
        load_dataset("svhn", tmp_path)


# STL-10


def test_stl10_is_as_torchvision_reads_it(tmp_path, monkeypatch, refused):
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    pixels = RNG.integers(0, 256, 3 * 3 * 96 * 96, dtype=np.uint8)
    for split, count in (("test", 3), ("train", 2)):
        (folder / f"{split}_X.bin").write_bytes(pixels[: count * 27648].tobytes())
        (folder / f"{split}_y.bin").write_bytes(bytes([10, 1, 4][:count]))
    (folder / "class_names.txt").write_text("\n".join(DATASETS["stl10"].class_names))
    sets = torchvision_sets()
    monkeypatch.setattr(sets.STL10, "_check_integrity", lambda self: True)
    for split in ("test", "train"):
        ours, theirs = load_dataset("stl10", tmp_path, split=split), sets.STL10(tmp_path, split)
        assert (ours.images_NCHW == theirs.data).all()
        assert ours.labels_N.tolist() == theirs.labels.tolist()
    assert load_dataset("stl10", tmp_path).labels_N.tolist() == [9, 0, 3]
    (folder / "test_y.bin").write_bytes(bytes([10, 0, 4]))
    with refused("label 0 in record 1"):
        load_dataset("stl10", tmp_path)
    (folder / "test_X.bin").write_bytes(b"short")
    with refused("5 bytes", "82944"):
        load_dataset("stl10", tmp_path)
    (folder / "test_X.bin").unlink()
    with refused("lacks test_X.bin"):
        load_dataset("stl10", tmp_path)


# GTSRB


def gtsrb(root):
    """As torchvision unpacks it."""
    images = root / "gtsrb" / "GTSRB" / "Final_Test" / "Images"
    images.mkdir(parents=True)
    rows = []
    for i, (side, label) in enumerate(((15, 42), (32, 0), (61, 7))):
        pixels = RNG.integers(0, 256, (side, side + 3, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{i:05}.ppm")
        rows.append((f"{i:05}.ppm", side + 3, side, 1, 1, 2, 2, label))
    for label in range(43):
        place = root / "gtsrb" / "GTSRB" / "Training" / f"{label:05}"
        place.mkdir(parents=True)
        pixels = RNG.integers(0, 256, (15 + label, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "00000_00000.ppm")
    answers(root / "gtsrb", rows)
    return root / "gtsrb" / "GT-final_test.csv"


def answers(folder, rows):
    columns = ("Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")
    with (folder / "GT-final_test.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow((*columns, "ClassId"))
        writer.writerows(rows)


@pytest.mark.parametrize("split", ["test", "train"])
def test_gtsrb_is_as_torchvision_reads_and_resizes_it(tmp_path, split):
    gtsrb(tmp_path)
    sets = torchvision_sets()
    from torchvision.transforms import Resize

    theirs = sets.GTSRB(tmp_path, split=split, transform=Resize((32, 32)))
    ours = load_dataset("gtsrb", tmp_path, split=split)
    assert len(ours) == len(theirs) == (3 if split == "test" else 43)
    for pixels_CHW, label, (image, expected) in zip(
        ours.images_NCHW, ours.labels_N, theirs, strict=True
    ):
        assert (pixels_CHW.transpose(1, 2, 0) == np.asarray(image)).all()
        assert label == expected
    assert "resized to 32 × 32" in ours.note
    names = ours.class_names
    assert (names[14], names[13], names[0], names[42]) == (
        "stop", "yield", "speed limit 20", "end of no passing for trucks",
    )  # fmt: skip


def test_gtsrb_that_is_none(tmp_path, refused):
    file = gtsrb(tmp_path)
    answers(file.parent, [("00000.ppm", 1, 1, 1, 1, 1, 1, 43)])
    with refused("class 43", "0 to 42"):
        load_dataset("gtsrb", tmp_path)
    for name, label in (("../../x.ppm", 1), ("00000.ppm", "x"), ("00000.ppm", "9" * 5000)):
        answers(file.parent, [(name, 1, 1, 1, 1, 1, 1, label)])
        with refused("expected are a file name and a number"):
            load_dataset("gtsrb", tmp_path)
    file.write_text("a,b\n1,2\n")
    with refused("no columns Filename"):
        load_dataset("gtsrb", tmp_path)
    file.unlink()
    with refused("lacks GT-final_test.csv", "GTSRB_Final_Test_GT.zip"):
        load_dataset("gtsrb", tmp_path)


# MedMNIST


@pytest.mark.parametrize("channels", [(), (3,)])
def test_medmnist(tmp_path, refused, channels):
    sizes = {"train": 4, "val": 3, "test": 2}
    arrays = {}
    for split, count in sizes.items():
        shape = (count, 28, 28, *channels)
        arrays[f"{split}_images"] = RNG.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.arange(count, dtype=np.uint8)[::-1, None]
    np.savez_compressed(tmp_path / "pathmnist.npz", **arrays)
    for split in ("test", "train"):
        spec = f"npz:{tmp_path / 'pathmnist.npz'}"
        data = load_dataset(spec, split=split, classes="a,b,c,d")
        theirs = arrays[f"{split}_images"].reshape(sizes[split], 28, 28, -1)
        assert (data.images_NCHW.transpose(0, 2, 3, 1) == theirs).all()
        assert data.labels_N.tolist() == [*range(sizes[split])][::-1]
        assert data.class_names == tuple("abcd")
    several = {**arrays, "test_labels": np.eye(14, dtype=np.uint8)[:2]}
    np.savez(tmp_path / "chestmnist.npz", **several)
    with refused("(2, 14)", "several classes at once"):
        load_dataset(f"npz:{tmp_path / 'chestmnist.npz'}")


@pytest.mark.parametrize("name", ["svhn", "stl10", "gtsrb", "cifar10.1"])
def test_where_they_are_looked_for_is_said(tmp_path, refused, name):
    with refused(f"no {name} test files", tmp_path):
        load_dataset(name, tmp_path)


@pytest.mark.parametrize(("name", "downloader"), [("svhn", "SVHN"), ("stl10", "STL10")])
def test_download_asks_for_the_split(tmp_path, monkeypatch, refused, name, downloader):
    asked = []
    monkeypatch.setattr(torchvision_sets(), downloader, lambda **words: asked.append(words))
    with refused(f"no {name} test files"):
        load_dataset(name, tmp_path, download=True)
    assert asked == [{"root": str(tmp_path), "download": True, "split": "test"}]
