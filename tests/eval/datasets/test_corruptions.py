"""CIFAR-10-C, CIFAR-100-C and ImageNet-C in their published layouts, from files made here."""

import numpy as np
import pytest
from PIL import Image

from ferd_eval.datasets import dataset_info, load_dataset
from ferd_eval.datasets.corruptions import BENCHMARK, Cell

N = 12
RNG = np.random.default_rng(0)
LABELS = np.arange(N) % 10
PIXELS = {
    name: RNG.integers(0, 256, (5 * N, 32, 32, 3), dtype=np.uint8)
    for name in ("spatter", "fog", "gaussian_noise")
}


@pytest.fixture
def folder(tmp_path):
    """As published: an array a corruption, the five severities one after another."""
    made = tmp_path / "CIFAR-10-C"
    made.mkdir()
    for name, pixels in PIXELS.items():
        np.save(made / f"{name}.npy", pixels)
    np.save(made / "labels.npy", np.tile(LABELS, 5).astype(np.uint8))
    return made


@pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])
def test_each_severity_is_a_fifth_of_the_file(folder, severity):
    data = load_dataset(f"cifar10-c:{folder}/fog/{severity}")
    assert data.images_NCHW.shape == (N, 3, 32, 32)
    for i in range(N):
        for c in range(3):
            theirs = PIXELS["fog"][(severity - 1) * N + i, :, :, c]
            assert (data.images_NCHW[i, c] == theirs).all()
    assert data.labels_N.tolist() == LABELS.tolist()
    assert data.indices_N.tolist() == [*range(N)]
    assert data.name == f"cifar10-c:fog-{severity}"
    assert data.source == str(folder / "fog" / str(severity))
    assert data.class_names == dataset_info("cifar10").class_names


def test_only_the_cell_is_brought_into_memory(folder):
    assert load_dataset(f"cifar10-c:{folder}/fog/2").images_NCHW.base is None


def test_cifar100_has_its_names_and_superclasses(folder):
    np.save(folder / "labels.npy", np.tile(np.arange(N) + 88, 5))
    data = load_dataset(f"cifar100-c:{folder}/fog/5")
    plain = dataset_info("cifar100")
    assert (data.class_names, data.groupings) == (plain.class_names, plain.groupings)
    assert data.labels_N.tolist() == [*range(88, 100)]


def test_cells_are_in_the_papers_order_with_the_others_last(folder):
    cells = dataset_info(f"cifar10-c:{folder}").cells(folder)
    names = [*dict.fromkeys(cell.corruption for cell in cells)]
    assert names == ["gaussian_noise", "fog", "spatter"]
    assert [cell.severity for cell in cells[:5]] == [1, 2, 3, 4, 5]
    assert len(BENCHMARK) == len({*BENCHMARK}) == 15


def test_what_is_refused(folder, tmp_path, refused):
    with refused("names no severity", "DIR/CORRUPTION/SEVERITY", "ferd-eval corruptions"):
        load_dataset(f"cifar10-c:{folder}")
    with refused("names no severity"):
        load_dataset(f"cifar10-c:{folder}/fog/6")
    with refused(folder, "'fig'", "Did you mean fog?"):
        load_dataset(f"cifar10-c:{folder}/fig/3")
    with refused(tmp_path / "nowhere", "is no folder", "labels.npy"):
        load_dataset(f"cifar10-c:{tmp_path}/nowhere/fog/3")
    with refused(tmp_path, "holds no corruption"):
        load_dataset(f"cifar10-c:{tmp_path}/fog/3")
    with refused("test images only"):
        load_dataset(f"cifar10-c:{folder}/fog/3", split="train")
    with refused("its own classes", "npy:PATH"):
        load_dataset(f"cifar10-c:{folder}/fog/3", classes="a,b")


@pytest.mark.parametrize(
    ("labels", "pixels", "said"),
    [
        (np.tile(LABELS, 5)[:-1], PIXELS["fog"], "59 labels"),
        (np.tile(LABELS, 5), PIXELS["fog"][:-1], "(59, 32, 32, 3)"),
        (np.tile(LABELS, 5), PIXELS["fog"].astype(np.float32), "float32"),
        (np.tile(LABELS + 1, 5), PIXELS["fog"], "largest is 10"),
        (np.arange(60) % 7, PIXELS["fog"], "does not repeat"),
        (np.empty(0, int), PIXELS["fog"][:0], "0 labels"),
        (np.tile(LABELS, 5).astype(object), PIXELS["fog"], "objects in dtype"),
    ],
)
def test_damaged_files(folder, refused, labels, pixels, said):
    np.save(folder / "labels.npy", labels, allow_pickle=True)
    np.save(folder / "fog.npy", pixels)
    with refused(said, folder):
        load_dataset(f"cifar10-c:{folder}/fog/3")


@pytest.fixture
def imagenet_c(tmp_path):
    made = tmp_path / "ImageNet-C"
    for corruption, severities in (("fog", (1, 3)), ("saturate", (2,))):
        for severity in severities:
            for k, wnid in enumerate(("n02", "n01")):
                place = made / corruption / str(severity) / wnid
                place.mkdir(parents=True)
                pixels = np.full((8, 8, 3), 50 * k + severity, np.uint8)
                Image.fromarray(pixels).save(place / "val_1.png")
    return made


def test_imagenet_c_is_read_as_folders_are(imagenet_c):
    data = load_dataset(f"imagenet-c:{imagenet_c}/fog/3")
    assert data.name == "imagenet-c:fog-3"
    assert data.class_names == ("n01", "n02")
    assert data.images_NCHW[:, 0, 0, 0].tolist() == [53, 3]
    cells = dataset_info(f"imagenet-c:{imagenet_c}").cells(imagenet_c)
    assert cells == (Cell("fog", 1), Cell("fog", 3), Cell("saturate", 2))


def test_imagenet_c_takes_a_class_list(imagenet_c, refused):
    data = load_dataset(f"imagenet-c:{imagenet_c}/fog/3", classes="n02,n01")
    assert data.images_NCHW[:, 0, 0, 0].tolist() == [53, 3]
    assert data.labels_N.tolist() == [1, 0]
    with refused("severity 2 of fog"):
        load_dataset(f"imagenet-c:{imagenet_c}/fog/2")
