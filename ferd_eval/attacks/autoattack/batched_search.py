"""Attacks that stop at the first hit, on batches that stay full.

Each image of a batch is in a lane with its own step counter and its own target. A lane whose image
has fallen, or has survived its last step, is vacated, and the next waiting image moves in: every
forward pass runs on a full batch until the queue is empty. Nothing an image meets depends on its
neighbours. L lanes, N images, M targets, K classes, C channels, H × W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from ferd_eval.attacks.base import Problem, predict
from ferd_eval.attacks.losses import margin

#: Steps between two looks at what has fallen. Looking waits for an accelerator to catch up, and a
#: fallen image in its lane wastes at most this many steps; on a CPU looking is free.
LOOK_EVERY = {"cpu": 1}
_LOOK_EVERY_ELSEWHERE = 5


def wide(value_L: Tensor) -> Tensor:
    """One number for each lane, ready to meet its image: L×1×1×1."""
    return value_L[:, None, None, None]


def pick(mask_L: Tensor, yes_LCHW: Tensor, no_LCHW: Tensor) -> Tensor:
    """`torch.where` by lane; one of the two untouched where lanes agree and looking is free."""
    if mask_L.device.type == "cpu":
        if not bool(mask_L.any()):
            return no_LCHW
        if bool(mask_L.all()):
            return yes_LCHW
    return torch.where(wide(mask_L), yes_LCHW, no_LCHW)


@dataclass(frozen=True, eq=False)
class LaneState:
    """What a search remembers of each lane; every field is a tensor with lanes first.

    Attributes:
        adv_LCHW: the image just tried.
    """

    adv_LCHW: Tensor

    def select(self, lanes_L: Tensor) -> Self:
        """The state of some lanes, by index."""
        return replace(self, **{f.name: getattr(self, f.name)[lanes_L] for f in fields(self)})

    def join(self, other: Self) -> Self:
        """This state's lanes followed by another's."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return replace(self, **{name: torch.cat(pair) for name, pair in pairs.items()})


State = TypeVar("State", bound=LaneState)


@dataclass(frozen=True)
class Search(ABC, Generic[State]):
    """An attack as steps in lanes. Subclasses write `begin`, `advance` and, if need be, `best`.

    Attributes:
        family: name in reports, and part of the random numbers' key.
        targeted: whether `Problem.targets_B` is needed.
        forward_per_step: forward passes of one call of `advance`.
        backward_per_step: backward passes of one call of `advance`.
    """

    family: ClassVar[str]
    targeted: ClassVar[bool] = True
    forward_per_step: ClassVar[int] = 1
    backward_per_step: ClassVar[int] = 1

    @property
    @abstractmethod
    def steps(self) -> int:
        """Calls of `advance` that one image and target get at most."""

    @abstractmethod
    def begin(self, problem: Problem) -> State:
        """The state of images that have just moved in. No forward pass here: it would be small."""

    @abstractmethod
    def advance(self, problem: Problem, state: State, step_L: Tensor) -> tuple[State, Tensor]:
        """Take one step in every lane.

        Args:
            problem: images, labels, targets and noise of the lanes, in their order.
            state: as `begin`, `advance`, `LaneState.select` or `LaneState.join` left it.
            step_L: how many steps each lane has taken before, from 0 to ``steps − 1`` (int64).

        Returns:
            The new state, and whether each lane's `adv_LCHW` is misclassified (L, bool).
        """

    def best(self, problem: Problem, state: State) -> Tensor:
        """The image to report for lanes that survive; default: the last one tried."""
        return state.adv_LCHW

    def fixed_constants(self) -> Mapping[str, Any]:
        """Numbers that define the search beside its fields, for the record."""
        return {}


