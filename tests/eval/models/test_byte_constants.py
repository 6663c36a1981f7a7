"""Normalisation constants for pixels of 0 to 255, wherever they stand."""

import json

import pytest
import torch

from ferd_eval.errors import UserError
from ferd_eval.models import Normalization, build_architecture, build_classifier, save_network
from ferd_eval.models.checkpoint.load import load_checkpoint

BYTES = [
    ((125.3, 123.0, 113.9), (63.0, 62.1, 66.7)),
    ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    ((127.5,) * 3, (1.0,) * 3),  # 255 x - 127.5
    ((103.939, 116.779, 123.68), (1.0,) * 3),
    ((0.0,) * 3, (255.0,) * 3),  # x, as it is
    ((33.3,), (78.6,)),
]
UNIT = [
    ((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
    ((0.0,) * 3, (1.0,) * 3),
    ((0.5,) * 3, (1.0,) * 3),
    ((1.0,), (1.0,)),
    ((0.0,), (1 / 255,)),
]
NEITHER = [
    ((0.5,) * 3, (63.0,) * 3),
    ((125.3,) * 3, (0.25,) * 3),
    ((127.5,) * 3, (0.0078125,) * 3),  # a factor, not a deviation
    ((0.49, 123.0, 113.9), (63.0,) * 3),
    ((300.0,), (60.0,)),
    ((-123.0,), (60.0,)),
    ((0.0,), (2.0,)),
]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_architecture("resnet8-w4", num_classes=4).build().eval()


def with_layer(tmp_path, network, mean, std, dtype=torch.float32):
    layer = {"norm.mean": torch.tensor(mean, dtype=dtype), "norm.std": torch.tensor(std)}
    inner = {f"model.{key}": tensor for key, tensor in network.state_dict().items()}
    torch.save(layer | inner, tmp_path / "net.pt")
    return load_checkpoint(tmp_path / "net.pt")


@pytest.mark.parametrize(("mean", "std"), [c for c in BYTES if len(c[0]) == 3])
@pytest.mark.parametrize("where", ["layer", "option", "metadata"])
def test_constants_for_bytes_are_those_of_the_training(tmp_path, network, where, mean, std):
    text = "/".join(",".join(map(str, each)) for each in (mean, std))
    arch = build_architecture("resnet8-w4", num_classes=4)
    file = tmp_path / "net.safetensors"
    save_network(file, network, arch, Normalization(mean, std) if where == "metadata" else None)
    if where == "layer":
        classifier, facts = build_classifier(with_layer(tmp_path, network, mean, std))
    else:
        options = {"normalize": text} if where == "option" else {}
        classifier, facts = build_classifier(load_checkpoint(file), **options)
    x = torch.rand(2, 3, 32, 32)
    m, s = (torch.tensor(each).view(3, 1, 1) for each in (mean, std))
    with torch.no_grad():
        expected = network((255 * x - m) / s)
        torch.testing.assert_close(classifier(x), expected, rtol=1e-3, atol=1e-3)
    assert "divided by 255" in facts.normalization_decided_by
    json.dumps(facts.to_json())


@pytest.mark.parametrize(("mean", "std"), UNIT)
def test_constants_for_unit_pixels_stay(mean, std):
    assert Normalization(mean, std).for_unit_pixels() == Normalization(mean, std)


@pytest.mark.parametrize(("mean", "std"), NEITHER)
def test_constants_of_neither_unit_are_refused(mean, std):
    with pytest.raises(UserError, match=r"neither pixels of 0 to 1 nor of 0 to 255.*--normalize"):
        Normalization(mean, std).for_unit_pixels()


def test_a_refused_layer_can_be_overruled(tmp_path, network):
    checkpoint = with_layer(tmp_path, network, (0.5,) * 3, (63.0,) * 3)
    with pytest.raises(UserError, match=r"net\.pt: normalisation 0\.5,0\.5,0\.5/63"):
        build_classifier(checkpoint)
    _, facts = build_classifier(checkpoint, normalize="cifar10")
    assert "overruling the file's own layer 0.5" in facts.normalization_decided_by


def test_whole_numbers_are_constants_too(tmp_path, network):
    _, facts = build_classifier(
        with_layer(tmp_path, network, (104, 117, 123), (1.0,) * 3, dtype=torch.int64)
    )
    assert facts.normalization.mean == pytest.approx((104 / 255, 117 / 255, 123 / 255))


def test_a_network_with_its_own_layer_for_bytes_is_cautioned(tmp_path, network):
    (tmp_path / "nets.py").write_text(
        "from torch import nn\nimport torch\n"
        "from ferd_eval.models import build_architecture\n"
        "class Norm(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.register_buffer('mean', torch.zeros(3))\n"
        "        self.register_buffer('std', torch.ones(3))\n"
        "    def forward(self, x):\n"
        "        return (x - self.mean.view(3, 1, 1)) / self.std.view(3, 1, 1)\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.norm = Norm()\n"
        "        self.model = build_architecture('resnet8-w4', num_classes=4).build()\n"
        "    def forward(self, x):\n"
        "        return self.model(self.norm(x))\n"
    )
    own = f"{tmp_path / 'nets.py'}:Net"
    _, facts = build_classifier(with_layer(tmp_path, network, *BYTES[0]), model_file=own)
    assert "for pixels of 0 to 255" in facts.caution
    assert "--normalize 0,0,0/0.0039" in facts.caution
    _, facts = build_classifier(with_layer(tmp_path, network, *UNIT[0]), model_file=own)
    assert not facts.caution
