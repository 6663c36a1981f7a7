"""What the base class promises, whatever an author's `perturb` does."""

import pytest
import torch
from torch import nn

from ferd_eval.attacks import CW, FGSM, PGD, Attack, Batch, Passes, TargetedPGD, Threat
from tests.conftest import TinyNet, tiny_data


class Author(Attack):
    family = "author"
    steps = 1

    def __init__(self, answer):
        self.answer = answer

    def perturb(self, problem):
        return self.answer(problem)


def make_batch(net, data, dtype=torch.float32):
    x_BCHW = torch.from_numpy(data.images_NCHW).to(dtype) / 255
    with torch.no_grad():
        logits_BK = net(x_BCHW)
    return Batch(
        x_BCHW, torch.from_numpy(data.labels_N), torch.from_numpy(data.indices_N), logits_BK
    )


def attack_with(attack, net=None, eps="0.1"):
    net = net or TinyNet().eval()
    batch = make_batch(TinyNet().eval(), tiny_data())
    return batch, attack(net, batch, Threat(eps), seed=0, passes=Passes())


def test_answers_are_projected_into_ball_and_pixel_range():
    batch, verdicts = attack_with(Author(lambda p: p.x_BCHW + 5))
    assert verdicts.linf_R.max() <= 0.1 + 1e-6
    assert verdicts.adv_RCHW.max() <= 1
    torch.testing.assert_close(verdicts.adv_RCHW, (batch.x_BCHW + 0.1).clamp(max=1))


def test_pixels_that_are_not_finite_become_clean_ones():
    batch, verdicts = attack_with(Author(lambda p: torch.full_like(p.x_BCHW, float("nan"))))
    assert torch.equal(verdicts.adv_RCHW, batch.x_BCHW)


def test_verdicts_come_from_a_fresh_forward_pass():
    batch, verdicts = attack_with(Author(lambda p: p.x_BCHW))
    with torch.no_grad():
        logits_BK = TinyNet().eval()(batch.x_BCHW)
    assert torch.equal(verdicts.adv_pred_R, logits_BK.argmax(1))
    others = logits_BK.clone()
    others[torch.arange(len(others)), batch.labels_B] = -torch.inf
    label_logit = logits_BK[torch.arange(len(others)), batch.labels_B]
    torch.testing.assert_close(verdicts.margin_R, label_logit - others.amax(1))
    torch.testing.assert_close(verdicts.confidence_R, logits_BK.softmax(1).amax(1))


def test_a_wrong_shape_is_an_authors_bug():
    with pytest.raises(AssertionError, match="expected"):
        attack_with(Author(lambda p: p.x_BCHW[:1]))


def test_the_seal_cannot_be_overridden():
    with pytest.raises(TypeError, match="sealed"):
        type("Cheat", (Attack,), {"__call__": lambda self: None})


def snapshot(net):
    return (
        [module.training for module in net.modules()],
        [parameter.requires_grad for parameter in net.parameters()],
        {name: value.clone() for name, value in net.state_dict().items()},
        [parameter.grad for parameter in net.parameters()],
        torch.get_rng_state(),
    )


def assert_same(before, after):
    assert before[0] == after[0]
    assert before[1] == after[1]
    assert all(torch.equal(before[2][name], after[2][name]) for name in before[2])
    assert all(gradient is None for gradient in after[3])
    assert torch.equal(before[4], after[4])


def fail(problem):
    problem.gradient(problem.x_BCHW, lambda logits_BK: logits_BK.sum(1))
    torch.rand(3)
    raise RuntimeError("the author's mistake")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "attack", [FGSM(), PGD(steps=2), CW(steps=2), TargetedPGD(steps=2), Author(fail)]
)
def test_network_and_random_state_are_as_before(attack, training):
    net = TinyNet().train(training)
    net.conv.weight.requires_grad_(False)
    net.bn.eval()
    before = snapshot(net)
    if isinstance(attack, Author):
        with pytest.raises(RuntimeError, match="mistake"):
            attack_with(attack, net)
    else:
        attack_with(attack, net)
    assert_same(before, snapshot(net))


def test_a_network_that_moves_its_buffers_is_caught():
    class Drifting(TinyNet):
        def forward(self, x_BCHW):
            self.bn.running_mean.add_(1)
            return super().forward(x_BCHW)

    with pytest.raises(AssertionError, match=r"bn\.running_mean changed"):
        attack_with(PGD(steps=1), Drifting())


def test_gradients_work_inside_no_grad():
    with torch.no_grad():
        _, inside = attack_with(PGD(steps=3))
    _, outside = attack_with(PGD(steps=3))
    assert torch.equal(inside.adv_RCHW, outside.adv_RCHW)


def test_passes_are_counted():
    net = TinyNet().eval()
    calls = []
    net.register_forward_hook(lambda module, inputs, output: calls.append(len(output)))
    batch = make_batch(TinyNet().eval(), tiny_data())
    for attack in (FGSM(), PGD(steps=5), TargetedPGD(steps=2)):
        calls.clear()
        passes = Passes()
        attack(net, batch, Threat("0.1"), seed=0, passes=passes)
        forward, backward = attack.passes_per_image(4)
        # Once for a network: is its gradient cut at the ends of the pixel range?
        once = 8 if isinstance(attack, FGSM) else 0
        assert passes.forward == sum(calls) == forward * 40 + once
        assert passes.backward == backward * 40 + once


def test_contiguity_of_the_networks_gradient_does_not_matter():
    class Permuted(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = TinyNet()

        def forward(self, x_BCHW):
            return self.net(x_BCHW.permute(0, 2, 3, 1).permute(0, 3, 1, 2))

    _, plain = attack_with(PGD(steps=3))
    _, permuted = attack_with(PGD(steps=3), Permuted())
    assert torch.equal(plain.adv_pred_R, permuted.adv_pred_R)


def test_a_network_that_answers_nan_off_the_grid_favours_no_class():
    class Broken(TinyNet):
        def forward(self, x_BCHW):
            logits_BK = super().forward(x_BCHW)
            off_grid_B = ((x_BCHW * 255).round() / 255 - x_BCHW).abs().flatten(1).amax(1) > 1e-4
            return torch.where(off_grid_B.unsqueeze(1), torch.nan, logits_BK)

    batch, verdicts = attack_with(Author(lambda p: p.x_BCHW + 0.001), Broken().eval())
    assert (verdicts.adv_pred_R != batch.labels_B).all()
    assert set(batch.labels_B.tolist()) == {0, 1, 2, 3}
