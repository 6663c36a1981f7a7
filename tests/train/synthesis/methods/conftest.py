"""The networks that methods are tried with."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from ferd_eval.models import build_architecture
from tests.train.student_runs import teacher_of


@pytest.fixture
def networks(teacher_file) -> tuple[nn.Module, nn.Module]:
    """A teacher and another student."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        student = build_architecture("resnet8-w2", num_classes=3, in_channels=1).build()
    return teacher_of(teacher_file).classifier, student.eval()
