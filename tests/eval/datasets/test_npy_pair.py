import numpy as np
import pytest

from ferd_eval.datasets import load_dataset

PIXELS = np.random.default_rng(1).integers(0, 256, (3, 5, 6, 3), dtype=np.uint8)
LABELS = np.array([2, 0, 1])


@pytest.fixture
def load(tmp_path):
    def read(images=PIXELS, labels=LABELS, **more):
        np.save(tmp_path / "x.npy", images)
        np.save(tmp_path / "y.npy", labels)
        return load_dataset(f"npy:{tmp_path / 'x.npy'},{tmp_path / 'y.npy'}", **more)

    return read


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS.transpose(0, 3, 1, 2),
        np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2)),
        np.asfortranarray(PIXELS),
        PIXELS.astype(np.float32) / 255,
        PIXELS.astype(">f8") / 255,
    ],
)
def test_layouts_and_types(load, images):
    data = load(images)
    scale = 1 if images.dtype == np.uint8 else 255
    ours = data.images_NCHW
    assert ours.dtype == (np.uint8 if scale == 1 else np.float32)
    for i, y, x, c in np.ndindex(PIXELS.shape):
        assert round(float(ours[i, c, y, x]) * scale) == PIXELS[i, y, x, c]
    assert data.labels_N.tolist() == [2, 0, 1]
    assert data.class_names == ("0", "1", "2")
    assert data.name == "npy:x.npy"


def test_grey_images_and_a_class_list(load, refused):
    data = load(PIXELS[..., 0], LABELS[:, None].astype(np.uint8), classes="cat,dog,owl")
    assert data.image_shape == (1, 5, 6)
    assert data.class_names == ("cat", "dog", "owl")
    with refused("numbers already"):
        load(class_order="natural")


def test_the_files_are_not_changed(load, tmp_path):
    first = np.ascontiguousarray(PIXELS.transpose(0, 3, 1, 2))
    load(first).images_NCHW[:] = 0
    assert (np.load(tmp_path / "x.npy") == first).all()


def test_what_is_refused(load, tmp_path, refused):
    with refused("takes two files", "names 1", "npy:IMAGES.npy,LABELS.npy"):
        load_dataset(f"npy:{tmp_path / 'x.npy'}")
    with refused("does not exist", "a.npy"):
        load_dataset("npy:a.npy,b.npy")
    with refused("3 images", "2 labels"):
        load(labels=LABELS[:2])
    with refused("x.npy has floats from 0 to 255", "divide by 255"):
        load(PIXELS * 1.0)
    with refused("y.npy has type float64"):
        load(labels=LABELS * 1.0)
    with refused("x.npy has shape (3, 90)"):
        load(PIXELS.reshape(3, -1))
    with refused("x.npy cannot be read as an array", "objects in dtype"):
        load(PIXELS.astype(object))
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY\x01\0")
    with refused("x.npy cannot be read as an array"):
        load_dataset(f"npy:{tmp_path / 'x.npy'},{tmp_path / 'y.npy'}")
    with refused("Did you mean npy:x.npy"):
        load_dataset("x.npy")
