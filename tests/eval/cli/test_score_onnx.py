"""``ferd-eval score net.onnx``: what works without gradients, and what is said of the rest."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ferd_eval.datasets import load_dataset
from tests.onnx_files import random_linear

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    weight_KD, bias_K, model = random_linear(10, (1, 28, 28))
    file = tmp_path_factory.mktemp("onnx") / "net.onnx"
    file.write_bytes(model.SerializeToString())
    return file, weight_KD, bias_K


def test_clean_accuracy_is_that_of_the_formula(net, tmp_path, run_command):
    file, weight_KD, bias_K = net
    data = load_dataset("demo").first(50)
    status, out, err = run_command(
        "score", file, "--dataset", "demo", "--limit", 50, "--attacks", "clean",
        "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert status == 0, err
    logits_NK = data.images_NCHW.reshape(50, -1) / 255 @ weight_KD.T + bias_K
    expected = np.mean(logits_NK.argmax(1) == data.labels_N)
    assert json.loads(out)["attacks"]["clean"]["average"] == pytest.approx(expected)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["checkpoint"]["format"] == "onnx"


@pytest.mark.parametrize(
    ("attacks", "refused"),
    [([], "fgsm, pgd, cw and aa"), (["--attacks", "square,apgd-ce"], "apgd-ce")],
)
def test_attacks_that_need_gradients_are_named_with_those_that_work(
    net, tmp_path, run_command, attacks, refused
):
    status, _, err = run_command(
        "score", net[0], "--dataset", "demo", *attacks, "--out", tmp_path / "run"
    )
    assert status == 2
    (line,) = err.splitlines()
    assert f"net.onnx: {refused} need gradients" in line
    assert "--attacks clean,square" in line
    assert "ferd-eval import" in line
    assert not (tmp_path / "run").exists()


def test_float64_is_refused(net, tmp_path, run_command):
    status, _, err = run_command(
        "score", net[0], "--dataset", "demo", "--attacks", "clean", "--precision", "float64",
        "--out", tmp_path,
    )  # fmt: skip
    assert status == 2
    assert "leave --precision float64 out" in err


def test_images_of_another_network_are_judged_by_it(net, tmp_path, run_command):
    file, weight_KD, bias_K = net
    data = load_dataset("demo").first(30)
    rng = np.random.default_rng(0)
    clean = data.images_NCHW.astype(np.float32) / 255
    moved = np.clip(clean + rng.choice([-0.1, 0.1], clean.shape), 0, 1).astype(np.float32)
    np.savez(tmp_path / "pgd.npz", images=moved)
    status, out, err = run_command(
        "import", tmp_path / "pgd.npz", "--attack", "pgd", "--checkpoint", file,
        "--dataset", "demo", "--eps", "0.1", "--out", tmp_path / "run", "--json",
    )  # fmt: skip
    assert status == 0, err
    expected = np.mean((moved.reshape(30, -1) @ weight_KD.T + bias_K).argmax(1) == data.labels_N)
    assert json.loads(out)["attacks"]["pgd"]["average"] == pytest.approx(expected)
