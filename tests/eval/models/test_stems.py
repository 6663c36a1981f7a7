"""Stems that no key shows: each by its name against an independent forward pass."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from ferd_eval.models import build_architecture, build_classifier
from ferd_eval.models.checkpoint.load import load_checkpoint
from tests.eval.models import public_layouts as public

W8, R18, R34 = (8, 16, 32, 64), (2, 2, 2, 2), (3, 4, 6, 3)
FAMILIES = {
    "resnet18{}-w8": partial(public.resnet, depths=R18, widths=W8, head="fc"),
    "resnet34{}-w8": partial(public.resnet, depths=R34, widths=W8),
    "resnet50{}-w8": partial(public.resnet, depths=R34, widths=W8, bottleneck=True),
    "resnet8{}-w8": partial(public.resnet, depths=(1,) * 3, widths=(8, 16, 32), option="A"),
    "preactresnet18{}-w8": partial(public.preactresnet, depths=R18, width=8),
    "preactresnet18-raw{}-w8": partial(
        public.preactresnet, depths=R18, width=8, raw=True, final_bn=False
    ),
    "wideresnet-10-1{}": partial(public.wideresnet, depth=10, widen=1),
    "mobilenetv2{}": public.mobilenetv2,
}
STEMS = {"-maxpool": (1, True), "-stride2": (2, False), "-stride2-maxpool": (2, True)}


class Stemmed(public.Weights):
    """Weights of networks with another stem.

    Batch norms have positive weights here, so that pooling before them is pooling after the ReLU.
    """

    def __init__(self, stride, pool):
        super().__init__(seed=0)
        self.stride, self.pool = stride, pool

    def conv(self, key, x, out, kernel, stride=1, groups=1):
        if key != "conv1":
            return super().conv(key, x, out, kernel, stride, groups)
        y = super().conv(key, x, out, kernel, self.stride, groups)
        return F.max_pool2d(y, 3, 2, 1) if self.pool else y


def written(tmp_path, layout, stem):
    weights = Stemmed(*stem)
    x = torch.rand(4, 3, 32, 32, generator=weights.generator)
    with torch.no_grad():
        layout(weights, x, classes=7)
        expected = layout(weights, x, classes=7)
    torch.save(weights.stored(), tmp_path / "weights.pt")
    return load_checkpoint(tmp_path / "weights.pt"), x, expected


@pytest.mark.parametrize("suffix", STEMS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_stem_goes_by_its_name_and_is_never_guessed(tmp_path, name, suffix):
    checkpoint, x, expected = written(tmp_path, FAMILIES[name], STEMS[suffix])
    named = name.format(suffix)
    classifier, facts = build_classifier(checkpoint, arch=named)
    assert facts.architecture == named
    assert not facts.caution
    with torch.no_grad():
        torch.testing.assert_close(classifier(x), expected, rtol=2e-4, atol=2e-4)
    plain, facts = build_classifier(checkpoint)
    assert facts.architecture == name.format("").replace("-raw", "")
    assert named in facts.same_keys
    with torch.no_grad():
        assert (plain(x) - expected).abs().max() > 0.01


@pytest.mark.parametrize("depth", [18, 34, 50])
def test_resnets_are_taken_with_a_caution(tmp_path, depth):
    checkpoint, _, _ = written(tmp_path, FAMILIES[f"resnet{depth}{{}}-w8"], (1, False))
    _, facts = build_classifier(checkpoint)
    assert "stem of stride 1, no max-pool" in facts.caution
    for suffix in STEMS:
        assert f"resnet{depth}{suffix}-w8" in facts.caution
    _, facts = build_classifier(checkpoint, arch=f"resnet{depth}-w8")
    assert not facts.caution


def test_names_of_twins_are_all_different_and_read_back():
    for name in FAMILIES:
        one = build_architecture(name.format(""), num_classes=7)
        names = [one.name, *(twin.name for twin in one.twins)]
        assert len({*names}) == len(names) >= 4
        for each in names:
            again = build_architecture(each, num_classes=7)
            assert again.name == each
            assert {*again.build().state_dict()} == {*one.build().state_dict()}
