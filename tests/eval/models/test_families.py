"""Every family against an independent forward pass over the same file of weights."""

from dataclasses import replace
from functools import partial

import pytest
import torch

from ferd_eval.errors import UserError
from ferd_eval.models import build_architecture, build_classifier, list_architectures
from ferd_eval.models.architectures.preactresnet import PreActResNet
from ferd_eval.models.checkpoint.load import load_checkpoint
from tests.eval.models import public_layouts as public

R18, R34 = (2, 2, 2, 2), (3, 4, 6, 3)
W8 = (8, 16, 32, 64)

# name, layout, image side
CASES = [
    *(
        (
            f"{name}-w8",
            partial(public.resnet, depths=depths, widths=W8, bottleneck=neck, **names),
            32,
        )
        for name, depths, neck in (
            ("resnet18", R18, False),
            ("resnet34", R34, False),
            ("resnet50", R34, True),
        )
        for names in ({}, {"head": "fc", "shortcut": "downsample"})
    ),
    ("resnet18", partial(public.resnet, depths=R18, widths=(64, 128, 256, 512)), 16),
    ("resnet18-w8", partial(public.resnet, depths=R18, widths=W8), 64),
    *(
        (
            f"resnet{6 * n + 2}",
            partial(public.resnet, depths=(n,) * 3, widths=(16, 32, 64), option="A"),
            32,
        )
        for n in (1, 3, 5, 7, 9)
    ),
    ("resnet8-b", partial(public.resnet, depths=(1,) * 3, widths=(16, 32, 64)), 32),
    (
        "resnet8",
        partial(public.resnet, depths=(1,) * 3, widths=(16, 32, 64), option="A", head="fc"),
        28,
    ),
    ("resnet20-w8", partial(public.resnet, depths=(3,) * 3, widths=(8, 16, 32), option="A"), 28),
    ("preactresnet18", partial(public.preactresnet, depths=R18, width=64), 16),
    ("preactresnet18-w8", partial(public.preactresnet, depths=R18, width=8), 64),
    ("preactresnet34-w8", partial(public.preactresnet, depths=R34, width=8, head="fc"), 32),
    ("wideresnet-10-1", partial(public.wideresnet, depth=10, widen=1), 32),
    ("wideresnet-16-2", partial(public.wideresnet, depth=16, widen=2), 64),
    ("wideresnet-34-1", partial(public.wideresnet, depth=34, widen=1), 32),
    ("mobilenetv2", public.mobilenetv2, 32),
    ("mobilenetv2", partial(public.mobilenetv2, head="fc"), 64),
    ("cnn28-4", partial(public.cnn28, width=4), 28),
    ("cnn28-16", partial(public.cnn28, width=16), 28),
]


def written(tmp_path, layout, *, classes=10, channels=3, side=32, seed=0):
    """Return a file with random weights in `layout`, images, and the oracle's logits."""
    weights = public.Weights(seed)
    x = torch.rand(2, channels, side, side, generator=weights.generator)
    with torch.no_grad():
        layout(weights, x, classes=classes)
        expected = layout(weights, x, classes=classes)
    file = tmp_path / "weights.pt"
    torch.save(weights.stored(), file)
    return file, x, expected


@pytest.mark.parametrize(("name", "layout", "side"), CASES)
@pytest.mark.parametrize(("classes", "channels"), [(10, 3), (7, 1)])
def test_detected_and_equal_to_the_public_forward_pass(
    tmp_path, name, layout, side, classes, channels
):
    file, x, expected = written(tmp_path, layout, classes=classes, channels=channels, side=side)
    classifier, facts = build_classifier(load_checkpoint(file))
    assert facts.architecture == name
    assert (facts.num_classes, facts.in_channels) == (classes, channels)
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), expected, rtol=2e-4, atol=2e-4)
    assert expected.std() > 0.05, "a constant oracle would prove nothing"


def test_the_name_builds_the_detected_network(tmp_path):
    for name, layout, side in CASES:
        file, _, _ = written(tmp_path, layout, side=side)
        _, facts = build_classifier(load_checkpoint(file), arch=name)
        network = build_architecture(name, num_classes=10).build()
        assert facts.architecture == name
        assert facts.parameters == sum(p.numel() for p in network.parameters())
        assert "named with --arch" in facts.decided_by


