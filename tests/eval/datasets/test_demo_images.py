import importlib.util
from importlib import resources
from pathlib import Path

import numpy as np

from ferd_eval.datasets import load_dataset

ROOT = Path(__file__).parents[3]


def test_is_a_hundred_of_each_class():
    demo = load_dataset("demo")
    assert demo.images_NCHW.shape == (1000, 1, 28, 28)
    assert demo.class_counts.tolist() == [100] * 10
    assert (np.diff(demo.indices_N) > 0).all()
    assert (demo.name, demo.source, demo.note) == ("demo", "package", "")
    assert demo.images_NCHW.flags.writeable


def test_equals_the_official_images(shared_data):
    demo = load_dataset("demo")
    official = load_dataset("fashion-mnist", shared_data / "fashion-mnist").first_per_class(100)
    assert (demo.images_NCHW == official.images_NCHW).all()
    assert (demo.labels_N == official.labels_N).all()
    assert (demo.indices_N == official.indices_N).all()
    assert demo.class_names == official.class_names
    assert demo.fingerprint == official.fingerprint


def test_the_script_makes_what_is_packaged(tmp_path, shared_data):
    path = ROOT / "scripts" / "make_demo_images.py"
    spec = importlib.util.spec_from_file_location("make_demo_images", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.make_demo_images(shared_data / "fashion-mnist", tmp_path)
    packaged = resources.files("ferd_eval.datasets.demo")
    made = (tmp_path / "positions.txt").read_bytes()
    assert made == packaged.joinpath("positions.txt").read_bytes()
    # The PNG's bytes depend on the zlib that packs them; what they unpack to is tested above.
    assert (tmp_path / "images.png").stat().st_size < 480_000


def test_is_small_and_licensed():
    packaged = resources.files("ferd_eval.datasets.demo")
    assert len(packaged.joinpath("images.png").read_bytes()) < 480_000
    licence = packaged.joinpath("LICENSE").read_text("utf-8")
    assert "MIT" in licence
    assert "Copyright (c) 2017 Zalando SE, https://tech.zalando.com" in licence


def test_has_no_training_images(refused):
    with refused("demo has no train split", "--dataset fashion-mnist"):
        load_dataset("demo", split="train")
