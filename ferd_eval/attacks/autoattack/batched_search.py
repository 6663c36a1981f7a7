"""Attacks that stop at the first hit, on batches that stay full.

Each image of a batch is in a slot with its own step counter and its own target. A slot whose image
has fallen, or has survived its last step, is vacated, and the next waiting image moves in: every
forward pass runs on a full batch until the queue is empty. Nothing an image meets depends on its
neighbours. L slots, N images, M targets, K classes, C channels, H × W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from ferd_eval.attacks.autoattack.rows import is_cheap_to_look_at, overwrite
from ferd_eval.attacks.losses import margin
from ferd_eval.attacks.problem import Problem, predict

#: Steps between two looks at which images have fallen. Looking waits for an accelerator to catch
#: up, and a fallen image wastes at most this many steps of its slot; on a CPU looking is free.
LOOK_EVERY = {"cpu": 1}
_LOOK_EVERY_ELSEWHERE = 5


def wide(value_L: Tensor) -> Tensor:
    """One number for each slot, ready to meet its image: L×1×1×1."""
    return value_L[:, None, None, None]


@dataclass(frozen=True, eq=False)
class SlotState:
    """What a search remembers of each slot; every field is a tensor with slots first."""

    adv_LCHW: Tensor  #: the image just tried

    def select(self, slots_L: Tensor) -> Self:
        """The state of some slots, by index."""
        return replace(self, **{f.name: getattr(self, f.name)[slots_L] for f in fields(self)})

    def join(self, other: Self) -> Self:
        """This state's slots followed by another's."""
        pairs = {f.name: (getattr(self, f.name), getattr(other, f.name)) for f in fields(self)}
        return replace(self, **{name: torch.cat(pair) for name, pair in pairs.items()})


State = TypeVar("State", bound=SlotState)


@dataclass(frozen=True)
class Search(ABC, Generic[State]):
    """An attack as steps in slots. Subclasses write `begin`, `advance` and, if need be, `best`."""

    family: ClassVar[str]  #: name in reports, and part of the random numbers' key
    targeted: ClassVar[bool] = True  #: whether `Problem.targets_B` is needed
    forward_per_step: ClassVar[int] = 1  #: forward passes of one call of `advance`
    backward_per_step: ClassVar[int] = 1  #: backward passes of one call of `advance`

    @property
    @abstractmethod
    def steps(self) -> int:
        """Calls of `advance` that one image and target get at most."""

    @abstractmethod
    def begin(self, problem: Problem) -> State:
        """The state of images that have just moved in. No forward pass here: it would be small."""

    @abstractmethod
    def advance(self, problem: Problem, state: State, step_L: Tensor) -> tuple[State, Tensor]:
        """Take one step in every slot. Gradients are off but in `Problem.evaluate`.

        Args:
            problem: images, labels, targets and noise of the slots, in their order.
            state: as `begin`, `advance`, `SlotState.select` or `SlotState.join` left it; its
                tensors may be written into, but for `adv_LCHW`.
            step_L: how many steps each slot has taken before, from 0 to ``steps − 1`` (int64).

        Returns:
            The new state, and whether each slot's `adv_LCHW` is misclassified (L, bool).
        """

    def best(self, problem: Problem, state: State) -> Tensor:
        """The image to report for slots that survive; default: the last one tried."""
        return state.adv_LCHW

    def fixed_constants(self) -> Mapping[str, Any]:
        """Numbers that define the search beside its fields, for the record."""
        return {}


@dataclass(frozen=True, eq=False)
class Breaks:
    """What a search found for each of N images."""

    #: The image that fooled the network, else the nearest miss among the images that the searches
    #: toward each target ended with.
    adv_NCHW: Tensor
    step_N: Tensor  #: steps spent on it, over all targets, up to its fall; 0 if it needed none
    target_N: Tensor  #: class aimed at when it fell; −1 if it did not fall or there was none
    fell_N: Tensor  #: whether a fresh forward pass confirmed that it is misclassified

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """What was found for several groups of images, one after the other."""
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)))


def run_search(
    search: Search[State], problem: Problem, targets_NM: Tensor | None, capacity: int
) -> Breaks:
    """Search for a misclassified neighbour of every image that is classified correctly.

    The classes in `targets_NM` (None for an untargeted search; the problem's own targets are
    ignored) are tried in order, each from a fresh start, until the image falls. A hit counts once a
    fresh forward pass confirms it; otherwise the search goes on. `capacity` is the number of slots:
    images per forward pass.
    """
    with torch.no_grad():  # gradients only where a search asks for them: a third less a call
        return _run_search(search, problem, targets_NM, capacity)


def _run_search(
    search: Search[State], problem: Problem, targets_NM: Tensor | None, capacity: int
) -> Breaks:
    look_every = LOOK_EVERY.get(problem.x_BCHW.device.type, _LOOK_EVERY_ELSEWHERE)
    board = _Board(problem, targets_NM, search.steps)
    slots: _Slots[State] | None = None
    while slots is not None or board.waiting:
        slots = board.fill(search, slots, capacity)
        may_have_fallen = False
        for _ in range(min(look_every, slots.left(search.steps))):
            may_have_fallen |= _advance(search, slots)
        if may_have_fallen:
            _confirm(slots)
        if may_have_fallen or not slots.left(search.steps):
            slots = board.retire(search, slots)
    return Breaks(board.adv_NCHW, board.step_N, board.target_N, board.fell_N)


@dataclass(eq=False)
class _Slots(Generic[State]):
    """The occupied slots: image, target, steps done, and whether the image has fallen.

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
        """Steps until the first slot has had them all."""
        return most - max(self.steps)


