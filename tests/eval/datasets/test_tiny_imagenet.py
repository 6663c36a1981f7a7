import gzip
from io import BytesIO
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from ferd_eval.datasets import load_dataset

WNIDS = ("n02124075", "n01443537", "n04067472")  # not in sorted order, as in wnids.txt
SORTED = sorted(WNIDS)


def save_image(path, seed, mode="RGB", side=64):
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (side, side, 3) if mode == "RGB" else (side, side)
    noise = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(noise).save(path, "JPEG")


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tiny-imagenet-200"
    for i in range(4):
        mode = "L" if i == 1 else "RGB"
        save_image(root / "val" / "images" / f"val_{i}.JPEG", i, mode)
    rows = [f"val_{i}.JPEG\t{w}\t0\t0\t62\t62\n" for i, w in enumerate((*WNIDS, WNIDS[0]))]
    (root / "val" / "val_annotations.txt").write_text("".join(rows))
    for i, wnid in enumerate(WNIDS):
        for j in (10, 2):
            save_image(root / "train" / wnid / "images" / f"{wnid}_{j}.JPEG", 10 * i + j)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("0 0 1 1\n")
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    words = "n00000001\tentity\nn01443537\tgoldfish, Carassius\nn02124075\tcat\nn04067472\tcat\n"
    (root / "words.txt").write_text(words)
    return root


def test_validation_images_in_annotation_order_with_sorted_classes(tree):
    images = load_dataset("tiny-imagenet", tree.parent)
    assert images.labels_N.tolist() == [SORTED.index(w) for w in (*WNIDS, WNIDS[0])]
    assert images.class_names == ("goldfish", "cat (n02124075)", "cat (n04067472)")
    assert images.images_NCHW.shape == (4, 3, 64, 64)
    grey = images.images_NCHW[1]
    assert (grey[0] == grey[1]).all()
    assert (grey[0] == np.asarray(Image.open(tree / "val/images/val_1.JPEG"))).all()


def test_training_images_agree_with_image_folder(tree):
    datasets = pytest.importorskip("torchvision.datasets")
    theirs = datasets.ImageFolder(str(tree / "train"))
    ours = load_dataset("tiny-imagenet", tree.parent, split="train")
    assert ours.labels_N.tolist() == theirs.targets
    for (image, _), pixels_CHW in zip(theirs, ours.images_NCHW, strict=True):
        assert (np.asarray(image) == pixels_CHW.transpose(1, 2, 0)).all()


PLACES = ["val/{wnid}/images/{name}", "val/{wnid}/{name}", "val/images/{wnid}/{name}"]