@pytest.mark.parametrize("raw", [False, True])
def test_preact_without_final_bn_is_the_usual_one_with_a_caution(tmp_path, raw, monkeypatch):
    layout = partial(public.preactresnet, depths=R18, width=8, final_bn=False, raw=raw)
    file, x, expected = written(tmp_path, layout)
    checkpoint = load_checkpoint(file)
    _, facts = build_classifier(checkpoint)
    assert facts.architecture == "preactresnet18-w8"
    assert "preactresnet18-raw-w8" in facts.caution
    with monkeypatch.context() as both_common:
        usual = PreActResNet.propose
        both_common.setattr(
            PreActResNet,
            "propose",
            lambda shapes: (a for u in usual(shapes) for a in (u, replace(u, raw_shortcut=True))),
        )
        with pytest.raises(UserError, match=r"preactresnet18-w8 .*preactresnet18-raw-w8 .*--arch"):
            build_classifier(checkpoint)
    both = {}
    for name in ("preactresnet18-w8", "preactresnet18-raw-w8"):
        classifier, _ = build_classifier(checkpoint, arch=name)
        with torch.no_grad():
            both[name] = classifier(x)
    right = "preactresnet18-raw-w8" if raw else "preactresnet18-w8"
    torch.testing.assert_close(both.pop(right), expected, rtol=2e-4, atol=2e-4)
    (wrong,) = both.values()
    assert (wrong - expected).abs().max() > 0.01


def test_raw_shortcut_with_final_bn_by_name_only(tmp_path):
    layout = partial(public.preactresnet, depths=R18, width=8, raw=True)
    file, x, expected = written(tmp_path, layout)
    classifier, _ = build_classifier(load_checkpoint(file), arch="preactresnet18-raw-w8")
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), expected, rtol=2e-4, atol=2e-4)


def test_trades_sub_block_is_accepted_and_reported(tmp_path):
    file, x, expected = written(tmp_path, partial(public.wideresnet, depth=10, widen=1))
    state = torch.load(file, weights_only=True)
    extra = {
        f"sub_{key}": torch.rand_like(t) if t.is_floating_point() else t
        for key, t in state.items()
        if key.startswith("block1.")
    }
    torch.save(state | extra, file)
    classifier, facts = build_classifier(load_checkpoint(file))
    assert set(facts.unused_keys) == set(extra)
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), expected, rtol=2e-4, atol=2e-4)


def test_batch_counters_may_be_absent(tmp_path):
    file, x, expected = written(tmp_path, partial(public.resnet, depths=R18, widths=W8))
    state = torch.load(file, weights_only=True)
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, file)
    classifier, _ = build_classifier(load_checkpoint(file))
    assert not any(t.is_meta for t in classifier.state_dict().values())
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), expected, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # Counts published with the layouts: kuangliu's issues, akamaster's README, RobustBench.
        ("resnet18", 11_173_962),
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet56", 853_018),
        ("preactresnet18", 11_172_170),
        ("wideresnet-28-10", 36_479_194),
        ("wideresnet-34-10", 46_160_474),
        ("mobilenetv2", 2_296_922),
    ],
)
def test_parameter_counts_are_the_published_ones(name, parameters):
    with torch.device("meta"):
        network = build_architecture(name, num_classes=10).build()
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("name", ["wideresnet-34-20", "wideresnet-70-16"])
def test_large_wide_resnets_are_recognised_by_shape_alone(name):
    from ferd_eval.models import detect

    with torch.device("meta"):
        state = build_architecture(name, num_classes=100).build().state_dict()
    assert detect(state).architecture.name == name


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("WRN-34-10", "wideresnet-34-10"),
        ("WRN_34_20", "wideresnet-34-20"),
        ("WideResNet-70-16", "wideresnet-70-16"),
        ("ResNet-18", "resnet18"),
        ("resnet20-cifar", "resnet20"),
        ("PreActResNet18", "preactresnet18"),
        ("MobileNet-V2", "mobilenetv2"),
        ("cnn28-16", "cnn28-16"),
        ("resnet50", "resnet50"),
    ],
)
def test_spellings(spelling, name):
    assert build_architecture(spelling, num_classes=10).name == name


@pytest.mark.parametrize(
    ("name", "classes", "message"),
    [
        ("resnte18", 10, r"resnte18 is not a known .*Did you mean resnet18\?"),
        ("wideresnet-29-10", 10, r"Did you mean wideresnet-28-10\?"),
        ("vgg", 10, "There are: resnet18, "),
        ("resnet18", 0, "0 classes"),
    ],
)
def test_unknown_names(name, classes, message):
    with pytest.raises(UserError, match=message):
        build_architecture(name, num_classes=classes)


def test_every_row_of_the_catalogue_can_be_built():
    for row in list_architectures():
        name = row.name.replace("D-K", "16-2").replace("-W", "-8")
        if ":" not in name:
            build_architecture(name, num_classes=10)
    names = [row.name for row in list_architectures()]
    assert len(set(names)) == len(names)


def test_cnn28_says_which_images_it_takes():
    network = build_architecture("cnn28-2", num_classes=10).build()
    with pytest.raises(UserError, match="28×28 images, these are 32×32"):
        network(torch.rand(1, 3, 32, 32))
