"""``ferd-eval corruptions`` on a small CIFAR-10-C and a small ImageNet-C, from file to figures."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from ferd_eval import load_checkpoint
from ferd_eval.models import build_architecture, build_classifier, save_network

N = 8
LABELS = np.arange(N) % 4


def pixels(seed):
    return np.random.default_rng(seed).integers(0, 256, (5 * N, 32, 32, 3), dtype=np.uint8)


@pytest.fixture
def cifar(tmp_path):
    folder = tmp_path / "CIFAR-10-C"
    folder.mkdir()
    for seed, name in enumerate(("spatter", "fog", "shot_noise")):
        np.save(folder / f"{name}.npy", pixels(seed))
    np.save(folder / "labels.npy", np.tile(LABELS, 5))
    return folder


def network(path, num_classes=10, seed=0):
    arch = build_architecture("resnet8-w4", num_classes=num_classes, in_channels=3)
    torch.manual_seed(seed)
    save_network(path, arch.build(), arch, None)
    return path


def predicted(checkpoint, pixels_NHWC):
    model, _ = build_classifier(load_checkpoint(checkpoint))
    x_NCHW = torch.from_numpy(pixels_NHWC.transpose(0, 3, 1, 2).copy()).float() / 255
    with torch.no_grad():
        return model.eval()(x_NCHW).argmax(1).numpy()


def test_every_figure_is_that_of_the_network(run_command, tmp_path, cifar):
    checkpoint, out = network(tmp_path / "net.safetensors"), tmp_path / "out"
    words = ("corruptions", checkpoint, "--dataset", f"cifar10-c:{cifar}", "--out", out)
    status, printed, err = run_command(*words)
    assert status == 0, err
    record = json.loads((out / "corruptions.json").read_text())
    rows = list(csv.DictReader((out / "corruptions.csv").open()))
    assert len(rows) == 3 * 5 * 10
    wrong = {}
    for seed, name in enumerate(("spatter", "fog", "shot_noise")):
        for s in range(5):
            mine = predicted(checkpoint, pixels(seed)[s * N : (s + 1) * N])
            wrong[name, s] = float(np.mean(mine != LABELS))
            assert record["errors"][name][str(s + 1)] == pytest.approx(wrong[name, s])
            for row in rows:
                if (row["corruption"], row["severity"]) == (name, str(s + 1)):
                    k = ["airplane", "automobile", "bird", "cat"]
                    k = k.index(row["class"]) if row["class"] in k else 9
                    assert int(row["n"]) == int((k == LABELS).sum())
                    assert int(row["correct"]) == int(((mine == k) & (k == LABELS)).sum())
    of_two = np.mean([wrong[name, s] for name in ("fog", "shot_noise") for s in range(5)])
    assert record["mean_error"] == pytest.approx(of_two)
    assert record["mce"] is None
    assert "not normalised" in printed
    assert "Not the whole benchmark" in printed
    assert "not counted in any mean: spatter" in printed
    assert printed.endswith(f"{out / 'corruptions.md'}\n")
    assert f"{100 * of_two:.1f} %" in (out / "corruptions.md").read_text()


def test_the_same_command_continues_and_a_baseline_gives_the_mce(run_command, tmp_path, cifar):
    ours, theirs = network(tmp_path / "a.safetensors"), network(tmp_path / "b.safetensors", seed=3)
    outs = (tmp_path / "a", tmp_path / "b")
    for checkpoint, out in zip((ours, theirs), outs, strict=True):
        words = ("corruptions", checkpoint, "--dataset", f"cifar10-c:{cifar}", "--out", out)
        assert run_command(*words)[0] == 0
    before = {file: file.stat().st_mtime_ns for file in outs[0].glob("*/outcomes.parquet")}
    assert len(before) == 15
    words = ("corruptions", ours, "--dataset", f"cifar10-c:{cifar}", "--out", outs[0])
    status, printed, err = run_command(*words, "--baseline", outs[1], "--json")
    assert status == 0, err
    assert {file: file.stat().st_mtime_ns for file in before} == before
    record = json.loads(printed)
    a, b = (json.loads((out / "corruptions.json").read_text())["errors"] for out in outs)
    ratios = [sum(a[c].values()) / sum(b[c].values()) for c in ("shot_noise", "fog")]
    assert record["mce"] == pytest.approx(sum(ratios) / 2)
    assert record["baseline"] == "b"
    _, printed, _ = run_command(*words, "--baseline", outs[1])
    assert "mean corruption error over 2 of 15" in printed
    assert "of b's errors" in " ".join(printed.split())
    status, _, err = run_command(*words, "--baseline", "alexnet")
    assert (status, "ImageNet-C" in err) == (2, True)
    status, _, err = run_command(*words, "--baseline", tmp_path)
    assert (status, "cannot be read" in err) == (2, True)
    words = ("corruptions", theirs, "--dataset", f"cifar10-c:{cifar}", "--out", outs[0])
    assert run_command(*words)[0] == 2  # the folder holds another network's runs


def test_class_folders_in_the_order_of_a_list(run_command, tmp_path):
    folder = tmp_path / "C"
    for k, name in enumerate(("zebra", "ant", "<b>")):
        place = folder / "fog" / "2" / name
        place.mkdir(parents=True)
        for i in range(2):
            Image.fromarray(pixels(10 * k + i)[0]).save(place / f"{i}.png")
    checkpoint, out = network(tmp_path / "net.safetensors", num_classes=3), tmp_path / "out"
    words = ("corruptions", checkpoint, "--dataset", f"imagenet-c:{folder}", "--out", out)
    status, _, err = run_command(*words, "--classes", "zebra,ant,<b>")
    assert status == 0, err
    labels = np.repeat(np.arange(3), 2)
    images = np.stack([pixels(10 * k + i)[0] for k in range(3) for i in range(2)])
    wrong = np.mean(predicted(checkpoint, images) != labels)
    record = json.loads((out / "corruptions.json").read_text())
    assert record["errors"] == {"fog": {"2": pytest.approx(wrong)}}
    assert record["class_names"] == ["zebra", "ant", "<b>"]
    assert "<b>" not in (out / "corruptions.md").read_text().replace("`<b>`", "")


def test_what_is_refused(run_command, tmp_path, cifar):
    checkpoint = network(tmp_path / "net.safetensors")
    for dataset, said in (
        ("demo", "no corruptions"),
        (f"cifar10-c:{tmp_path}", "holds no corruption"),
        (f"cifar100-c:{cifar}", "100 classes"),
    ):
        status, _, err = run_command("corruptions", checkpoint, "--dataset", dataset)
        assert (status, len(err.splitlines())) == (2, 1)
        assert said in err