@dataclass(frozen=True, eq=False)
class Breaks:
    """What a search found for each of N images.

    Attributes:
        adv_NCHW: the image that fooled the network, else the nearest miss among what the searches
            toward each target ended with.
        step_N: steps spent on it, over all targets, up to its fall; 0 if it needed none.
        target_N: the class aimed at when it fell, −1 if it did not fall or none was aimed at.
        fell_N: whether a fresh forward pass confirmed that it is misclassified.
    """

    adv_NCHW: Tensor
    step_N: Tensor
    target_N: Tensor
    fell_N: Tensor

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """What was found for several groups of images, one after the other."""
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def run_search(
    search: Search[State], problem: Problem, targets_NM: Tensor | None, capacity: int
) -> Breaks:
    """Search for a misclassified neighbour of every image that is classified correctly.

    Targets are tried one after the other, each from a fresh start, until the image falls. A hit
    counts once a fresh forward pass confirms it; otherwise the search goes on.

    Args:
        search: the attack.
        problem: N images; its own targets are ignored.
        targets_NM: classes to aim at, in order; None for an untargeted search.
        capacity: lanes, that is, images per forward pass.
    """
    look_every = LOOK_EVERY.get(problem.x_BCHW.device.type, _LOOK_EVERY_ELSEWHERE)
    board = _Board(problem, targets_NM, search.steps)
    lanes: _Lanes[State] | None = None
    while lanes is not None or board.waiting:
        lanes = board.fill(search, lanes, capacity)
        for _ in range(min(look_every, lanes.left(search.steps))):
            lanes = _advance(search, lanes)
        lanes = board.retire(search, _confirm(lanes))
    return Breaks(board.adv_NCHW, board.step_N, board.target_N, board.fell_N)


@dataclass(frozen=True, eq=False)
class _Lanes(Generic[State]):
    """The occupied lanes: which image, which of its targets, how far, and what has fallen.

    `steps` is `step_L` on the host: reading it waits for no device.
    """

    image_L: Tensor
    round_L: Tensor
    step_L: Tensor
    steps: list[int]
    fell_at_L: Tensor  # step, 0 while standing
    found_LCHW: Tensor
    problem: Problem
    state: State

    def left(self, most: int) -> int:
        """Steps until the first lane has had them all."""
        return most - max(self.steps)


def _advance(search: Search[State], lanes: _Lanes[State]) -> _Lanes[State]:
    """One step in every lane; the first hit of a lane is remembered."""
    state, hit_L = search.advance(lanes.problem, lanes.state, lanes.step_L)
    first_L = hit_L & (lanes.fell_at_L == 0)
    return replace(
        lanes,
        step_L=lanes.step_L + 1,
        steps=[step + 1 for step in lanes.steps],
        fell_at_L=torch.where(first_L, lanes.step_L + 1, lanes.fell_at_L),
        found_LCHW=pick(first_L, state.adv_LCHW, lanes.found_LCHW),
        state=state,
    )


def _confirm(lanes: _Lanes[State]) -> _Lanes[State]:
    """Check the hits by a fresh forward pass; those that fail are up and standing again."""
    fell = lanes.fell_at_L.nonzero().squeeze(1)
    if len(fell) == 0:
        return lanes
    found = lanes.problem.threat.project(lanes.found_LCHW[fell], lanes.problem.x_BCHW[fell])
    labels = lanes.problem.labels_B[fell]
    stood = fell[predict(lanes.problem.verdict_logits(found), labels) == labels]
    fell_at_L = lanes.fell_at_L.index_fill(0, stood, 0)
    return replace(
        lanes, fell_at_L=fell_at_L, found_LCHW=lanes.found_LCHW.index_copy(0, fell, found)
    )


