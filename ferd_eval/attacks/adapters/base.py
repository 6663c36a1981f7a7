"""Base of the adapters of third-party attacks: wrapped model, restored global state.

B batch, P images that are classified correctly, K classes, C channels, H × W pixels.
"""

from __future__ import annotations

import io
import logging
import random
import sys
import threading
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from ferd_eval.attacks.autoattack.ensemble import SearchAttack
from ferd_eval.attacks.base import Attack
from ferd_eval.attacks.pixel_bounds import distance_inside, inside
from ferd_eval.attacks.plan import PlannedAttack
from ferd_eval.attacks.problem import Perturbed, Problem
from ferd_eval.attacks.threat import Threat
from ferd_eval.errors import UserError


class WrappedModel(nn.Module):
    """A problem's network as the packages expect one.

    They call `view` on gradients, which fails on those of channels-last networks and on expanded
    ones; they work in float32 whatever the network does; and some write into the logits they get.
    So gradients are laid out afresh, precisions converted and logits copied. Passes are counted
    where they happen. Gradients are taken inside the pixel range where the network needs that.
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.network = problem.model
        self._passes = problem.passes
        self._dtype = problem.x_BCHW.dtype
        # The packages put back the mode they find; a fresh module would be found in train mode.
        self.eval()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, B×K, in the images' precision."""
        self._passes.forward += len(x_BCHW)
        seen_BCHW = x_BCHW.view_as(x_BCHW)
        if seen_BCHW.requires_grad:
            seen_BCHW.register_hook(self._pass_backward)  # type: ignore[no-untyped-call]
            seen_BCHW = seen_BCHW.to(self._dtype)
            seen_BCHW = inside(seen_BCHW, distance_inside(self.network, seen_BCHW, self._passes))
        logits_BK: Tensor = self.network(seen_BCHW.to(self._dtype))
        return logits_BK.to(x_BCHW.dtype, copy=True)

    def _pass_backward(self, gradient_BCHW: Tensor) -> Tensor:
        self._passes.backward += len(gradient_BCHW)
        return gradient_BCHW.contiguous()


@contextmanager
def isolated_globals(*loggers: str) -> Iterator[None]:
    """Restore global state after a package ran, also when it raised; drop what it prints and logs.

    On leaving, the random states of Python and numpy and the trace functions are as before: the
    check for dynamic defences in AutoAttack ends with ``sys.settrace(None)``, which silently stops
    debuggers and the measuring of coverage. torch's random state is restored by
    `ferd_eval.models.frozen.frozen`, in which every attack runs. `loggers` are the names of the
    package's own.
    """
    drawn, drawn_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - theirs
    trace, trace_of_threads = sys.gettrace(), threading.gettrace()
    logs = [(log, log.disabled) for log in map(logging.getLogger, loggers)]
    for log, _ in logs:
        log.disabled = True
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        for log, was_disabled in logs:
            log.disabled = was_disabled
        random.setstate(drawn)
        np.random.set_state(drawn_numpy)  # noqa: NPY002
        threading.settrace(trace_of_threads)
        sys.settrace(trace)


@dataclass(frozen=True)
class Adapter(Attack):
    """A third-party package's counterpart of one of our attacks."""

    engine: ClassVar[str]  #: its name for ``--engine``

    original: Attack  #: our attack, whose family, steps, targets and constants it keeps

    @property
    def family(self) -> str:  # type: ignore[override]
        """As the original: reports show the same stages."""
        return self.original.family

    @property
    def steps(self) -> int:  # type: ignore[override]
        return self.original.steps

    def choose_targets(self, clean_logits_BK: Tensor, labels_B: Tensor) -> Tensor | None:
        return self.original.choose_targets(clean_logits_BK, labels_B)

    def passes_per_image(self, num_classes: int) -> tuple[int, int]:
        """As the original, which the searches of the packages exceed a little."""
        return self.original.passes_per_image(num_classes)

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        return {**self.original.constants(threat), "engine": self.engine}


@dataclass(frozen=True)
class AdaptedSearch(Adapter):
    """One of AutoAttack's searches in a package. Subclasses write `find`.

    As in ours, images that are misclassified anyway are left as they are. The packages do not tell
    when an image fell, nor toward which class: steps are those of an image that survives, and
    stages carry the family's name alone.
    """

    original: SearchAttack  #: our search
    package: str  #: whose code is run
    version: str  #: the package's

    @abstractmethod
    def find(self, network: nn.Module, problem: Problem) -> Tensor:
        """Perturbed images, P×C×H×W.

        The network is a `WrappedModel`; the problem's images are contiguous, in float32, and all
        classified correctly.
        """

    def perturb(self, problem: Problem) -> Perturbed:
        correct_B = problem.clean_logits_BK.argmax(dim=1) == problem.labels_B
        rows_P = correct_B.nonzero().squeeze(1)
        adv_BCHW = problem.x_BCHW.clone()
        if len(rows_P):
            correct = problem.select(rows_P, None)
            correct = replace(correct, x_BCHW=correct.x_BCHW.float().contiguous())
            adv_BCHW[rows_P] = self.find(WrappedModel(problem), correct).to(adv_BCHW)
        targets = self.original.targets_among(problem.clean_logits_BK.shape[1])
        return Perturbed(
            adv_BCHW,
            correct_B.long() * (targets * self.original.search.steps),
            tuple(self.family if is_correct else None for is_correct in correct_B.tolist()),
        )

    def constants(self, threat: Threat) -> Mapping[str, Any]:
        return {
            **super().constants(threat),
            "random_numbers": "torch's global generator, seeded alike for every batch",
            "engine": self.engine,
            "package": self.package,
            "package_version": self.version,
        }


def require_dlr(planned: PlannedAttack, num_classes: int) -> None:
    """Raise UserError where an attack needs the targeted DLR and there are fewer than four classes.

    That loss divides by a difference to the fourth logit.
    """
    if num_classes < 4 and any(attack.family == "apgd-t" for attack in planned.attacks):
        raise UserError(
            f"{planned.id} needs four classes for the loss of apgd-t, and there are {num_classes}. "
            "Use --engine native, which puts a plain difference of logits in its place."
        )
