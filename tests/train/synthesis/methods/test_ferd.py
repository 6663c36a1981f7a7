"""What this project's variant adds to FERD's images, each part on and off."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ferd_eval.attacks import frozen
from ferd_eval.models import build_architecture
from ferd_train.synthesis.base import Synthesis
from ferd_train.synthesis.components.attacked_views import attacked_views, is_due
from ferd_train.training.seeds import Randomness
from tests.train.student_runs import setting_of, teacher_of, tiny

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
PLAIN = {"augmentation__crop_padding": 0, "augmentation__flip": False}


@pytest.fixture
def networks(teacher_file):
    student = build_architecture("resnet8-w2", num_classes=3, in_channels=1).build()
    return teacher_of(teacher_file).classifier, student


def built(networks, **changes) -> Synthesis:
    recipe = tiny(**changes)
    return recipe.synthesis.build(setting_of(networks, recipe, len(LABELS)))


def images(synthesis: Synthesis, epoch: int) -> Tensor:
    return synthesis.make(LABELS, Randomness(0, epoch)).x_BCHW


def test_a_lasting_generator_goes_on_from_where_it_was(networks):
    used, fresh, copied = (built(networks, synthesis__renew=False) for _ in range(3))
    images(used, 1)
    copied.load_state(used.state())
    second = images(used, 2)
    assert torch.equal(images(copied, 2), second)
    assert not torch.equal(images(fresh, 2), second)


def test_latents_are_new_in_each_epoch_and_nothing_else_is_remembered(networks):
    assert built(networks).state() == {}
    lasting = built(networks, synthesis__renew=False)
    assert [*lasting.state()] == ["generator"]
    before = lasting.state()["generator"]
    assert not torch.equal(images(lasting, 1), images(built(networks, synthesis__renew=False), 2))
    assert before.keys() == lasting.state()["generator"].keys()


def test_attacked_views_are_a_step_up_the_loss(networks):
    teacher, _ = networks
    x = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)).requires_grad_()
    rows = torch.arange(8) < 3
    with frozen(teacher):
        views = attacked_views(teacher, x, LABELS, rows, Fraction(1, 10))
    for row in range(8):
        expected = x[row].detach()
        if row < 3:
            start = expected.clone().requires_grad_()
            cross_entropy(teacher(start[None]), LABELS[row : row + 1]).backward()
            expected = (expected + 0.1 * start.grad.sign()).clamp(0, 1)
        torch.testing.assert_close(views[row].detach(), expected, rtol=0, atol=1e-6)
    weights = torch.rand(8, 1, 8, 8)
    (gradient,) = torch.autograd.grad((views * weights).sum(), x)
    assert torch.equal(gradient, weights)


class Seen(nn.Module):
    """Takes the place of the objective and keeps what it is shown."""

    def __call__(self, x_BCHW, labels_B, noise, share) -> tuple[Tensor, dict[str, Tensor]]:
        self.x_BCHW = x_BCHW.detach().clone()
        return x_BCHW.mean(), {}


@pytest.mark.parametrize(("share", "moved"), [(0.0, 0), (0.5, 4), (0.3, 2), (1.0, 8)])
def test_a_share_of_the_batch_is_seen_attacked(networks, share, moved):
    synthesis = built(networks, synthesis__attacked=share, synthesis__steps=1, **PLAIN)
    synthesis._objective = seen = Seen()
    made = synthesis.make(LABELS, Randomness(0, 1))
    distance_B = (seen.x_BCHW - made.x_BCHW).abs().amax(dim=(1, 2, 3))
    assert (distance_B > 0).tolist() == [is_due(row, share) for row in range(1, 9)]
    assert (distance_B > 0).sum() == moved
    assert distance_B.max() <= 0.1 + 1e-6


@pytest.mark.parametrize("share", [0.0, 0.25, 1 / 3, 0.5, 0.9])
def test_epochs_of_the_other_method_are_spread_evenly(share):
    due = [is_due(epoch, share) for epoch in range(1, 61)]
    for done in range(1, 61):
        assert abs(sum(due[:done]) - share * done) < 1
    assert sum(due) == round(60 * share)


def test_a_due_epoch_is_deep_inversions_to_the_bit(networks):
    changes = {"synthesis__inversion__lambda_bn": 3.0, "synthesis__inversion__steps": 2}
    mixed = built(networks, synthesis__inverted=0.5, **changes)
    plain = built(networks, **changes)
    deepinv = tiny(
        synthesis__method="deepinv",
        synthesis__lambda_bn=3.0,
        synthesis__steps=2,
        synthesis__lr=0.05,
        synthesis__lambda_oh=20.0,
    )
    alone = deepinv.synthesis.build(setting_of(networks, deepinv, len(LABELS)))
    assert torch.equal(images(mixed, 1), images(plain, 1))
    assert torch.equal(images(mixed, 2), images(alone, 2))
    assert torch.equal(images(mixed, 3), images(plain, 3))
    # Their terms are other quantities, so records keep them apart.
    made, of_alone = mixed.make(LABELS, Randomness(0, 2)), alone.make(LABELS, Randomness(0, 2))
    assert made.terms == {f"inverted_{name}": each for name, each in of_alone.terms.items()}


def test_weights_are_drawn_for_each_epoch_within_their_spread(networks):
    still, spread = (built(networks, synthesis__spread=each) for each in (0.0, 0.8))
    assert {*still._factors(Randomness(0, 1)).values()} == {1.0}
    drawn = [spread._factors(Randomness(0, epoch)) for epoch in range(1, 400)]
    values = torch.tensor([[*each.values()] for each in drawn])
    assert 0.2 <= values.min() < 0.22 < 1.78 < values.max() <= 1.8
    assert values.mean(dim=0).sub(1).abs().max() < 0.1
    assert torch.corrcoef(values.T).fill_diagonal_(0).abs().max() < 0.2
    assert drawn[0] == spread._factors(Randomness(0, 1)) != spread._factors(Randomness(1, 1))


def test_the_loss_has_the_drawn_weights(networks):
    synthesis = built(networks, synthesis__spread=0.8, synthesis__steps=1)
    made = synthesis.make(LABELS, Randomness(0, 1))
    factors, weights = synthesis._factors(Randomness(0, 1)), synthesis._recipe.term_weights
    terms = {name: term for name, term in made.terms.items() if name != "masked"}
    expected = sum(weights[name] * factors[name] * term for name, term in terms.items())
    assert made.loss == pytest.approx(expected, rel=1e-5)
    assert terms.keys() == weights.keys()
