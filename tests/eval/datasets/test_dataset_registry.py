import builtins
import gzip
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from ferd_eval.datasets import dataset_info, list_datasets, load_dataset

RECORD = bytes([3]) + bytes(3072)
PUBLIC = ("cifar10", "cifar100", "tiny-imagenet", "fashion-mnist", "mnist")
MORE = ("cifar10.1", "cifar10.1-v4", "svhn", "stl10", "gtsrb")
OWN = ("cifar10-c", "cifar100-c", "imagenet-c", "folder", "npz", "npy", "hf")


def put(path, content=RECORD):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def put_idx(folder):
    put(
        folder / "t10k-images-idx3-ubyte",
        bytes((0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 28, 0, 0, 0, 28)) + bytes(784),
    )
    put(folder / "t10k-labels-idx1-ubyte", bytes((0, 0, 8, 1, 0, 0, 0, 1, 3)))


def test_facts():
    facts = {info.name: info for info in list_datasets()}
    assert list(facts) == [*PUBLIC, *MORE, *OWN, "demo"]
    eps = {name: float(info.default_eps) for name, info in facts.items()}
    grey = {"fashion-mnist": 0.1, "mnist": 0.3, "demo": 0.1}
    assert eps == {name: grey.get(name, 8 / 255) for name in facts}
    assert all(info.title and info.licence and info.layout for info in facts.values())
    demo = load_dataset("demo")
    assert (demo.num_classes, demo.image_shape) == (
        facts["demo"].num_classes,
        facts["demo"].image_shape,
    )


def test_info_of_a_spec():
    assert dataset_info("cifar100").num_classes == 100
    assert dataset_info("folder:/somewhere").name == "folder"


def test_names_and_paths(refused, tmp_path):
    with refused("'cifar1O'", "Did you mean cifar10?"):
        load_dataset("cifar1O")
    with refused("'Fashion_MNIST'", "Did you mean fashion-mnist?"):
        dataset_info("Fashion_MNIST")
    with refused("'usps'", "cifar10, cifar100, tiny-imagenet", "demo"):
        load_dataset("usps")
    with refused("Did you mean npz:mine.npz?"):
        load_dataset("mine.npz")
    with refused(f"Did you mean folder:{tmp_path}?"):
        load_dataset(str(tmp_path))
    for name in ("folder", "npz", "npz:"):
        with refused("needs a path", ":PATH"):
            load_dataset(name)
    with refused("cifar10 takes no path", "--data-dir /data"):
        load_dataset("cifar10:/data")
    with refused("no split 'tset'", "Did you mean test?"):
        load_dataset("demo", split="tset")


def test_data_dir_comes_before_environment_before_default(tmp_path, monkeypatch):
    for i, name in enumerate(("given", "environment", "data")):
        put(tmp_path / name / "test_batch.bin", bytes([i]) + bytes(3072))
    assert load_dataset("cifar10").labels_N.tolist() == [2]
    monkeypatch.setenv("FERD_DATA", str(tmp_path / "environment"))
    assert load_dataset("cifar10").labels_N.tolist() == [1]
    assert load_dataset("cifar10", tmp_path / "given").labels_N.tolist() == [0]


def test_the_default_has_a_folder_for_each_set(tmp_path):
    put(tmp_path / "data" / "cifar10" / "test_batch.bin")
    assert load_dataset("cifar10").source == str(Path("data/cifar10"))


def test_nothing_else_is_looked_at(tmp_path, monkeypatch, refused):
    put(tmp_path / "data" / "test_batch.bin")
    monkeypatch.setenv("FERD_DATA", str(tmp_path / "empty"))
    with refused(tmp_path / "empty", "FERD_DATA", "does not exist"):
        load_dataset("cifar10")
    with refused("--data-dir", "does not exist"):
        load_dataset("cifar10", tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "places", "step"),
    [
        ("cifar10", ["", "cifar-10-batches-bin", "cifar-10-batches-py", "cifar10"], "--download"),
        ("cifar100", ["", "cifar-100-binary", "cifar100/cifar-100-python"], "--download"),
        ("mnist", ["", "MNIST/raw", "raw", "mnist/MNIST/raw", "mnist"], "--download"),
        ("fashion-mnist", ["", "FashionMNIST/raw", "fashion-mnist"], "--download"),
        (
            "tiny-imagenet",
            ["", "tiny-imagenet-200"],
            "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        ),
    ],
)
def test_a_missing_set_lists_every_place(tmp_path, refused, name, places, step):
    with refused(f"no {name} test files", "--data-dir DIR", step, *(tmp_path / p for p in places)):
        load_dataset(name, tmp_path)


def test_another_set_is_recognised(tmp_path, refused):
    put(tmp_path / "a" / "cifar-10-batches-bin" / "test_batch.bin")
    with refused(
        tmp_path / "a" / "cifar-10-batches-bin", "holds cifar10:", "--dataset cifar10 meant?"
    ):
        load_dataset("cifar100", tmp_path / "a")
    put_idx(tmp_path / "b" / "FashionMNIST" / "raw")
    with refused("holds fashion-mnist:", "--dataset fashion-mnist"):
        load_dataset("mnist", tmp_path / "b")
    put_idx(tmp_path / "c")
    with refused("holds fashion-mnist or mnist"):
        load_dataset("cifar10", tmp_path / "c")


