"""From a checkpoint to a classifier: what decides architecture and normalisation, and errors."""

import dataclasses
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ferd_eval.errors import UserError
from ferd_eval.models import (
    NORMALIZATIONS,
    Classifier,
    Normalization,
    build_architecture,
    build_classifier,
    parse_normalization,
    save_network,
)
from ferd_eval.models.checkpoint.load import load_checkpoint

SHARED = Path(__file__).resolve().parents[4] / "shared"
CHECKPOINTS, CIFAR10 = SHARED / "checkpoints", SHARED / "data/cifar10_official_test1017.npz"
needs_shared = pytest.mark.skipif(
    not (CHECKPOINTS.is_dir() and CIFAR10.is_file()),
    reason=f"the public checkpoints and images are not in {SHARED}",
)
CIFAR = NORMALIZATIONS["cifar10"]

FACTORIES = """
import torch.nn as nn

def cnn_a(num_classes=10, in_channels=3):
    side = 2048 if in_channels == 3 else 1568
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 4, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
        nn.Flatten(), nn.Linear(side, 100), nn.ReLU(), nn.Linear(100, num_classes),
    )

class Block(nn.Module):
    def __init__(self, a, b, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(a, b, 3, stride, 1)
        self.conv2 = nn.Conv2d(b, b, 3, 1, 1)
        self.shortcut = nn.Sequential(*[nn.Conv2d(a, b, 1, stride)] * (a != b))

    def forward(self, x):
        return (self.conv2(self.conv1(x).relu()) + self.shortcut(x)).relu()

class ResNet2b(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 2, 1)
        self.layer1 = nn.Sequential(Block(8, 16, 2), Block(16, 16, 1))
        self.linear1, self.linear2 = nn.Linear(1024, 100), nn.Linear(100, 10)

    def forward(self, x):
        x = self.layer1(self.conv1(x).relu()).flatten(1)
        return self.linear2(self.linear1(x).relu())

def linear(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))

class Normalize(nn.Module):
    def __init__(self):
        super().__init__()
        import torch
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("std", torch.ones(3, 1, 1))

    def forward(self, x):
        return (x - self.mean) / self.std

def wrapped():
    return nn.Sequential(Normalize(), linear(10))

def fails():
    raise ValueError("no luck\\ntoday")

def exits():
    raise SystemExit(3)

def no_module():
    return 3

def two_outputs():
    class Two(nn.Sequential):
        def forward(self, x):
            return super().forward(x), x
    return Two(nn.Flatten(), nn.Linear(12, 10))
"""


@pytest.fixture
def factories(tmp_path):
    file = tmp_path / "nets.py"
    file.write_text(FACTORIES)
    return file


def saved(tmp_path, state, name="net.pt"):
    torch.save(state, tmp_path / name)
    return load_checkpoint(tmp_path / name)


def small(name="resnet8-w4", **sizes):
    torch.manual_seed(0)
    return build_architecture(name, **({"num_classes": 10} | sizes))


def accuracy(checkpoint, **options):
    classifier, facts = build_classifier(load_checkpoint(CHECKPOINTS / checkpoint), **options)
    with np.load(CIFAR10) as data:
        x_NCHW = torch.from_numpy(data["images"]).permute(0, 3, 1, 2) / 255
        labels_N = torch.from_numpy(data["labels"].astype(np.int64))
    with torch.no_grad():
        predicted = torch.cat([classifier(x_BCHW).argmax(1) for x_BCHW in x_NCHW.split(113)])
    return int((predicted == labels_N).sum()), facts


# --- Real files ----------------------------------------------------------------------------------


@needs_shared
def test_public_resnet20_scores_what_is_published():
    right, facts = accuracy("cifar10_resnet20_standard.th", normalize="imagenet")
    assert facts.architecture == "resnet20"
    assert facts.decided_by == "detected from the checkpoint's keys and shapes"
    assert right == 932  # 91.64 % of 1017
    wrong, facts = accuracy("cifar10_resnet20_standard.th")
    assert facts.normalization is None
    assert wrong < right