class _Board:
    """Who waits, and what became of whom."""

    def __init__(self, problem: Problem, targets_NM: Tensor | None, steps: int) -> None:
        correct_N = problem.clean_logits_BK.argmax(dim=1) == problem.labels_B
        self._problem = problem
        self._targets_NM = targets_NM
        self._steps = steps
        self._rounds = 1 if targets_NM is None else targets_NM.shape[1]
        self.adv_NCHW = problem.x_BCHW.clone()
        self.step_N = correct_N.long() * (steps * self._rounds)
        self.target_N = torch.full_like(self.step_N, -1)
        self.fell_N = torch.zeros_like(correct_N)
        self._margin_N = torch.full_like(problem.clean_logits_BK[:, 0], -torch.inf)
        #: (image, round) in the order in which they will move in.
        self.waiting = deque((image, 0) for image in correct_N.nonzero().squeeze(1).tolist())

    def fill(
        self, search: Search[State], lanes: _Lanes[State] | None, capacity: int
    ) -> _Lanes[State]:
        """Move waiting images into the free lanes."""
        free = capacity - (0 if lanes is None else len(lanes.steps))
        moving = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
        if not moving:
            assert lanes is not None
            return lanes
        image_L, round_L = torch.tensor(moving, device=self.adv_NCHW.device).unbind(1)
        problem = self._select(image_L, round_L)
        new = _Lanes(
            image_L=image_L,
            round_L=round_L,
            step_L=torch.zeros_like(image_L),
            steps=[0] * len(moving),
            fell_at_L=torch.zeros_like(image_L),
            found_LCHW=problem.x_BCHW,
            problem=problem,
            state=search.begin(problem),
        )
        return new if lanes is None else self._join(lanes, new)

    def retire(self, search: Search[State], lanes: _Lanes[State]) -> _Lanes[State] | None:
        """Note what has fallen or survived, and vacate those lanes."""
        fell = lanes.fell_at_L.tolist()
        over = [step >= search.steps for step in lanes.steps]
        fallen = [lane for lane, at in enumerate(fell) if at]
        survived = [lane for lane, at in enumerate(fell) if not at and over[lane]]
        if fallen:
            self._note_fallen(lanes, torch.tensor(fallen, device=lanes.image_L.device))
        if survived:
            self._note_survived(search, lanes, survived)
        gone = {*fallen, *survived}
        if not gone:
            return lanes
        staying = [lane for lane in range(len(fell)) if lane not in gone]
        return self._keep(lanes, staying) if staying else None

    def _note_fallen(self, lanes: _Lanes[State], fallen_F: Tensor) -> None:
        image_F = lanes.image_L[fallen_F]
        self.adv_NCHW[image_F] = lanes.found_LCHW[fallen_F]
        rounds_before_F = lanes.round_L[fallen_F]
        self.step_N[image_F] = rounds_before_F * self._steps + lanes.fell_at_L[fallen_F]
        self.fell_N[image_F] = True
        if lanes.problem.targets_B is not None:
            self.target_N[image_F] = lanes.problem.targets_B[fallen_F]

    def _note_survived(
        self, search: Search[State], lanes: _Lanes[State], survived: list[int]
    ) -> None:
        """Those with another target wait for it at the head of the queue, in lane order."""
        lanes_S = torch.tensor(survived, device=lanes.image_L.device)
        image_S = lanes.image_L[lanes_S]
        best_SCHW = search.best(lanes.problem, lanes.state)[lanes_S]
        margin_S = margin(lanes.problem.logits(best_SCHW), lanes.problem.labels_B[lanes_S])
        nearer_S = margin_S > self._margin_N[image_S]
        self._margin_N[image_S] = torch.where(nearer_S, margin_S, self._margin_N[image_S])
        self.adv_NCHW[image_S] = pick(nearer_S, best_SCHW, self.adv_NCHW[image_S])
        images, rounds = lanes.image_L[lanes_S].tolist(), lanes.round_L[lanes_S].tolist()
        again = [(i, r + 1) for i, r in zip(images, rounds, strict=True) if r + 1 < self._rounds]
        self.waiting.extendleft(reversed(again))

    def _keep(self, lanes: _Lanes[State], staying: list[int]) -> _Lanes[State]:
        keep = torch.tensor(staying, device=lanes.image_L.device)
        image_L, round_L = lanes.image_L[keep], lanes.round_L[keep]
        return _Lanes(
            image_L=image_L,
            round_L=round_L,
            step_L=lanes.step_L[keep],
            steps=[lanes.steps[lane] for lane in staying],
            fell_at_L=lanes.fell_at_L[keep],
            found_LCHW=lanes.found_LCHW[keep],
            problem=self._select(image_L, round_L),
            state=lanes.state.select(keep),
        )

    def _join(self, lanes: _Lanes[State], new: _Lanes[State]) -> _Lanes[State]:
        image_L = torch.cat([lanes.image_L, new.image_L])
        round_L = torch.cat([lanes.round_L, new.round_L])
        return _Lanes(
            image_L=image_L,
            round_L=round_L,
            step_L=torch.cat([lanes.step_L, new.step_L]),
            steps=lanes.steps + new.steps,
            fell_at_L=torch.cat([lanes.fell_at_L, new.fell_at_L]),
            found_LCHW=torch.cat([lanes.found_LCHW, new.found_LCHW]),
            problem=self._select(image_L, round_L),
            state=lanes.state.join(new.state),
        )

    def _select(self, image_L: Tensor, round_L: Tensor) -> Problem:
        targets_L = None if self._targets_NM is None else self._targets_NM[image_L, round_L]
        return self._problem.select(image_L, targets_L)
