"""What classes are called where no image of the data set is looked at."""

from __future__ import annotations

import pytest

from ferd_eval.datasets.cifar import CIFAR10_CLASSES
from tests.train.student_runs import teacher_of, write_teacher


@pytest.mark.parametrize(
    ("dataset", "classes", "names"),
    [
        ("cifar10", 10, CIFAR10_CLASSES),
        ("cifar10", 3, ("0", "1", "2")),  # a name that means something else there
        ("tiny-imagenet", 3, ("0", "1", "2")),
        ("npz:/nowhere.npz", 3, ("0", "1", "2")),
        ("folder", 3, ("0", "1", "2")),
        ("my own", 3, ("0", "1", "2")),
        ("", 3, ("0", "1", "2")),
    ],
)
def test_names_are_those_of_the_data_set_that_the_teacher_names(dataset, classes, names, tmp_path):
    file = tmp_path / "teacher.safetensors"
    write_teacher(file, num_classes=classes, metadata={"ferd.dataset": dataset})
    assert teacher_of(file).class_names == names
