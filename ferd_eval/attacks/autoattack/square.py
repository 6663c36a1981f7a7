"""Square: a random search that only looks at the scores.

Andriushchenko, Croce, Flammarion & Hein, "Square Attack: a query-efficient black-box adversarial
attack via random search", ECCV 2020, algorithms 1 and 2 (L∞), with the details of AutoAttack's
implementation that change verdicts. L slots, C channels, H × W pixels, S steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import sqrt

import torch
from torch import Tensor

from ferd_eval.attacks.autoattack.batched_search import Search, SlotState
from ferd_eval.attacks.autoattack.rows import images_of, is_cheap_to_look_at, overwrite
from ferd_eval.attacks.losses import margin
from ferd_eval.attacks.problem import Problem

#: Proposals after which the window's area is halved, however many queries there are (§3.2).
HALVINGS = (11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001)

#: Steps whose random numbers are made in one go; part of the key, so that a search with fewer
#: queries is the beginning of a longer one.
_DRAWN_TOGETHER = 1000


def window_sides(
    queries: int, p_init: float, height: int, width: int, *, rescaled: bool = False
) -> list[int]:
    """Side of each proposal's window in pixels.

    The window first covers the share `p_init` of the image: at 32 × 32 pixels and 0.8 its side is
    29, later 20, 14, 10, 7, 5, 4 and 3. `rescaled` stretches the schedule of 10 000 proposals to
    the number of queries.
    """
    sides = []
    for proposal in range(queries):
        at = proposal * 10_000 // queries if rescaled else proposal
        halved = sum(at >= halving for halving in HALVINGS)
        side = round(sqrt(p_init / 2**halved * height * width))
        sides.append(min(max(side, 1), height, width))
    return sides


@dataclass(frozen=True, eq=False)
class SquareState(SlotState):
    """The best image of each slot, and the whole list of windows it is going to try."""

    best_LCHW: Tensor
    best_margin_L: Tensor
    low_LCHW: Tensor
    high_LCHW: Tensor
    edge_LS4: Tensor  # of the window: first row and column, and those after the last, int16
    sign_LSC: Tensor  # which way a window moves each channel; 0 at the first step, int8


@dataclass(frozen=True)
class Square(Search[SquareState]):
    """Vertical stripes on the border of the ball, then one square window after the other.

    A window pushes each of its channels to one border of the ball. It is kept if it brings the
    image closer to a wrong class. Black-box: there is no backward pass.
    """

    family = "square"
    targeted = False
    backward_per_step = 0

    queries: int = 5000  #: windows tried
    p_init: float = 0.8  #: share of the image covered by the first windows
    rescaled: bool = False  #: whether the schedule of 10 000 windows is stretched to `queries`

    @property
    def steps(self) -> int:
        """Images tried: the stripes and one for each window."""
        return self.queries + 1

    def begin(self, problem: Problem) -> SquareState:
        """The stripes, and every window of the search.

        All numbers are drawn here. Made step by step, keyed numbers would cost a small network
        more than its forward pass. And parity with the reference needs no more than the order of
        the draws: there the stripes are drawn once for the whole batch, and what a step draws is
        shared by all images and independent of how many are left. Images that leave early thus
        shift nothing for those that stay, neither there nor in a list drawn beforehand; numbers
        left over when all have fallen meet nobody, since each batch seeds the generator anew.
        """
        x_LCHW = problem.x_BCHW
        slots, channels, _, width = x_LCHW.shape
        low_LCHW, high_LCHW = problem.box
        stripes_LC1W = _coin(problem.noise.uniform((channels, 1, width), torch.float32))
        start_LCHW = x_LCHW + problem.threat.radius * stripes_LC1W.to(x_LCHW.dtype)
        start_LCHW = start_LCHW.clamp_(0, 1)

        still_L14 = torch.zeros(slots, 1, 4, dtype=torch.int16, device=x_LCHW.device)
        still_L1C = torch.zeros(slots, 1, channels, dtype=torch.int8, device=x_LCHW.device)
        drawn = list(self._windows(problem))
        return SquareState(
            adv_LCHW=start_LCHW,
            best_LCHW=start_LCHW.clone(),
            best_margin_L=torch.full_like(x_LCHW[:, 0, 0, 0], -torch.inf),
            low_LCHW=low_LCHW,
            high_LCHW=high_LCHW,
            edge_LS4=torch.cat([still_L14, *(edge_LT4 for edge_LT4, _ in drawn)], dim=1),
            sign_LSC=torch.cat([still_L1C, *(sign_LTC for _, sign_LTC in drawn)], dim=1),
        )

    def advance(
        self, problem: Problem, state: SquareState, step_L: Tensor
    ) -> tuple[SquareState, Tensor]:
        """Try one window (the stripes are tried as they are) and keep it if it helps."""
        tried_LCHW = self._move(problem, state, step_L)
        logits_LK = problem.logits(tried_LCHW)
        margin_L = margin(logits_LK, problem.labels_B)
        # As in the reference, a tie of the label with another class ends the search, whichever
        # of the two the network is taken to predict.
        open_L = state.best_margin_L != 0
        keep_L = open_L & (margin_L > state.best_margin_L)
        overwrite(keep_L, [(state.best_LCHW, tried_LCHW)])
        after = SquareState(
            adv_LCHW=tried_LCHW,
            best_LCHW=state.best_LCHW,
            best_margin_L=torch.where(keep_L, margin_L, state.best_margin_L),
            low_LCHW=state.low_LCHW,
            high_LCHW=state.high_LCHW,
            edge_LS4=state.edge_LS4,
            sign_LSC=state.sign_LSC,
        )
        return after, open_L & self._looks_wrong(problem, logits_LK, margin_L)

    def best(self, problem: Problem, state: SquareState) -> Tensor:
        return state.best_LCHW

    def _looks_wrong(self, problem: Problem, logits_LK: Tensor, margin_L: Tensor) -> Tensor:
        """`Problem.looks_wrong`, with a short cut for the common case: nothing wrong anywhere."""
        if is_cheap_to_look_at(margin_L):
            least, most = torch.aminmax(margin_L)
            if -torch.inf < float(least) and float(most) < -problem.slack:
                return torch.zeros_like(margin_L, dtype=torch.bool)
        return problem.looks_wrong(logits_LK)

    def _windows(self, problem: Problem) -> Iterator[tuple[Tensor, Tensor]]:
        """Edges of T windows at a time, as in the state, and a sign for each channel.

        The last row and column are never reached, as in the reference: an offset is the integer
        part of u · (H − side), u < 1.
        """
        channels, height, width = problem.x_BCHW.shape[1:]
        sides = window_sides(self.queries, self.p_init, height, width, rescaled=self.rescaled)
        for first in range(0, self.queries, _DRAWN_TOGETHER):
            side_T = torch.tensor(sides[first : first + _DRAWN_TOGETHER])
            # Draw 0 made the stripes. Offsets are rounded in float32, as in the reference, whatever
            # the network's precision.
            draw = 1 + first // _DRAWN_TOGETHER
            u_LTF = problem.noise.per_step((len(side_T), 2 + channels), torch.float32, draw)
            side_T = side_T.to(u_LTF.device)
            room_T2 = torch.stack([height - side_T, width - side_T], dim=1)
            corner_LT2 = (u_LTF[..., :2] * room_T2).to(torch.int16)
            opposite_LT2 = corner_LT2 + side_T.to(torch.int16).unsqueeze(1)
            yield torch.cat([corner_LT2, opposite_LT2], dim=2), _coin(u_LTF[..., 2:]).to(torch.int8)

    def _move(self, problem: Problem, state: SquareState, step_L: Tensor) -> Tensor:
        """Push the window's pixels to the border of the ball, or of the pixel range.

        The paper adds twice the radius, which gets a pixel to the other border, give or take a
        rounding. That last bit would make an image that changes nothing a gain or a loss by the
        rounding of the network, thus by the neighbours in the batch: four times is always enough.
        """
        best_LCHW = state.best_LCHW
        slots, _, height, width = best_LCHW.shape
        steps = state.edge_LS4.shape[1]
        place_L = torch.arange(0, slots * steps, steps, device=step_L.device).add_(step_L)
        edge_L4 = state.edge_LS4.flatten(0, 1).index_select(0, place_L)
        sign_LC = state.sign_LSC.flatten(0, 1).index_select(0, place_L).to(best_LCHW.dtype)
        stairs = _stairs(max(height, width), best_LCHW.dtype, step_L.device)
        stair_L4P = stairs.index_select(0, edge_L4.flatten().int()).view(slots, 4, -1)
        inside_L2P = stair_L4P[:, :2] - stair_L4P[:, 2:]
        row_LH, column_LW = inside_L2P[:, 0, :height], inside_L2P[:, 1, :width]
        sign_LC.mul_(4 * problem.threat.radius)
        if best_LCHW.is_contiguous():  # an image is C · H lines, else H
            line_LO = (sign_LC.unsqueeze(2) * row_LH.unsqueeze(1)).flatten(1)
            pixel_LI = column_LW
        else:
            line_LO = row_LH
            pixel_LI = (column_LW.unsqueeze(2) * sign_LC.unsqueeze(1)).flatten(1)
        push_LD = (line_LO.unsqueeze(2) * pixel_LI.unsqueeze(1)).flatten(1)
        tried_LCHW = images_of(push_LD, best_LCHW).add_(best_LCHW)
        return torch.clamp(tried_LCHW, state.low_LCHW, state.high_LCHW, out=tried_LCHW)


@cache
def _stairs(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Row e is 0 at the first e of `size` places and 1 from there on: rows less rows make windows.

    Fewer and faster calls than comparisons with places.
    """
    return torch.ones(size + 1, size, dtype=dtype, device=device).triu()


def _coin(u: Tensor) -> Tensor:
    """The sign of 2u − 1: −1 or 1, and 0 for u = ½ exactly, as in the reference."""
    return (2 * u - 1).sign()
