"""``ferd-train export``: the same network in another file, or a refusal; every number again."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from ferd_eval.datasets import load_dataset
from ferd_eval.errors import UserError
from ferd_eval.models import Normalization, build_architecture, build_classifier, save_network
from ferd_train.cli import main
from ferd_train.export import formats
from ferd_train.export.check import Accuracy, Difference, adversarial
from ferd_train.export.command import _spread
from ferd_train.export.deployed import Deployed

NORMALIZATION = Normalization((0.25,), (0.5,))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A network of random weights with batch norms that do something, and a normalisation."""
    arch = build_architecture("resnet8-w4", num_classes=10, in_channels=1)
    torch.manual_seed(0)
    network = arch.build()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    file = tmp_path_factory.mktemp("export") / "student.safetensors"
    recipe = {"ferd.recipe": json.dumps({"eps": "0.05"})}
    save_network(file, network, arch, NORMALIZATION, recipe)
    return file


def call(capsys, *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as exit_:
        main(["export", *map(str, words)])
    captured = capsys.readouterr()
    return int(exit_.value.code or 0), captured.out, captured.err


def opened(format_: str, file: Path):
    """By torch itself: these files are our own."""
    if format_ == "pt2":
        return torch.export.load(io.BytesIO(file.read_bytes())).module()
    if format_ == "torchscript":
        return torch.jit.load(io.BytesIO(file.read_bytes()))
    return build_classifier(file)[0]


def reference(checkpoint: Path, x_BCHW: torch.Tensor) -> torch.Tensor:
    """The network itself on images normalised by hand."""
    classifier, _ = build_classifier(checkpoint)
    with torch.no_grad():
        return classifier.network((x_BCHW - 0.25) / 0.5)


def check_file_and_record(format_: str, file: Path, checkpoint: Path, images: int) -> None:
    network = opened(format_, file)
    for count in (1, 5):
        x_BCHW = torch.rand(count, 1, 28, 28)
        torch.testing.assert_close(
            network(x_BCHW), reference(checkpoint, x_BCHW), rtol=1e-4, atol=1e-5
        )
    record = json.loads(file.with_name(f"{file.name}.json").read_text())
    assert record["file"]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert record["checkpoint"]["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    data = load_dataset("demo")
    rows_N = np.arange(images) * len(data) // images
    x_NCHW = torch.from_numpy(data.images_NCHW[rows_N]) / 255
    right_N = reference(checkpoint, x_NCHW).argmax(1).numpy() == data.labels_N[rows_N]
    ours, theirs = record["networks"]
    assert ours["clean"]["average"] == pytest.approx(right_N.mean())
    assert theirs["bytes"] == file.stat().st_size
    largest = (network(x_NCHW) - reference(checkpoint, x_NCHW)).abs().max()
    assert record["clean"]["largest"] == pytest.approx(float(largest), abs=1e-5)
    assert record["clean"]["flips"] == record["pgd"]["flips"] == 0
    assert record["clean"]["images"] == images
    assert record["clean"]["is_rounding"]
    assert ours["clean"] == theirs["clean"]
    assert ours["pgd"] == theirs["pgd"]
    assert {*ours["milliseconds"]} == {"1", "128"}
    assert min(theirs["milliseconds"].values()) > 0
    assert record["attack"]["eps"] == 0.05
    # No image that it was checked on is given away with it.
    held = b"".join(_members(file))
    assert not any(x_CHW.numpy().tobytes() in held for x_CHW in x_NCHW)


def _members(file: Path) -> list[bytes]:
    """What is packed in it, or itself."""
    if not zipfile.is_zipfile(file):
        return [file.read_bytes()]
    with zipfile.ZipFile(file) as archive:
        return [archive.read(name) for name in archive.namelist()]


@pytest.mark.parametrize("format_", ["pt2", "torchscript"])
def test_the_file_is_the_network_with_its_normalisation(format_, checkpoint, tmp_path, capsys):
    file = tmp_path / "new" / f"net.{format_}"
    status, out, err = call(capsys, checkpoint, "--format", format_, "--out", file, "--images", 40)
    assert status == 0, err
    assert not err
    check_file_and_record(format_, file, checkpoint, 40)
    lines = out.splitlines()
    assert lines[-2:] == [str(file), f"{file}.json"]
    assert all(len(line) <= 80 for line in lines[:-2])
    assert "Class flips: 0 clean, 0 under PGD-20" in " ".join(line.strip() for line in lines)


def test_onnx_and_int8_are_written_and_scored(checkpoint, tmp_path, capsys):
    for package in formats.Onnx.packages:
        pytest.importorskip(package, reason=f"{package} is not installed")
    file = tmp_path / "net.onnx"
    status, _, err = call(capsys, checkpoint, "--format", "onnx", "--out", file, "--images", 40)
    assert status == 0, err
    check_file_and_record("onnx", file, checkpoint, 40)
    from ferd_train.export.quantize import quantize

    data = load_dataset("demo")
    x_NCHW = torch.from_numpy(data.images_NCHW[:200]) / 255
    small = tmp_path / "int8.onnx"
    small.write_bytes(quantize(file.read_bytes(), x_NCHW[::2].contiguous()))
    assert small.stat().st_size < file.stat().st_size
    network, facts = build_classifier(small)
    expected_NK = reference(checkpoint, x_NCHW)
    found_NK = network(x_NCHW)
    assert 1e-4 < float((found_NK - expected_NK).abs().max()) < 0.2 * float(expected_NK.abs().max())
    import onnx

    types = {tensor.data_type for tensor in onnx.load(small).graph.initializer}
    assert onnx.TensorProto.INT8 in types
    kept = {each.key: each.value for each in onnx.load(small).metadata_props}
    assert kept == {"ferd.exported_from": hashlib.sha256(checkpoint.read_bytes()).hexdigest()}
    assert facts.num_classes == 10


def test_half_precision_is_written_with_a_warning_where_classes_flip(
    checkpoint, tmp_path, capsys, monkeypatch
):
    file = tmp_path / "net.pt2"
    words = (checkpoint, "--format", "pt2", "--half", "--out", file, "--images", 10)
    status, out, _ = call(capsys, *words, "--json")
    assert status == 0
    record = json.loads(out)
    assert record["file"]["precision"] == "float16"
    assert 0 < record["clean"]["largest"] < 0.1
    x_BCHW = torch.rand(3, 1, 28, 28)
    found_BK = opened("pt2", file)(x_BCHW)
    assert found_BK.dtype == torch.float32
    torch.testing.assert_close(found_BK, reference(checkpoint, x_BCHW), rtol=0.02, atol=0.02)
    monkeypatch.setattr("ferd_train.export.deployed.Deployed.forward", _other)
    status, _, err = call(capsys, *words)
    assert status == 0
    assert "warning: in float16 10 of 10 clean and 10 of 10 adversarial images" in err


def _other(self: Deployed, x_BCHW: torch.Tensor) -> torch.Tensor:
    """Another class for every image."""
    return -self.network(((x_BCHW - 0.25) / 0.5).to(self._dtype)).float()


def test_another_network_in_full_precision_is_refused(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ferd_train.export.deployed.Deployed.forward", _other)
    file = tmp_path / "net.pt2"
    status, _, err = call(capsys, checkpoint, "--format", "pt2", "--out", file, "--images", 10)
    assert status == 2
    assert "is not the network of" in err
    assert "20 of 20 images change class. Nothing is written" in err
    assert not list(tmp_path.iterdir())


def test_infinity_is_refused(checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "ferd_train.export.deployed.Deployed.forward", lambda self, x: _other(self, x) / 0
    )
    words = (checkpoint, "--format", "pt2", "--half", "--out", tmp_path / "net.pt2")
    status, _, err = call(capsys, *words, "--images", 4)
    assert status == 2
    assert "returns NaN or infinity; nothing is written" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--format onx --out x", "Did you mean onnx?"),
        ("--format pt2 --half --int8 --out x", "exclude each other"),
        ("--format pt2 --int8 --out x", "goes with --format onnx, not pt2"),
        ("--format pt2 --out .", "is a folder; name a new file, as net.pt2"),
        ("--format pt2 --out x --images 0", "give 1 or more"),
        ("--format pt2 --out x --dataset nothing", "no data set 'nothing'"),
        ("--format pt2 --out x --eps 2", "eps"),
    ],
)
def test_mistakes_are_one_line(words, said, checkpoint, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, err = call(capsys, checkpoint, *words.split())
    assert status == 2
    assert len(err.splitlines()) == 1, err
    assert said in err
    assert not list(tmp_path.iterdir())


def test_it_never_replaces_the_checkpoint(checkpoint, capsys):
    before = checkpoint.read_bytes()
    status, _, err = call(capsys, checkpoint, "--format", "pt2", "--out", checkpoint)
    assert status == 2
    assert "is the checkpoint itself" in err
    assert checkpoint.read_bytes() == before


def test_missing_packages_are_named_before_any_work(checkpoint, tmp_path, capsys, monkeypatch):
    for package in formats.Onnx.packages:
        monkeypatch.setitem(sys.modules, package, None)
    status, _, err = call(capsys, tmp_path / "no-file", "--format", "onnx", "--out", tmp_path / "x")
    assert status == 2
    assert "pip install onnx onnxscript onnxruntime" in err


def test_difference_and_accuracy_by_hand():
    original = torch.tensor([[2.0, 1.0], [0.0, -4.0], [1.0, 1.5]])
    exported = original + torch.tensor([[0.0, 0.0], [0.0, 0.1], [0.0, -0.6]])
    found = Difference.between(original, exported)
    assert found.largest == pytest.approx(0.6)
    assert (found.images, found.scale, found.flips) == (3, 4.0, 1)
    assert not found.is_rounding
    assert Difference.between(original, original + 3e-4).is_rounding  # of 4 · 1e-4
    assert not Difference.between(original, original + 5e-4).is_rounding
    for lost in (torch.nan, torch.inf):
        assert Difference.between(original, original * lost).largest == torch.inf
    accuracy = Accuracy.of(original, np.array([0, 1, 1]))
    assert (accuracy.average, accuracy.worst_class) == (pytest.approx(2 / 3), 0.5)
    # Class 0: 1 of 1; class 1: 1 of 2. Either limit is the lowest of the two classes'.
    lows = [binomtest(k, n).proportion_ci(0.95, "exact").low for k, n in ((1, 1), (1, 2))]
    highs = [binomtest(k, n).proportion_ci(0.975, "exact").high for k, n in ((1, 1), (1, 2))]
    assert accuracy.worst_class95 == pytest.approx((min(lows), min(highs)))


def test_images_are_spread_evenly():
    assert _spread(np.arange(10), 5).tolist() == [0, 2, 4, 6, 8]
    assert _spread(np.arange(3), 5).tolist() == [0, 1, 2]
    assert _spread(np.arange(0), 5).tolist() == []


def test_adversarial_images_are_those_of_pgd(checkpoint):
    from ferd_eval.attacks import PGD, Threat
    from ferd_eval.evaluation.evaluate import score

    classifier, _ = build_classifier(checkpoint)
    data = load_dataset("demo").first(20)
    x_NCHW = torch.from_numpy(data.images_NCHW) / 255
    labels_N = torch.from_numpy(data.labels_N)
    threat = Threat("0.05")
    adv_NCHW = adversarial(classifier, x_NCHW, labels_N, threat, seed=0)
    assert float((adv_NCHW - x_NCHW).abs().max()) <= 0.05 + 1e-6
    data = replace(data, indices_N=np.arange(20))  # by which random starts are keyed
    table = score(classifier, data, [PGD()], threat).table
    expected = table[table["attack"] == "pgd"]["adv_pred"].tolist()
    assert classifier(adv_NCHW).argmax(1).tolist() == expected


def test_an_onnx_file_is_not_exported_again(tmp_path, capsys):
    pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    from tests.onnx_files import random_linear

    file = tmp_path / "net.onnx"
    file.write_bytes(random_linear(10, (1, 28, 28))[2].SerializeToString())
    status, _, err = call(capsys, file, "--format", "pt2", "--out", tmp_path / "x.pt2")
    assert status == 2
    assert "export the checkpoint it was made of" in err


def test_what_cannot_be_exported_says_so(checkpoint, tmp_path, capsys, monkeypatch):
    def forward(self, x_BCHW):
        raise RuntimeError("no such thing")

    monkeypatch.setattr("ferd_train.export.deployed.Deployed.forward", forward)
    status, _, err = call(
        capsys, checkpoint, "--format", "pt2", "--out", tmp_path / "x.pt2", "--images", 4
    )
    assert status == 2
    assert "this network cannot be written as pt2 in float32" in err


def test_user_errors_pass_through_unchanged():
    with pytest.raises(UserError, match="mine"), formats.exporting("x"):
        raise UserError("mine")