@needs_shared
@pytest.mark.parametrize(
    ("file", "factory", "percent"),
    [
        ("cifar10_cnn_a_mix4.pt", "cnn_a", 69.62),
        ("cifar10_cnn_a_adv.pt", "cnn_a", 66.67),
        ("cifar10_resnet2b_adv2.pth", "ResNet2b", 70.40),
    ],
)
def test_public_networks_through_a_factory(factories, file, factory, percent):
    spec = f"{factories}:{factory}"
    right, facts = accuracy(file, model_file=spec, normalize="cifar10")
    assert round(100 * right / 1017, 2) == percent
    assert facts.architecture == f"nets.py:{factory}"
    assert len(facts.model_file_sha256) == 64


@needs_shared
def test_a_factory_is_given_the_channels_of_the_file(factories):
    checkpoint = load_checkpoint(CHECKPOINTS / "fashion_mnist_wong_kolter.pth")
    classifier, _ = build_classifier(checkpoint, model_file=f"{factories}:cnn_a")
    assert classifier(torch.rand(2, 1, 28, 28)).shape == (2, 10)


@needs_shared
def test_an_unknown_network_is_said_to_be_unknown():
    checkpoint = load_checkpoint(CHECKPOINTS / "cifar10_cnn_a_adv.pt")
    with pytest.raises(UserError, match=r"has any of the checkpoint's 8 keys .*--model-file"):
        build_classifier(checkpoint)


# --- Save and read back --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["resnet18-w4", "resnet8-w4", "resnet8-b", "preactresnet18-w4", "preactresnet18-raw-w4",
     "wideresnet-10-1", "mobilenetv2", "cnn28-4"],
)  # fmt: skip
@pytest.mark.parametrize("wrap", [False, True])
def test_saved_networks_read_back_without_being_told(tmp_path, name, wrap):
    arch = small(name, num_classes=7)
    # In the layout in which files are read back: equal to the last bit, not nearly.
    network = arch.build().eval().to(memory_format=torch.channels_last)
    classifier = Classifier(network, num_classes=7, in_channels=3, normalization=CIFAR)
    file = tmp_path / "net.safetensors"
    save_network(file, classifier if wrap else network, arch, CIFAR, {"ferd.dataset": "demo"})
    checkpoint = load_checkpoint(file)
    again, facts = build_classifier(checkpoint)
    x = torch.rand(2, 3, 28, 28)
    with torch.no_grad():
        assert torch.equal(again(x), classifier(x))
    assert checkpoint.metadata["ferd.dataset"] == "demo"
    assert (facts.architecture, facts.num_classes) == (name, 7)
    assert "metadata" in facts.decided_by
    assert "metadata" in facts.normalization_decided_by
    assert facts.normalization == CIFAR
    assert [p.name for p in tmp_path.iterdir()] == ["net.safetensors"]
    assert not again.training
    json.dumps(facts.to_json(), allow_nan=False)


def test_metadata_settles_what_the_keys_leave_open(tmp_path):
    for name in ("preactresnet18-w4", "preactresnet18-raw-w4"):
        arch = dataclasses.replace(small(name), final_bn=False)
        save_network(tmp_path / "net", arch.build(), arch, None)
        _, facts = build_classifier(load_checkpoint(tmp_path / "net"))
        assert facts.architecture == name


def test_metadata_that_contradicts_the_weights(tmp_path):
    arch = small()
    save_network(tmp_path / "a", arch.build(), arch, None, {"ferd.arch": "resnet20"})
    with pytest.raises(UserError, match="does not fit --arch resnet20"):
        build_classifier(load_checkpoint(tmp_path / "a"))
    save_network(tmp_path / "b", arch.build(), arch, None, {"ferd.num_classes": "100"})
    with pytest.raises(UserError, match=r"says ferd\.num_classes = 100, but its weights say 10"):
        build_classifier(load_checkpoint(tmp_path / "b"))
    save_network(tmp_path / "c", arch.build(), arch, None, {"ferd.normalization": "{}"})
    with pytest.raises(UserError, match="--normalize"):
        build_classifier(load_checkpoint(tmp_path / "c"))


