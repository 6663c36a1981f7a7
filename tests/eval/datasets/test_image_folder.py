import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ferd_eval.datasets import load_dataset, pixel_room
from ferd_eval.datasets.image_file import decode_images


def save_image(path, seed=0, size=(6, 4), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = len(Image.new(mode, (1, 1)).getbands())
    shape = (size[1], size[0], bands) if bands > 1 else (size[1], size[0])
    noise = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(noise, mode if bands > 1 else None).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "birds"
    save_image(root / "wren" / "b.png", 1)
    save_image(root / "wren" / "a.PNG", 2)
    save_image(root / "owl" / "deep" / "c.jpg", 3)
    save_image(root / "owl" / "grey.png", 4, mode="L")
    save_image(root / "Crow" / "alpha.png", 5, mode="RGBA")
    (root / "owl" / "notes.txt").write_text("not an image")
    (root / "owl" / ".hidden.png").write_bytes(b"")
    (root / ".cache").mkdir()
    (root / "readme.txt").write_text("not a class")
    return root


def test_agrees_with_torchvision(folder):
    datasets = pytest.importorskip("torchvision.datasets")
    (folder / "owl" / ".hidden.png").unlink()
    (folder / ".cache").rmdir()
    theirs = datasets.ImageFolder(str(folder))
    ours = load_dataset(f"folder:{folder}")
    assert list(ours.class_names) == theirs.classes == ["Crow", "owl", "wren"]
    assert ours.labels_N.tolist() == theirs.targets
    for (image, _), pixels_CHW in zip(theirs, ours.images_NCHW, strict=True):
        assert (np.asarray(image) == pixels_CHW.transpose(1, 2, 0)).all()


def test_facts(folder):
    images = load_dataset(f"folder:{folder}")
    assert (images.name, images.source) == ("folder:birds", str(folder))
    assert images.image_shape == (3, 4, 6)
    assert images.indices_N.tolist() == [0, 1, 2, 3, 4]
    assert images.class_counts.tolist() == [1, 2, 2]


def test_a_folder_of_splits(tmp_path):
    for seed, split in enumerate(("train", "val")):
        save_image(tmp_path / split / "a" / "x.png", seed)
    spec = f"folder:{tmp_path}"
    assert load_dataset(spec).source == str(tmp_path / "val")
    assert load_dataset(spec, split="train").source == str(tmp_path / "train")
    save_image(tmp_path / "test" / "a" / "x.png")
    assert load_dataset(spec).source == str(tmp_path / "test")


def test_sizes_must_agree(folder, refused):
    save_image(folder / "wren" / "z.png", size=(8, 4))
    first = folder / "Crow" / "alpha.png"
    with refused(folder / "wren" / "z.png", "8 x 4", first, "6 x 4", "resize them all"):
        load_dataset(f"folder:{folder}")


def test_folders_that_are_none(tmp_path, folder, refused):
    with refused(tmp_path / "nowhere", "does not exist", "folder:PATH"):
        load_dataset(f"folder:{tmp_path / 'nowhere'}")
    with refused("readme.txt", "is a file"):
        load_dataset(f"folder:{folder / 'readme.txt'}")
    with refused(folder / "wren", "no subfolders", "a folder of its own"):
        load_dataset(f"folder:{folder / 'wren'}")
    (folder / "empty").mkdir()
    with refused(folder / "empty", "no images", ".png", "remove it"):
        load_dataset(f"folder:{folder}")


def test_images_that_are_none(folder, refused):
    path = folder / "owl" / "grey.png"
    Image.fromarray(np.zeros((4, 6), np.uint16)).save(path)
    with refused(path, "more than 8 bits", "I;16", "npz"):
        load_dataset(f"folder:{folder}")
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 6 4\n")
    with refused("cannot read", path):
        load_dataset(f"folder:{folder}")


@pytest.mark.parametrize("size", [(5000, 5000), (20_000, 20_000)])
def test_a_decompression_bomb_is_not_decoded(folder, refused, size, recwarn):
    path = folder / "Crow" / "alpha.png"
    Image.new("1", size).save(path)
    with refused(path):
        load_dataset(f"folder:{folder}")


def test_more_than_the_disk(folder, refused, monkeypatch):
    def is_full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pixel_room, "IN_MEMORY", 100)
    monkeypatch.setattr("os.posix_fallocate", is_full)
    with refused("5 images of 6 x 4 pixels", "GiB", "No space left", "TMPDIR"):
        load_dataset(f"folder:{folder}")


@settings(max_examples=150, deadline=None)
@given(
    suffix=st.sampled_from(["png", "jpg", "bmp", "tif", "webp", "ppm"]),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    cut=st.integers(0, 100),
)
def test_mutated_images_are_read_or_refused(
    tmp_path_factory, read_or_refused, suffix, changes, cut
):
    path = tmp_path_factory.mktemp("image") / f"image.{suffix}"
    save_image(path)
    content = bytearray(path.read_bytes())
    for at, byte in changes:
        content[at % len(content)] = byte
    path.write_bytes(content[: len(content) - cut % 3 * 20])
    with read_or_refused():
        decode_images([path], size=(6, 4), advice="resize it.")
