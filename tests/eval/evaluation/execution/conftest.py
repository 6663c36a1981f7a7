"""What the tests of workers share."""

from __future__ import annotations

import pytest
import torch

from ferd_eval.runtime.progress import ProgressReporter
from tests.conftest import tiny_data

ASKED = {"attacks": "pgd,apgd-ce", "threat": "0.06", "batch_size": 64}


class Notes(ProgressReporter):
    def __init__(self):
        self.lines: list[str] = []

    def note(self, text):
        self.lines.append(text)


@pytest.fixture
def data():
    return tiny_data(300)


@pytest.fixture
def notes():
    return Notes()


@pytest.fixture(scope="module")
def one_thread():
    """The network's order of additions is that of one thread in all processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr("ferd_eval.evaluation.run_manifest.search_unit", lambda *_: 32)