def test_half_precision_files(tmp_path):
    arch = small()
    network = arch.build()
    save_network(tmp_path / "half", network, arch, None, half=True)
    save_network(tmp_path / "full", network, arch, None)
    assert (tmp_path / "half").stat().st_size < 0.7 * (tmp_path / "full").stat().st_size
    again, _ = build_classifier(load_checkpoint(tmp_path / "half"))
    for key, tensor in again.network.state_dict().items():
        torch.testing.assert_close(tensor, network.state_dict()[key], rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        network.linear.bias[0] = 1e6
    with pytest.raises(UserError, match=r"linear.bias .*full precision"):
        save_network(tmp_path / "half", network, arch, None, half=True)


def test_a_folder_that_is_not_there(tmp_path):
    arch = small()
    with pytest.raises(UserError, match="cannot write"):
        save_network(tmp_path / "no" / "net", arch.build(), arch, None)


# --- Normalisation -------------------------------------------------------------------------------


def test_embedded_layers_are_used_and_can_be_overruled(tmp_path):
    network = small().build().eval().to(memory_format=torch.channels_last)
    inner = {f"model.{key}": tensor for key, tensor in network.state_dict().items()}
    layer = {"normalize.mean": torch.tensor(CIFAR.mean), "normalize.std": torch.tensor(CIFAR.std)}
    checkpoint = saved(tmp_path, layer | inner)
    x = torch.rand(2, 3, 32, 32)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (CIFAR.mean, CIFAR.std))
    with torch.no_grad():
        classifier, facts = build_classifier(checkpoint)
        assert torch.equal(classifier(x), network((x - mean) / std))
        assert facts.normalization == CIFAR
        assert facts.normalization_decided_by == "a layer saved in the checkpoint"
        plain, facts = build_classifier(checkpoint, normalize="none")
        assert torch.equal(plain(x), network(x))
    assert facts.normalization is None
    assert "overruling the file's own layer 0.4914" in facts.normalization_decided_by


def test_no_normalization_is_no_operation():
    seen = []
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
    network.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    x = torch.rand(1, 3, 2, 2)
    Classifier(network, num_classes=10)(x)
    assert seen[0] is x


def test_a_factory_with_its_own_normalization_is_not_normalised_twice(tmp_path, factories):
    state = {
        "0.mean": torch.full((3, 1, 1), 0.5),
        "0.std": torch.full((3, 1, 1), 0.25),
        "1.1.weight": torch.rand(10, 12),
        "1.1.bias": torch.zeros(10),
    }
    checkpoint = saved(tmp_path, state)
    x = torch.rand(2, 3, 2, 2)
    expected = ((x - 0.5) / 0.25).flatten(1) @ state["1.1.weight"].T
    for factory in ("wrapped", "linear"):
        classifier, facts = build_classifier(checkpoint, model_file=f"{factories}:{factory}")
        torch.testing.assert_close(classifier(x), expected)
        assert (facts.normalization is None) == (factory == "wrapped")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("none", None),
        ("cifar10", Normalization((0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616))),
        ("cifar100", Normalization((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))),
        ("imagenet", Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))),
        ("0.5,0.5,0.5/0.25,0.25,0.25", Normalization((0.5,) * 3, (0.25,) * 3)),
        ("0.5/0.25", Normalization((0.5,), (0.25,))),
    ],
)
def test_normalize_grammar(text, expected):
    assert parse_normalization(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cifar", r"Did you mean cifar10\?"),
        ("cifar-100", r"Did you mean cifar100\?"),
        ("0.5,0.5", "cannot be read"),
        ("a,b/c,d", "cannot be read"),
        ("1/2/3", "cannot be read"),
        ("0.5,0.5/0.5", "2 means and 1"),
        ("0.5/0", "above 0"),
        ("nan/1", "impossible"),
    ],
)
def test_normalize_errors(text, words):
    with pytest.raises(UserError, match=words):
        parse_normalization(text)


def test_constants_for_another_number_of_channels(tmp_path):
    checkpoint = saved(tmp_path, small(in_channels=1).build().state_dict())
    with pytest.raises(UserError, match="for 3 channels, but the network takes 1"):
        build_classifier(checkpoint, normalize="cifar10")


# --- Errors --------------------------------------------------------------------------------------


def test_the_nearest_architecture_and_what_differs(tmp_path):
    state = small("resnet18-w4").build().state_dict()
    del state["layer3.0.bn1.weight"]
    state["layer2.0.conv2.weight"] = torch.zeros(8, 8, 5, 5)
    state["extra.weight"] = torch.zeros(3)
    with pytest.raises(UserError) as caught:
        build_classifier(saved(tmp_path, state))
    message = str(caught.value)
    assert "nearest is resnet18-w4" in message
    assert "1 key missing (layer3.0.bn1.weight)" in message
    assert "1 key unexpected (extra.weight)" in message
    assert "layer2.0.conv2.weight is 8×8×5×5 in the file and 8×8×3×3 in the network" in message
    assert "--arch" in message
    assert "--model-file" in message
    assert "\n" not in message