def move(tree, place, wanted=range(4), copy=False):
    """Sort validation images into folders of their classes."""
    for i, wnid in enumerate((*WNIDS, WNIDS[0])):
        if i in wanted:
            source = tree / "val" / "images" / f"val_{i}.JPEG"
            target = tree / place.format(wnid=wnid, name=source.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
            if not copy:
                source.unlink()


@pytest.mark.parametrize("copy", [False, True])
@pytest.mark.parametrize("place", PLACES)
def test_validation_images_in_class_folders_beside_their_list(tree, place, copy):
    published = load_dataset("tiny-imagenet", tree)
    move(tree, place, copy=copy)
    assert load_dataset("tiny-imagenet", tree).fingerprint == published.fingerprint


@pytest.mark.parametrize("place", PLACES)
def test_validation_images_in_class_folders_without_their_list(tree, place):
    published = load_dataset("tiny-imagenet", tree)
    (tree / "val" / "val_annotations.txt").unlink()
    move(tree, place, copy=place == PLACES[0])
    images = load_dataset("tiny-imagenet", tree)
    order = np.argsort(published.labels_N, kind="stable")
    assert (images.labels_N == published.labels_N[order]).all()
    assert (images.images_NCHW == published.images_NCHW[order]).all()


@pytest.mark.parametrize("place", PLACES)
def test_images_that_are_half_moved_are_refused(tree, refused, place):
    move(tree, place, wanted=(0, 2))
    with refused("lists 4", "2 lie in", "first val_1.JPEG of n01443537", "2 lie in images/"):
        load_dataset("tiny-imagenet", tree)
    (tree / "val" / "val_annotations.txt").unlink()
    with refused("val/images holds 2 images", "val_1.JPEG", "no list"):
        load_dataset("tiny-imagenet", tree)


def test_an_image_in_the_folder_of_another_class_is_refused(tree, refused):
    move(tree, PLACES[1])
    (tree / "val" / WNIDS[1] / "val_1.JPEG").rename(tree / "val" / WNIDS[0] / "val_1.JPEG")
    with refused("3 lie in", "1 do not", f"val_1.JPEG of {WNIDS[1]}"):
        load_dataset("tiny-imagenet", tree)


def test_lists_may_be_absent_or_packed(tree):
    (tree / "words.txt").unlink()
    listed = (tree / "wnids.txt").read_bytes()
    (tree / "wnids.txt").unlink()
    assert load_dataset("tiny-imagenet", tree).class_names == tuple(SORTED)
    (tree / "wnids.txt.gz").write_bytes(gzip.compress(listed + b"n09999999\n"))
    assert load_dataset("tiny-imagenet", tree).class_names == (*SORTED, "n09999999")


def test_reads_the_real_images(tmp_path, shared_data):
    packed = np.load(shared_data / "tiny_imagenet_subset.npz")
    wnids, labels = packed["wnids"].tolist(), packed["val_labels"][:40]
    blob = packed["val_jpeg"]
    folder = tmp_path / "val" / "images"
    folder.mkdir(parents=True)
    oracle = []
    for i, (a, b) in enumerate(pairwise(packed["val_offsets"][:41])):
        jpeg = blob[a:b].tobytes()
        (folder / f"val_{i}.JPEG").write_bytes(jpeg)
        oracle.append(np.asarray(Image.open(BytesIO(jpeg)).convert("RGB")))
    rows = [f"val_{i}.JPEG\t{wnids[y]}\t0\t0\t62\t62\n" for i, y in enumerate(labels)]
    (tmp_path / "val" / "val_annotations.txt").write_text("".join(rows))
    (tmp_path / "wnids.txt").write_text("\n".join(wnids))
    images = load_dataset("tiny-imagenet", tmp_path)
    assert (images.images_NCHW.transpose(0, 2, 3, 1) == np.stack(oracle)).all()
    assert images.num_classes == 200
    assert [sorted(wnids)[y] for y in images.labels_N] == [wnids[y] for y in labels]


def test_damage_is_refused(tree, refused):
    image = tree / "val" / "images" / "val_2.JPEG"
    whole = image.read_bytes()
    image.write_bytes(whole[:500])
    with refused("cannot read", image):
        load_dataset("tiny-imagenet", tree)
    image.write_bytes(b"no image")
    with refused("cannot read", image):
        load_dataset("tiny-imagenet", tree)
    save_image(image, 0, side=32)
    with refused(image, "32 x 32", "64 x 64", "folder:PATH"):
        load_dataset("tiny-imagenet", tree)
    image.unlink()
    with refused("cannot read", image, "No such file"):
        load_dataset("tiny-imagenet", tree)


def test_lists_that_do_not_fit_are_refused(tree, refused):
    (tree / "wnids.txt").write_text("n01443537\nn02124075\n")
    with refused("val_2.JPEG", "n04067472", "not among the 2", "wnids.txt", "unpack"):
        load_dataset("tiny-imagenet", tree)
    annotations = tree / "val" / "val_annotations.txt"
    for line in ("val_0.JPEG", "../secret.JPEG\tn01443537", "val_0.JPEG\tgoldfish"):
        annotations.write_text(f"val_1.JPEG\tn01443537\n{line}\n")
        with refused(annotations, "line 2", repr(line), "a tab and a WordNet id"):
            load_dataset("tiny-imagenet", tree)
    annotations.write_text("")
    with refused(tree, "no test images", "http://cs231n.stanford.edu/tiny-imagenet-200.zip"):
        load_dataset("tiny-imagenet", tree)
