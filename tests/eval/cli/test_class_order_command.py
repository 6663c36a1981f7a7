"""The classes of a user's own set: which label is which, said, recorded and never mixed up."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from ferd_eval.metrics.comparison.alignment import SameImages
from ferd_eval.results.outcomes import Outcomes
from tests.conftest import TinyNet

K = 12
NETWORK = ["--model-file", "nets.py:make", "--attacks", "clean"]


@pytest.fixture
def ferd_eval(tmp_path, monkeypatch, run_command):
    """Run a command where a network and twelve folders of what it takes for 0 to 11 lie."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
    net = TinyNet(K, 3, 8).eval()
    with torch.no_grad():
        x_BCHW = torch.from_numpy(images).float() / 255
        logits_BK = net(x_BCHW)
        net.linear.weight /= logits_BK.std(0)[:, None]
        net.linear.bias.copy_((net.linear.bias - logits_BK.mean(0)) / logits_BK.std(0))
        labels = net(x_BCHW).argmax(1).numpy()
    torch.save(net.state_dict(), "tiny.pt")
    (tmp_path / "nets.py").write_text(
        f"from tests.conftest import TinyNet\ndef make(): return TinyNet({K}, 3, 8)\n"
    )
    for k in range(K):
        (tmp_path / "set" / f"class_{k + 1}").mkdir(parents=True)
    for i, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        file = tmp_path / "set" / f"class_{label + 1}" / f"{i}.png"
        Image.fromarray(pixels.transpose(1, 2, 0)).save(file)
    (tmp_path / "names.txt").write_text("".join(f"{k} class_{k + 1}\n" for k in range(K)))
    np.savez("from1.npz", images=images, labels=labels + 1)
    few = labels < 10
    np.savez("few.npz", images=images[few], labels=labels[few])
    return run_command


def average(text: str) -> float:
    return json.loads(text)["attacks"]["clean"]["average"]


def test_the_order_is_warned_of_chosen_recorded_and_kept_apart(ferd_eval, tmp_path):
    words = ["score", "tiny.pt", *NETWORK, "--dataset", "folder:set", "--json"]
    status, out, err = ferd_eval(*words, "--out", "text")
    assert status == 0
    assert average(out) < 0.6
    assert "warning: " in err
    assert "--class-order natural" in err
    record = json.loads((tmp_path / "text" / "manifest.json").read_text())
    assert any("--class-order natural" in each for each in record["warnings"])
    assert "--class-order natural" in (tmp_path / "text" / "report.md").read_text("utf-8")

    status, out, err = ferd_eval(*words, "--class-order", "natural", "--out", "natural")
    assert (status, average(out)) == (0, 1.0)
    assert "class-order" not in err
    assert "natural" in (tmp_path / "natural" / "report.md").read_text("utf-8")
    status, out, _ = ferd_eval(*words, "--classes", "names.txt", "--out", "natural")
    assert (status, average(out)) == (0, 1.0)  # the same order, so the same run

    status, _, err = ferd_eval(*words, "--class-order", "natural", "--out", "text")
    assert status == 2
    assert "the name of class 1 is class_10, asked for is class_2" in err
    runs = [Outcomes.load(tmp_path / name) for name in ("text", "natural")]
    with pytest.raises(Exception, match="another order: class 1 is class_10 and class_2"):
        SameImages.of(runs, "clean")


def test_a_set_without_its_last_classes_or_with_labels_from_1_has_a_way_out(ferd_eval):
    words = ["score", "tiny.pt", *NETWORK, "--json", "--dataset"]
    status, _, err = ferd_eval(*words, "npz:few.npz", "--out", "few")
    assert status == 2
    assert "name all 12" in err
    assert "class_names" in err
    assert "--classes" in err
    status, out, _ = ferd_eval(*words, "npz:few.npz", "--classes", "names.txt", "--out", "few")
    assert (status, average(out)) == (0, 1.0)
    for more in ([], ["--classes", "names.txt"]):
        status, _, err = ferd_eval(*words, "npz:from1.npz", *more, "--out", "from1")
        assert status == 2
        assert "labels - 1" in err


def test_import_takes_the_same_lists(ferd_eval, tmp_path):
    (tmp_path / "preds.csv").write_text("index,label,pred\n0,0,0\n1,2,1\n2,11,11\n")
    status, out, _ = ferd_eval(
        "import", "preds.csv=pgd", "--classes", "names.txt", "--json", "--out", "imported"
    )
    assert status == 0
    assert json.loads(out)["dataset"]["class_names"][2] == "class_3"
    (tmp_path / "preds.csv").write_text("index,label,pred\n0,1,1\n1,2,1\n2,12,12\n")
    status, _, err = ferd_eval(
        "import", "preds.csv=pgd", "--classes", "names.txt", "--out", "from1"
    )
    assert status == 2
    assert "subtract 1" in err
    status, _, err = ferd_eval("import", "preds.csv", "--class-order", "text", "--out", "x")
    assert status == 2
    assert "--class-order go with adversarial images" in err
