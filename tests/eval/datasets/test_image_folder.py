import errno
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ferd_eval.datasets import load_dataset
from ferd_eval.datasets import pixel_buffer as pixel_room
from ferd_eval.datasets.image_folder import decode_images


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


def test_a_split_that_is_not_there(tmp_path, refused):
    save_image(tmp_path / "val" / "a" / "x.png")
    spec = f"folder:{tmp_path}"
    assert load_dataset(spec).source == str(tmp_path / "val")
    with refused(tmp_path, "has val", "no train", "train images"):
        load_dataset(spec, split="train")
    save_image(tmp_path / "bus" / "x.png")  # a class called val is no split
    assert load_dataset(spec).class_names == ("bus", "val")


@pytest.mark.parametrize("name", ["Ant", "peacock", "yak"])
def test_an_empty_folder_is_a_class_without_images(folder, name):
    before = load_dataset(f"folder:{folder}")
    (folder / name).mkdir()
    (folder / name / ".gitkeep").touch()
    (folder / name / "Thumbs.db").touch()
    images = load_dataset(f"folder:{folder}")
    assert images.class_names == tuple(sorted((*before.class_names, name)))
    assert images.class_counts[images.class_names.index(name)] == 0
    was, now = ([each.class_names[y] for y in each.labels_N] for each in (before, images))
    assert was == now
    assert (images.images_NCHW == before.images_NCHW).all()


def test_a_class_of_other_files_is_not_taken_for_empty(folder, refused):
    (folder / "yak").mkdir()
    (folder / "yak" / "photo.gif").write_bytes(b"GIF89a")
    with refused(folder / "yak", "photo.gif", "no image", "convert", "empty the folder"):
        load_dataset(f"folder:{folder}")


def test_what_programs_leave_behind_is_no_class_and_no_image(folder):
    before = load_dataset(f"folder:{folder}")
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "wren/.ipynb_checkpoints"):
        save_image(folder / name / "a-checkpoint.png")
    assert load_dataset(f"folder:{folder}").fingerprint == before.fingerprint


@pytest.fixture(params=["{}", "class_{}", "v1.{} b"])
def twelve(tmp_path, request):
    """Twelve class folders, the k-th with k + 1 images; their names in number order."""
    names = [request.param.format(k) for k in range(12)]
    for k, name in enumerate(names):
        for i in range(k + 1):
            save_image(tmp_path / "set" / name / f"{i}.png", 100 * k + i)
    return tmp_path / "set", names


def test_text_order_is_kept_and_warned_of_where_number_order_differs(twelve):
    datasets = pytest.importorskip("torchvision.datasets")
    root, names = twelve
    images = load_dataset(f"folder:{root}")
    theirs = datasets.ImageFolder(str(root))
    assert (list(images.class_names), images.labels_N.tolist()) == (theirs.classes, theirs.targets)
    (caution,) = images.cautions
    for said in (f"label 2 is '{names[10]}'", f"'{names[2]}'", "--class-order natural"):
        assert said in caution
    assert "text" in images.describe()["class_order"]
    chosen = load_dataset(f"folder:{root}", class_order="text")
    assert (chosen.cautions, chosen.fingerprint) == ((), images.fingerprint)


def test_natural_order_and_a_list_give_the_numbers(twelve, tmp_path):
    root, names = twelve
    by_text = load_dataset(f"folder:{root}")
    natural = load_dataset(f"folder:{root}", class_order="natural")
    assert natural.class_names == tuple(names)
    assert natural.class_counts.tolist() == list(range(1, 13))
    assert (natural.images_NCHW == by_text.images_NCHW).all()
    assert natural.fingerprint != by_text.fingerprint
    assert natural.cautions == ()
    (tmp_path / "names.txt").write_text("\ufeff" + "\r\n".join(names) + "\n\n", "utf-8")
    listed = load_dataset(f"folder:{root}", classes=str(tmp_path / "names.txt"))
    assert (listed.class_names, listed.fingerprint) == (natural.class_names, natural.fingerprint)
    assert "names.txt" in listed.describe()["class_order"]
    backwards = load_dataset(f"folder:{root}", classes=names[::-1])
    assert backwards.class_counts.tolist() == list(range(12, 0, -1))


@pytest.mark.parametrize("names", [["01", "02", "10"], ["n01440764", "n02102040"], ["a", "B", "c"]])
def test_no_warning_where_the_orders_agree(tmp_path, names):
    for seed, name in enumerate(names):
        save_image(tmp_path / name / "x.png", seed)
    assert load_dataset(f"folder:{tmp_path}").cautions == ()


def test_a_list_must_name_exactly_the_folders(folder, refused):
    spec = f"folder:{folder}"
    with refused("names 2 classes", "3 class folders", "not named: 'Crow'", "empty one"):
        load_dataset(spec, classes=("owl", "wren"))
    with refused("no folder for 'crow'", "not named: 'Crow'"):
        load_dataset(spec, classes="owl,crow,wren")
    with refused("--class-order is 'numbers'", "natural"):
        load_dataset(spec, class_order="numbers")
    with refused("--classes and --class-order", "one of them"):
        load_dataset(spec, classes="owl,Crow,wren", class_order="text")
    with refused("demo has its own classes", "--class-order"):
        load_dataset("demo", class_order="natural")


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
    (tmp_path / "nothing" / "a").mkdir(parents=True)
    with refused("nothing", "1 class folders", "no images", ".png"):
        load_dataset(f"folder:{tmp_path / 'nothing'}")


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
