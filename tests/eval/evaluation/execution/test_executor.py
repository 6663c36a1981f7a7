"""The order in which work is handed out, and that it has no say in the result."""

from __future__ import annotations

import random
import signal

import pandas as pd
import pytest
import torch

from ferd_eval import score
from ferd_eval.evaluation.execution.executor import ScheduledTask, carry_out
from ferd_eval.evaluation.execution.worker import Worker
from ferd_eval.runtime.device import DeviceChoice
from ferd_eval.runtime.signals import stopping_after
from tests.conftest import TinyNet, tiny_data

CPU = DeviceChoice.here(torch.device("cpu"), "test")


class Echo:
    """A executor that answers with the task itself, some at a time, in any order."""

    def __init__(self, places: int, seed: int = 0) -> None:
        self.choice, self.places = CPU, places
        self.at_work: dict[int, object] = {}
        self.begun: list[object] = []
        self._random = random.Random(seed)

    @property
    def has_room(self):
        return len(self.at_work) < self.places

    def begin(self, ticket, context, task):
        assert self.has_room
        self.begun.append(task)
        self.at_work[ticket] = task

    def wait(self):
        if self._random.random() < 0.3:
            return []  # nobody is done yet
        ticket = self._random.choice([*self.at_work])
        return [(ticket, self.at_work.pop(ticket))]

    def end(self):
        pass


def batches(name: str, sizes: list[int], kept: list[str]):
    """An errand of so many orders a batch; it sees that a batch is kept before the next begins."""
    for number, size in enumerate(sizes):
        before = len([each for each in kept if each.startswith(name)])
        assert before == sum(sizes[:number])
        yield [ScheduledTask(None, f"{name}{number}{i}", kept.append) for i in range(size)]
    kept.append(f"{name} end")


@pytest.mark.parametrize("places", [1, 2, 7])
@pytest.mark.parametrize("seed", range(3))
def test_every_order_is_kept_once_and_batches_wait_for_each_other(places, seed):
    kept: list[str] = []
    executor = Echo(places, seed)
    errands = [batches("a", [3, 0, 2], kept), batches("b", [1, 4], kept), batches("c", [], kept)]
    carry_out(errands, executor)
    expected = ["a00", "a01", "a02", "a20", "a21", "b00", "b10", "b11", "b12", "b13"]
    assert sorted(executor.begun) == expected
    assert sorted(kept) == sorted([*expected, "a end", "b end", "c end"])


def test_one_worker_goes_errand_by_errand_and_several_fill_the_gaps():
    alone = Echo(1)
    carry_out([batches("a", [2, 1], []), batches("b", [2], [])], alone)
    assert alone.begun == ["a00", "a01", "a10", "b00", "b01"]
    two = Echo(3)
    carry_out([batches("a", [2, 1], []), batches("b", [2], [])], two)
    assert two.begun[:3] == ["a00", "a01", "b00"]  # nobody waits for the end of a's first batch


@pytest.mark.parametrize("places", [1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_who_wants_to_stop_gets_what_is_under_way_and_nothing_more(places, seed):
    kept: list[str] = []
    executor = Echo(places, seed)

    def keep(answer):
        kept.append(answer)
        if len(kept) == 2:
            signal.raise_signal(signal.SIGTERM)  # Ctrl-C may be ignored where tests run

    errands = [iter([[ScheduledTask(None, f"{name}{i}", keep) for i in range(5)]]) for name in "ab"]
    with pytest.raises(KeyboardInterrupt), stopping_after("unit"):
        carry_out(errands, executor)
    assert sorted(kept) == sorted(executor.begun)
    assert not executor.at_work
    assert len(kept) in range(2, 2 + places)


def test_who_wanted_to_stop_before_anything_began_waits_for_nothing():
    executor = Echo(1)
    executor.wait = lambda: pytest.fail("nobody is at work")

    def work():
        signal.raise_signal(signal.SIGTERM)
        carry_out([batches("a", [2], [])], executor)

    with pytest.raises(KeyboardInterrupt), stopping_after("unit"):
        work()
    assert executor.begun == []


class Muddled(Echo):
    """Does the work for real, each unit with a worker of its own, in any order."""

    def wait(self):
        ticket = self._random.choice([*self.at_work])
        context, task = self.at_work.pop(ticket)
        return [(ticket, task(Worker(context, CPU.device, print)))]

    def begin(self, ticket, context, task):
        self.at_work[ticket] = context, task


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_work_and_who_does_it_have_no_say(seed, tmp_path, monkeypatch):
    monkeypatch.setattr("ferd_eval.evaluation.run_manifest.search_unit", lambda *_: 32)
    data, net = tiny_data(150), TinyNet().eval()
    asked = {"attacks": "pgd,apgd-ce,targeted", "threat": "0.06", "steps": 2, "batch_size": 32}
    usual = score(net, data, **asked, out=tmp_path / "usual", save_adv=True)
    other = score(
        net, data, **asked, out=tmp_path / "other", save_adv=True, executor=Muddled(3, seed)
    )
    pd.testing.assert_frame_equal(usual.table, other.table, check_exact=True)
    for name in ("pgd", "apgd-ce", "targeted"):
        file = f"adversarial/{name}.npz"
        assert (tmp_path / "usual" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
    passes = [
        {name: (cost["forward"], cost["backward"]) for name, cost in each.manifest["cost"].items()}
        for each in (usual, other)
    ]
    clean = [each.pop("clean logits") for each in passes]
    assert passes[0] == passes[1]
    assert clean[0] == (150, 0)
    assert clean[1] > clean[0]  # each worker makes its own


def test_time_left_counts_runs_that_go_on_together(monkeypatch):
    from ferd_eval.attacks import PGD, PlannedAttack, Threat
    from ferd_eval.evaluation.cost.eta import Remaining

    plan = [PlannedAttack("pgd", PGD(steps=2), Threat("0.1"))]
    beside: list[Remaining] = []
    attack = repr(plan[0].attack)
    small = Remaining(plan, 10, 4, {attack: 2.0}, beside)
    large = Remaining(plan, 10, 4, {attack: 10.0}, beside)
    small.begin(plan[0], 0, 10)
    assert small.spend(plan[0], 0, 4, 4) == (8.0, 12.0 + 100.0)
    large.begin(plan[0], 0, 10)
    assert large.spend(plan[0], 0, 10, 0) == (100.0, 12.0)
