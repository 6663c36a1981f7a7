from dataclasses import replace

import numpy as np
import pytest

from ferd_eval.datasets import LabelledImages


def some_images(labels=(0, 1, 0, 2, 1, 0)) -> LabelledImages:
    n = len(labels)
    return LabelledImages(
        name="toy",
        images_NCHW=np.arange(n * 4, dtype=np.uint8).reshape(n, 1, 2, 2),
        labels_N=np.array(labels, dtype=np.int64),
        class_names=("a", "b", "c"),
        indices_N=np.arange(10, 10 + n, dtype=np.int64),
        source="memory",
        groupings={"kind": ("vowel", "consonant", "consonant")},
        note="made up",
    )


def test_first_keeps_file_order_and_everything_else():
    kept = some_images().first(2)
    assert kept.indices_N.tolist() == [10, 11]
    assert kept.labels_N.tolist() == [0, 1]
    assert (kept.images_NCHW == some_images().images_NCHW[:2]).all()
    assert (kept.note, kept.groupings) == ("made up", some_images().groupings)
    assert len(some_images().first(100)) == 6


def test_first_per_class_keeps_file_order():
    assert some_images().first_per_class(1).indices_N.tolist() == [10, 11, 13]
    assert some_images().first_per_class(2).indices_N.tolist() == [10, 11, 12, 13, 14]


def test_counts_and_shape():
    images = some_images((1, 1))
    assert images.class_counts.tolist() == [0, 2, 0]
    assert images.image_shape == (1, 2, 2)
    assert images.num_classes == 3


def test_fingerprint_tells_pixels_labels_positions_and_type_apart():
    one = some_images()
    others = [
        replace(one, images_NCHW=one.images_NCHW + np.uint8(1)),
        replace(one, images_NCHW=one.images_NCHW.reshape(6, 4, 1, 1)),
        replace(one, images_NCHW=one.images_NCHW.astype(np.float32)),
        replace(one, labels_N=one.labels_N[::-1].copy()),
        replace(one, indices_N=one.indices_N + 1),
    ]
    assert len({images.fingerprint for images in [one, *others]}) == 6
    assert replace(one, name="other", note="").fingerprint == one.fingerprint


def test_refuses_what_is_no_labelled_set(refused):
    with refused("toy", "memory", "no images", "give it some"):
        some_images(())
    with refused("labels from 0 to 3", "3 classes (0 to 2)", "correct the labels"):
        some_images((0, 3))
    with refused("1 class names more than once", "'a'", "its own name"):
        replace(some_images(), class_names=("a", "b", "a"))
    for count in (0, -5):
        with refused(f"first {count} images", "1 or more"):
            some_images().first(count)
        with refused(f"first {count} images", "1 or more"):
            some_images().first_per_class(count)


def test_arrays_of_another_kind_are_refused(refused):
    one = some_images()
    with refused("images_NCHW is uint8 of shape", "N×C×H×W"):
        replace(one, images_NCHW=one.images_NCHW[:, 0])
    with refused("2 indices", "one of each"):
        replace(one, indices_N=one.indices_N[:2])
    with refused("labels_N is int32", "int64"):
        replace(one, labels_N=one.labels_N.astype(np.int32))
    with pytest.raises(AssertionError):
        replace(one, groupings={"kind": ("vowel",)})