#: The fields of `_Slots` that are tensors with slots first.
_BY_SLOT = ("image_L", "round_L", "step_L", "fell_at_L", "found_LCHW")


def _advance(search: Search[State], slots: _Slots[State]) -> bool:
    """One step in every slot; the first hit of a slot is remembered. Whether there may be one."""
    slots.state, hit_L = search.advance(slots.problem, slots.state, slots.step_L)
    slots.step_L = slots.step_L + 1
    slots.steps = [step + 1 for step in slots.steps]
    if is_cheap_to_look_at(hit_L) and not bool(hit_L.any()):
        return False
    first_L = hit_L & (slots.fell_at_L == 0)
    slots.fell_at_L = torch.where(first_L, slots.step_L, slots.fell_at_L)
    overwrite(first_L, [(slots.found_LCHW, slots.state.adv_LCHW)])
    return True


def _confirm(slots: _Slots[State]) -> None:
    """Check the hits by a fresh forward pass; those that fail are up and standing again."""
    fell = slots.fell_at_L.nonzero().squeeze(1)
    if len(fell) == 0:
        return
    found = slots.problem.threat.project(slots.found_LCHW[fell], slots.problem.x_BCHW[fell])
    labels = slots.problem.labels_B[fell]
    stood = fell[predict(slots.problem.verdict_logits(found), labels) == labels]
    slots.fell_at_L[stood] = 0
    slots.found_LCHW[fell] = found


class _Board:
    """Images that wait, and the results of those that are done."""

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
        self, search: Search[State], slots: _Slots[State] | None, capacity: int
    ) -> _Slots[State]:
        """Move waiting images into the free slots."""
        free = capacity - (0 if slots is None else len(slots.steps))
        moving = [self.waiting.popleft() for _ in range(min(free, len(self.waiting)))]
        if not moving:
            assert slots is not None
            return slots
        image_L, round_L = torch.tensor(moving, device=self.adv_NCHW.device).unbind(1)
        problem = self._select(image_L, round_L)
        new = _Slots(
            image_L=image_L,
            round_L=round_L,
            step_L=torch.zeros_like(image_L),
            steps=[0] * len(moving),
            fell_at_L=torch.zeros_like(image_L),
            found_LCHW=problem.x_BCHW.clone(),
            problem=problem,
            state=search.begin(problem),
        )
        return new if slots is None else self._join(slots, new)

    def retire(self, search: Search[State], slots: _Slots[State]) -> _Slots[State] | None:
        """Record fallen and surviving images, and vacate their slots."""
        fell = slots.fell_at_L.tolist()
        over = [step >= search.steps for step in slots.steps]
        fallen = [slot for slot, at in enumerate(fell) if at]
        survived = [slot for slot, at in enumerate(fell) if not at and over[slot]]
        if fallen:
            self._note_fallen(slots, torch.tensor(fallen, device=slots.image_L.device))
        if survived:
            self._note_survived(search, slots, survived)
        gone = {*fallen, *survived}
        if not gone:
            return slots
        staying = [slot for slot in range(len(fell)) if slot not in gone]
        return self._keep(slots, staying) if staying else None

    def _note_fallen(self, slots: _Slots[State], fallen_F: Tensor) -> None:
        image_F, round_F = slots.image_L[fallen_F], slots.round_L[fallen_F]
        self.adv_NCHW[image_F] = slots.found_LCHW[fallen_F]
        self.step_N[image_F] = round_F * self._steps + slots.fell_at_L[fallen_F]
        self.fell_N[image_F] = True
        if slots.problem.targets_B is not None:
            self.target_N[image_F] = slots.problem.targets_B[fallen_F]

    def _note_survived(
        self, search: Search[State], slots: _Slots[State], survived: list[int]
    ) -> None:
        """Those with another target wait for it at the head of the queue, in slot order."""
        slots_S = torch.tensor(survived, device=slots.image_L.device)
        image_S = slots.image_L[slots_S]
        best_SCHW = search.best(slots.problem, slots.state)[slots_S]
        margin_S = margin(slots.problem.logits(best_SCHW), slots.problem.labels_B[slots_S])
        nearer_S = margin_S > self._margin_N[image_S]
        self._margin_N[image_S] = torch.where(nearer_S, margin_S, self._margin_N[image_S])
        self.adv_NCHW[image_S[nearer_S]] = best_SCHW[nearer_S]
        images, rounds = slots.image_L[slots_S].tolist(), slots.round_L[slots_S].tolist()
        again = [(i, r + 1) for i, r in zip(images, rounds, strict=True) if r + 1 < self._rounds]
        self.waiting.extendleft(reversed(again))

    def _keep(self, slots: _Slots[State], staying: list[int]) -> _Slots[State]:
        keep = torch.tensor(staying, device=slots.image_L.device)
        kept = {name: getattr(slots, name)[keep] for name in _BY_SLOT}
        problem = self._select(kept["image_L"], kept["round_L"])
        steps = [slots.steps[slot] for slot in staying]
        return _Slots(**kept, steps=steps, problem=problem, state=slots.state.select(keep))

    def _join(self, slots: _Slots[State], new: _Slots[State]) -> _Slots[State]:
        pairs = {name: (getattr(slots, name), getattr(new, name)) for name in _BY_SLOT}
        joined = {name: torch.cat(pair) for name, pair in pairs.items()}
        problem = self._select(joined["image_L"], joined["round_L"])
        state = slots.state.join(new.state)
        return _Slots(**joined, steps=slots.steps + new.steps, problem=problem, state=state)

    def _select(self, image_L: Tensor, round_L: Tensor) -> Problem:
        targets_L = None if self._targets_NM is None else self._targets_NM[image_L, round_L]
        return self._problem.select(image_L, targets_L)
