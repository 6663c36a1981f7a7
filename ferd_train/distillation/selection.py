"""The best epoch's student, chosen by held-out synthetic images alone."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from ferd_train.monitoring.held_out import HeldOutFigures


class Selection:
    """Keeps the weights of the best student so far.

    The held-out images grow from epoch to epoch and may become harder, so figures of two epochs are
    not those of the same images. Therefore the best so far is looked at anew, together with the
    newest student.

    Attributes:
        network: the best so far.
        epoch: it was trained for; 0 before the first.
    """

    def __init__(self, student: nn.Module, patience: int) -> None:
        """`patience` as in `HeldOutRecipe`."""
        self.network, self.epoch = copy.deepcopy(student), 0
        self._patience = patience

    def compared(self, student: nn.Module) -> list[nn.Module]:
        """Networks to look at: the newest one, and the best so far if there is one."""
        return [student, self.network] if self.epoch else [student]

    def choose(self, figures: Sequence[HeldOutFigures], student: nn.Module, epoch: int) -> None:
        """By the figures of `compared`; a student no better than the best does not replace it."""
        newest, *best = figures
        if not best or newest.score > best[0].score:
            self.network.load_state_dict(student.state_dict())
            self.epoch = epoch

    def ends_at(self, epoch: int) -> bool:
        """Whether patience is out after this epoch."""
        return 0 < self._patience <= epoch - self.epoch and self.epoch > 0

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "epoch": self.epoch}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.epoch = int(state["epoch"])
