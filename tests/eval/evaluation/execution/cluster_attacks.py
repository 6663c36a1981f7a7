"""Attacks for tests of clusters: in a module that workers can import."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from ferd_eval import Attack
from ferd_eval.attacks import PGD


class KillsItsWorker(Attack):
    """PGD; but its process dies when it meets an image, so often as there are files to remove."""

    family = "pgd"
    steps = 3
    name = "deadly"

    def __init__(self, folder: Path, image: int, times: int) -> None:
        self.folder, self.image = folder, image
        folder.mkdir()
        for number in range(times):
            (folder / str(number)).touch()

    def constants(self, threat):
        return {"steps": self.steps}

    def perturb(self, problem):
        left = sorted(self.folder.iterdir())
        if left and self.image in problem.noise.indices_B.tolist():
            left[0].unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return PGD(steps=3).perturb(problem)


class Wrong(Attack):
    family = "wrong"
    steps = 1

    def perturb(self, problem):
        return problem.x_BCHW.double()[:, :, :1]