def test_a_named_architecture_that_does_not_fit(tmp_path):
    checkpoint = saved(tmp_path, small().build().state_dict())
    with pytest.raises(UserError, match=r"does not fit --arch resnet18: \d+ keys missing"):
        build_classifier(checkpoint, arch="resnet18")
    with pytest.raises(UserError, match="not a known architecture"):
        build_classifier(checkpoint, arch="vgg16")
    with pytest.raises(UserError, match="exclude each other"):
        build_classifier(checkpoint, arch="resnet18", model_file="a.py:b")


def test_images_and_logits_of_another_shape(tmp_path, factories):
    classifier, _ = build_classifier(saved(tmp_path, small().build().state_dict()))
    with pytest.raises(UserError, match="3 channels, but these have 1"):
        classifier(torch.rand(2, 1, 32, 32))
    x = torch.rand(2, 3, 2, 2)
    checkpoint = saved(tmp_path, {"1.weight": torch.zeros(10, 12), "1.bias": torch.zeros(10)})
    two, _ = build_classifier(checkpoint, model_file=f"{factories}:two_outputs")
    with pytest.raises(UserError, match="returns a tuple, not a tensor"):
        two(x)
    with pytest.raises(UserError, match="of shape 2×12, not floating-point logits of shape 2×10"):
        Classifier(nn.Flatten(), num_classes=10)(x)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nets.py", "must be FILE.py:NAME"),
        ("other.py:cnn_a", "there is no file"),
        ("nets.py:cnn_b", r"has no cnn_b\. Did you mean cnn_a\?"),
        ("nets.py:fails", "fails failed with ValueError: no luck today"),
        ("nets.py:exits", "SystemExit"),
        ("nets.py:no_module", "returned a int; it must return a torch.nn.Module"),
        ("nets.py:ResNet2b", "does not fit nets.py:ResNet2b: 16 keys missing"),
        ("broken.py:net", "importing it failed with SyntaxError"),
        ("needy.py:net", "ModuleNotFoundError"),
    ],
)
def test_bad_factories(tmp_path, factories, monkeypatch, spec, words):
    (tmp_path / "broken.py").write_text("def net(:\n")
    (tmp_path / "needy.py").write_text("import no_such_package_at_all\n")
    monkeypatch.chdir(tmp_path)
    checkpoint = saved(tmp_path, {"1.weight": torch.zeros(10, 12), "1.bias": torch.zeros(10)})
    with pytest.raises(UserError, match=words) as caught:
        build_classifier(checkpoint, model_file=spec)
    assert "\n" not in str(caught.value)


def test_a_factory_may_import_its_neighbours(tmp_path):
    (tmp_path / "ferd_test_neighbour.py").write_text("WIDTH = 12\n")
    (tmp_path / "nets2.py").write_text(
        "import torch.nn as nn\nfrom ferd_test_neighbour import WIDTH\n"
        "def net(num_classes):\n    return nn.Linear(WIDTH, num_classes)\n"
    )
    checkpoint = saved(tmp_path, {"weight": torch.zeros(4, 12), "bias": torch.zeros(4)})
    before = list(sys.path)
    classifier, _ = build_classifier(checkpoint, model_file=f"{tmp_path / 'nets2.py'}:net")
    assert classifier.num_classes == 4
    assert sys.path == before


# --- Outside sources -----------------------------------------------------------------------------


def test_torchvision(tmp_path):
    models = pytest.importorskip("torchvision.models", exc_type=Exception)
    torch.manual_seed(0)
    network = models.resnet18(num_classes=5).eval()
    classifier, facts = build_classifier(
        saved(tmp_path, network.state_dict()), arch="torchvision:resnet18"
    )
    mean, std = (
        torch.tensor(v).view(3, 1, 1)
        for v in (NORMALIZATIONS["imagenet"].mean, NORMALIZATIONS["imagenet"].std)
    )
    x = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), network((x - mean) / std))
    assert "torchvision" in facts.normalization_decided_by
    with pytest.raises(UserError, match=r"Did you mean resnet18\?"):
        build_classifier(saved(tmp_path, network.state_dict()), arch="torchvision:resnet_18")