def test_the_other_split_is_recognised(tmp_path, refused):
    put(tmp_path / "data_batch_1.bin")
    with refused(tmp_path, "only the train files", "put the test ones beside them"):
        load_dataset("cifar10", tmp_path)


def test_a_packed_archive_is_recognised(tmp_path, refused):
    for name, archive in (
        ("cifar10", "cifar-10-python.tar.gz"),
        ("tiny-imagenet", "tiny-imagenet-200.zip"),
    ):
        put(tmp_path / archive)
        with refused(tmp_path / archive, "packed", f"unpack it in {tmp_path}"):
            load_dataset(name, tmp_path)


def test_a_folder_named_like_a_file_is_none(tmp_path, refused):
    (tmp_path / "test").mkdir()
    with refused("no cifar100 test files"):
        load_dataset("cifar100", tmp_path)


def test_an_unreadable_file(tmp_path, refused, monkeypatch):
    put(tmp_path / "test_batch.bin")
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "No")))
    with refused("cannot read", tmp_path / "test_batch.bin", "No"):
        load_dataset("cifar10", tmp_path)


class FakeSource(types.ModuleType):
    """``torchvision.datasets``, which notes what it is asked and writes what a test says."""

    def __init__(self, effect):
        super().__init__("torchvision.datasets")
        self.calls = []
        for name in ("CIFAR10", "CIFAR100", "MNIST", "FashionMNIST"):

            def fetch(name=name, **arguments):
                self.calls.append((name, arguments))
                print("Downloading")
                effect(Path(arguments["root"]))

            setattr(self, name, fetch)


@pytest.fixture
def source(monkeypatch):
    def install(effect):
        fake = FakeSource(effect)
        parent = types.ModuleType("torchvision")
        parent.datasets = fake
        monkeypatch.setitem(sys.modules, "torchvision", parent)
        monkeypatch.setitem(sys.modules, "torchvision.datasets", fake)
        return fake

    return install


@pytest.mark.parametrize(
    ("name", "downloader", "file"),
    [
        ("cifar10", "CIFAR10", "cifar-10-batches-bin/test_batch.bin"),
        ("cifar100", "CIFAR100", "cifar-100-binary/test.bin"),
        ("mnist", "MNIST", "MNIST/raw"),
        ("fashion-mnist", "FashionMNIST", "FashionMNIST/raw"),
    ],
)
def test_downloads_what_is_missing_once(tmp_path, source, capsys, name, downloader, file):
    def effect(root):
        if file.endswith("raw"):
            put_idx(root / file)
        else:
            put(root / file, bytes([3]) + RECORD if name == "cifar100" else RECORD)

    fake = source(effect)
    target = tmp_path / "new"
    for _ in range(2):
        assert load_dataset(name, target, download=True).labels_N.tolist() == [3]
    assert fake.calls == [(downloader, {"root": str(target), "train": False, "download": True})]
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "Downloading\n")


def test_downloads_the_split_asked_for(tmp_path, source):
    fake = source(lambda root: [put(root / f"data_batch_{i}.bin") for i in range(1, 6)])
    assert len(load_dataset("cifar10", tmp_path, split="train", download=True)) == 5
    assert fake.calls[0][1]["train"] is True


def test_downloads_nothing_unasked(tmp_path, source, refused):
    fake = source(lambda root: None)
    with refused("no cifar10"):
        load_dataset("cifar10", tmp_path)
    assert fake.calls == []


def test_a_download_that_fails(tmp_path, source, refused):
    def offline(root):
        raise OSError("<urlopen error\nno route>")

    source(offline)
    with refused("could not download cifar10", tmp_path, "<urlopen error no route>", "by hand"):
        load_dataset("cifar10", tmp_path, download=True)
    source(lambda root: None)
    with refused("no cifar10 test files"):
        load_dataset("cifar10", tmp_path, download=True)


def test_download_without_a_downloader(tmp_path, refused):
    with refused("http://cs231n.stanford.edu/tiny-imagenet-200.zip", f"unpack it into {tmp_path}"):
        load_dataset("tiny-imagenet", tmp_path, download=True)


def test_download_without_torchvision(tmp_path, refused, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name.startswith("torchvision"):
            raise ImportError("No module named 'torchvision'")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with refused("needs torchvision", "No module named", "install", "cifar-10-binary.tar.gz"):
        load_dataset("cifar10", tmp_path, download=True)


def test_imports_no_torch():
    code = (
        "import sys; from ferd_eval.datasets import load_dataset; load_dataset('demo');"
        "sys.exit(any(m in sys.modules for m in ('torch', 'torchvision', 'pandas')))"
    )
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


def test_every_set_is_what_its_facts_say(tmp_path):
    put(tmp_path / "cifar-10-batches-bin" / "test_batch.bin.gz", gzip.compress(RECORD))
    put(tmp_path / "cifar-100-binary" / "test.bin", bytes([3]) + RECORD)
    put_idx(tmp_path / "MNIST" / "raw")
    put_idx(tmp_path / "FashionMNIST" / "raw")
    for name in ("cifar10", "cifar100", "mnist", "fashion-mnist"):
        images, info = load_dataset(name, tmp_path), dataset_info(name)
        assert images.num_classes == info.num_classes
        assert images.image_shape == info.image_shape
        assert images.class_names == info.class_names
        assert images.images_NCHW.dtype == np.uint8
