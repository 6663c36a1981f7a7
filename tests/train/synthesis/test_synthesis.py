"""One epoch's images: what is kept, what is handed on, and what stays as it was."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from ferd_eval.errors import UserError
from ferd_eval.models import build_architecture
from ferd_train.synthesis.base import Synthesis
from ferd_train.training.process_group import WHOLE, BatchShard
from ferd_train.training.seeds import Randomness
from tests.train.student_runs import setting_of, teacher_of, tiny

SHAPE = (1, 8, 8)
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


class Scripted:
    """Takes the place of the objective: scores as told, and notes what it was shown."""

    def __init__(self, scores: list[float]) -> None:
        self.scores, self.seen = scores, []

    def __call__(
        self, x_BCHW: Tensor, labels_B: Tensor, noise: torch.Generator, share: BatchShard = WHOLE
    ) -> tuple[Tensor, dict[str, Tensor]]:
        score = self.scores[len(self.seen)]
        self.seen.append(x_BCHW.detach().clone())
        total = x_BCHW.mean() * 0 + score
        return total, {"adv": torch.tensor(float(len(self.seen)))}


@pytest.fixture
def networks(teacher_file):
    student = build_architecture("resnet8-w2", num_classes=3, in_channels=1).build()
    return teacher_of(teacher_file).classifier, student


def scripted(networks, scores: list[float], **changes) -> tuple[Synthesis, Scripted]:
    recipe = tiny(synthesis__steps=len(scores), **changes)
    synthesis = recipe.synthesis.build(setting_of(networks, recipe, len(LABELS)))
    synthesis._objective = Scripted(scores)
    return synthesis, synthesis._objective


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([5.0, 4.0, 3.0], 3),
        ([3.0, 4.0, 5.0], 1),
        ([5.0, 1.0, 3.0, 1.0], 2),
        ([NAN, 7.0, NAN, INF, 8.0], 2),
        ([7.0, NAN], 1),
        ([-1.0, INF, -3.0], 3),
    ],
)
def test_the_batch_with_the_lowest_loss_is_kept(scores, best, networks):
    plain = {"augmentation__crop_padding": 0, "augmentation__flip": False}
    synthesis, objective = scripted(networks, scores, **plain)
    made = synthesis.make(LABELS, Randomness(0, 1))
    assert (made.step, made.loss) == (best, scores[best - 1])
    assert made.terms == {"adv": float(best)}
    assert torch.equal(made.x_BCHW, objective.seen[best - 1])
    assert torch.equal(made.last_BCHW, objective.seen[-1])
    assert not made.x_BCHW.requires_grad
    assert not made.last_BCHW.requires_grad


def test_what_is_kept_is_plain_and_what_is_seen_is_augmented(networks):
    augmented, objective = scripted(networks, [2.0, 1.0, 3.0], augmentation__crop_padding=3)
    made = augmented.make(LABELS, Randomness(0, 1))
    assert not torch.equal(made.x_BCHW, objective.seen[1])
    assert torch.equal(made.last_BCHW, objective.seen[2])
    # Zeros come in with the crop; a sigmoid gives none.
    assert bool((objective.seen[1] == 0).any())
    assert 0 < float(made.x_BCHW.min()) <= float(made.x_BCHW.max()) < 1
    assert not torch.equal(objective.seen[0] == 0, objective.seen[1] == 0)  # another each step


def test_what_was_kept_is_not_written_to_later(networks):
    recipe = tiny(synthesis__steps=4)
    synthesis = recipe.synthesis.build(setting_of(networks, recipe, len(LABELS)))
    first = synthesis.make(LABELS, Randomness(0, 1))
    kept, last = first.x_BCHW.clone(), first.last_BCHW.clone()
    synthesis.make(LABELS, Randomness(0, 2))
    assert torch.equal(first.x_BCHW, kept)
    assert torch.equal(first.last_BCHW, last)


def test_an_epoch_begins_with_a_new_generator_and_owes_nothing_to_the_last(networks):
    recipe = tiny(synthesis__steps=2)
    fresh, used = (
        recipe.synthesis.build(setting_of(networks, recipe, len(LABELS))) for _ in range(2)
    )
    first = used.make(LABELS, Randomness(0, 1))
    second = used.make(LABELS, Randomness(0, 2))
    assert torch.equal(fresh.make(LABELS, Randomness(0, 2)).x_BCHW, second.x_BCHW)
    assert not torch.equal(first.x_BCHW, second.x_BCHW)


def test_no_finite_loss_is_said_with_the_terms(networks):
    synthesis, _ = scripted(networks, [NAN, INF])
    with pytest.raises(UserError, match=r"not finite .*\(adv 1\).*distillation\.lr") as caught:
        synthesis.make(LABELS, Randomness(0, 1))
    assert "\n" not in str(caught.value)


def test_networks_are_as_before_also_when_it_fails(networks):
    teacher, student = networks
    student.train()
    student.layer1.eval()  # modes may be mixed
    for scores in ([1.0, 2.0], [NAN]):
        before = [
            {key: value.clone() for key, value in network.state_dict().items()}
            for network in networks
        ]
        modes = [module.training for network in networks for module in network.modules()]
        synthesis, _ = scripted(networks, scores)
        with pytest.raises(UserError) if scores == [NAN] else nullcontext():
            synthesis.make(LABELS, Randomness(0, 1))
        for network, state in zip(networks, before, strict=True):
            after = network.state_dict()
            assert all(torch.equal(after[key], state[key]) for key in state)
            assert all(parameter.grad is None for parameter in network.parameters())
        assert modes == [module.training for network in networks for module in network.modules()]
        assert not any(parameter.requires_grad for parameter in teacher.parameters())
        assert all(parameter.requires_grad for parameter in student.parameters())


@pytest.mark.parametrize("match_student", [True, False])
def test_a_student_without_batch_normalisation(match_student, networks):
    """There is nothing to match in it, which is no mistake: the teacher's layers are matched."""
    student = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(72, 3))
    recipe = tiny(synthesis__match_student=match_student)
    synthesis = recipe.synthesis.build(setting_of((networks[0], student), recipe, len(LABELS)))
    assert synthesis.make(LABELS, Randomness(0, 1)).terms["bn"] > 0