@pytest.mark.parametrize("package", ["torchvision", "timm", "robustbench"])
def test_missing_and_broken_packages(tmp_path, monkeypatch, package):
    checkpoint = saved(tmp_path, small().build().state_dict())
    monkeypatch.syspath_prepend(tmp_path)
    for name in [n for n in sys.modules if n.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / f"{package}.py").write_text("raise RuntimeError('operator nms does not exist')")
    with pytest.raises(UserError, match=f"operator nms.*pip install {package}"):
        build_classifier(checkpoint, arch=f"{package}:net")
    (tmp_path / f"{package}.py").write_text("import no_such_package_at_all")
    with pytest.raises(UserError, match="pip install no_such_package_at_all"):
        build_classifier(checkpoint, arch=f"{package}:net")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"needs {package}: pip install {package}"):
        build_classifier(checkpoint, arch=f"{package}:net")


def test_timm_through_its_interface(tmp_path, monkeypatch):
    timm = types.ModuleType("timm")
    timm.is_model = lambda name: name == "tiny"
    timm.list_models = lambda: ["tiny"]
    timm.create_model = lambda name, pretrained, num_classes, in_chans: small(
        num_classes=num_classes, in_channels=in_chans
    ).build()
    monkeypatch.setitem(sys.modules, "timm", timm)
    checkpoint = saved(tmp_path, small(num_classes=6).build().state_dict())
    _, facts = build_classifier(checkpoint, arch="timm:tiny")
    assert (facts.num_classes, facts.normalization) == (6, NORMALIZATIONS["imagenet"])
    half = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    monkeypatch.setattr(nn.Module, "pretrained_cfg", half, raising=False)
    _, facts = build_classifier(checkpoint, arch="timm:tiny")
    assert facts.normalization == Normalization(**half)
    with pytest.raises(UserError, match=r"Did you mean tiny\?"):
        build_classifier(checkpoint, arch="timm:tinny")


def test_robustbench_through_its_interface(tmp_path, monkeypatch):
    class WithConstants(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mu", torch.full((1, 3, 1, 1), 0.5))
            self.fc = nn.Linear(12, 10)

        def forward(self, x):
            return self.fc((x - self.mu).flatten(1))

    class Key(str):
        """An enum member, as far as anybody looks."""

        value = property(str)

    zoo = types.ModuleType("robustbench.model_zoo.models")
    zoo.model_dicts = {
        Key("cifar10"): {
            Key("Linf"): {"Net": {"model": WithConstants}, "Both": {"model": WithConstants}},
            Key("L2"): {"Both": {"model": WithConstants}, "Many": {"model": []}},
        }
    }
    for name in ("robustbench", "robustbench.model_zoo"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, zoo.__name__, zoo)
    checkpoint = saved(tmp_path, {"fc.weight": torch.zeros(10, 12), "fc.bias": torch.zeros(10)})
    classifier, facts = build_classifier(checkpoint, arch="robustbench:Net")
    assert facts.architecture == "robustbench:cifar10/Linf/Net"
    assert facts.normalization is None
    assert "normalises for itself" in facts.normalization_decided_by
    assert classifier(torch.rand(2, 3, 2, 2)).shape == (2, 10)
    build_classifier(checkpoint, arch="robustbench:cifar10/L2/Both")
    for arch, words in (
        ("Both", "ambiguous; name one of robustbench:cifar10/Linf/Both"),
        ("Many", "ensemble"),
        ("Nat", r"Did you mean Net\?"),
    ):
        with pytest.raises(UserError, match=words):
            build_classifier(checkpoint, arch=f"robustbench:{arch}")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64])
@pytest.mark.parametrize("all_of_them", [True, False])
def test_weights_that_are_no_real_numbers_are_refused(tmp_path, dtype, all_of_them):
    state = build_architecture("cnn28-4", num_classes=3, in_channels=1).build().state_dict()
    first = next(iter(state))
    wrong = {
        k: v.to(dtype) if v.is_floating_point() and (all_of_them or k == first) else v
        for k, v in state.items()
    }
    torch.save(wrong, tmp_path / "net.pt")
    with pytest.raises(UserError) as caught:
        build_classifier(load_checkpoint(tmp_path / "net.pt"))
    message = str(caught.value)
    assert str(dtype).removeprefix("torch.") in message
    assert first in message
    assert "floating point" in message
    assert "\n" not in message
