"""Other readings of a file are tried on a few images, proposed where they help, never taken."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from ferd_eval.cli import app
from ferd_eval.datasets import LabelledImages
from ferd_eval.evaluation.model_checks import try_readings
from ferd_eval.models import NORMALIZATIONS, Classifier, build_architecture, build_classifier
from ferd_eval.models.checkpoint.load import load_checkpoint
from ferd_eval.models.save import save_network
from ferd_eval.runtime.command_line import run


def lively(name, normalization=None, classes=6, n=96, side=32):
    """A network that predicts every class somewhere, and images with its predictions as labels."""
    torch.manual_seed(0)
    network = build_architecture(name, num_classes=classes).build().train()
    x8_BCHW = F.interpolate(256 * torch.rand(n, 3, 8, 8), size=(side, side), mode="bilinear")
    x8_BCHW = x8_BCHW.clamp(0, 255).to(torch.uint8)
    model = Classifier(network, num_classes=classes, normalization=normalization).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
            module.reset_running_stats()
    head = network.get_submodule("fc" if hasattr(network, "fc") else "linear")
    with torch.no_grad():
        model(x8_BCHW / 255)
        model.eval()
        z_BK = model(x8_BCHW / 255)
        head.weight /= z_BK.std(0)[:, None]
        head.bias.copy_((head.bias - z_BK.mean(0)) / z_BK.std(0))
        labels_B = model(x8_BCHW / 255).argmax(1)
    data = LabelledImages(
        name="lively",
        images_NCHW=x8_BCHW.numpy(),
        labels_N=labels_B.numpy(),
        class_names=tuple(f"c{k}" for k in range(classes)),
        indices_N=np.arange(n, dtype=np.int64),
        source="generated",
    )
    return network, data


def trial_of(tmp_path, network, data, **options):
    torch.save(network.state_dict(), tmp_path / "net.pt")
    checkpoint = load_checkpoint(tmp_path / "net.pt")
    classifier, facts = build_classifier(checkpoint, **options)
    return try_readings(checkpoint, classifier, facts, data, torch.device("cpu")), facts


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("resnet18-maxpool-w4", "resnet18-w4"),
        ("resnet18-stride2-w4", "resnet18-w4"),
        ("resnet50-maxpool-w4", "resnet50-w4"),
        ("preactresnet18-raw-w4", "preactresnet18-w4"),
        ("wideresnet-10-1-stride2", "wideresnet-10-1"),
    ],
)
def test_the_twin_that_was_trained_is_proposed_and_not_taken(tmp_path, name, taken):
    network, data = lively(name)
    trial, facts = trial_of(tmp_path, network, data)
    assert facts.architecture == taken
    assert trial.accuracy < 0.6
    assert trial.better == f"--arch {name}"
    assert trial.others[trial.better] > 0.98
    hint = trial.hint(facts)
    assert f"as {taken}" in hint
    assert f"--arch {name}: if the network was trained so" in hint
    trial, facts = trial_of(tmp_path, network, data, arch=name)
    assert (trial.better, trial.hint(facts)) == (None, None)
    assert not any("--arch" in options for options in trial.others)


def test_a_twin_and_a_normalisation_are_proposed_together(tmp_path):
    network, data = lively("resnet18-maxpool-w4", NORMALIZATIONS["cifar10"])
    trial, _ = trial_of(tmp_path, network, data)
    assert "--arch resnet18-maxpool-w4" in trial.better
    trial, _ = trial_of(tmp_path, network, data, normalize="cifar10")
    assert trial.better == "--arch resnet18-maxpool-w4"


def test_what_does_about_as_well_is_named_too(tmp_path):
    network, data = lively("resnet8-w8", NORMALIZATIONS["cifar10"])
    trial, facts = trial_of(tmp_path, network, data)
    proposal = "--normalize cifar10"
    others = {proposal: 0.99, "--normalize imagenet": 0.97, "--arch a": 0.9}
    hint = replace(trial, others=others, better=proposal).hint(facts)
    assert "99.0% with --normalize cifar10 (about the same with --normalize imagenet)" in hint


def test_a_network_that_is_read_rightly_has_no_proposal(tmp_path):
    trial, _ = trial_of(tmp_path, *lively("resnet18-w4"))
    assert trial.accuracy > 0.98
    assert trial.better is None


def test_a_few_images_are_no_evidence(tmp_path):
    network, data = lively("resnet18-maxpool-w4")
    trial, _ = trial_of(tmp_path, network, data.first(4))
    assert trial.better is None


def test_what_a_file_records_is_not_questioned(tmp_path):
    network, data = lively("resnet18-maxpool-w4")
    plain = build_architecture("resnet18-w4", num_classes=6)
    save_network(tmp_path / "net.safetensors", network, plain, None)
    checkpoint = load_checkpoint(tmp_path / "net.safetensors")
    classifier, facts = build_classifier(checkpoint)
    assert try_readings(checkpoint, classifier, facts, data, torch.device("cpu")) is None


def test_the_proposal_is_on_screen_in_the_record_and_in_the_report(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    network, data = lively("resnet18-maxpool-w4")
    torch.save({"state_dict": network.state_dict(), "nature_acc": 0.97}, "net.pt")
    np.savez("d.npz", images=data.images_NCHW, labels=data.labels_N)
    words = ["score", "net.pt", "--dataset", "npz:d.npz", "--attacks", "clean", "--out", "run"]
    assert run(app, words, "ferd-eval") == 0
    screen = " ".join(capsys.readouterr().out.split())
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["model"]["architecture"] == "resnet18-w4"
    assert manifest["trial"]["better"] == "--arch resnet18-maxpool-w4"
    assert manifest["checkpoint"]["recorded_accuracy"] == {"nature_acc": 0.97}
    for shown in (screen, (tmp_path / "run" / "report.md").read_text()):
        assert "--arch resnet18-maxpool-w4" in shown
        assert "no max-pool" in shown
        assert "nature_acc = 97.0" in shown
