"""TensorBoard's events: there where it is installed, and once each."""

from __future__ import annotations

import pytest

from ferd_train.monitoring import tensorboard
from ferd_train.monitoring.tensorboard import TensorBoard, scalars
from tests.train.student_runs import log


def test_without_the_package_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    events = TensorBoard(tmp_path / "tensorboard")
    events.write([log(1)])
    events.close()
    assert not (tmp_path / "tensorboard").exists()


def test_scalars_are_all_that_was_measured():
    figures = dict(scalars(log(3, generator_terms={"bn": 0.5}, student_loss=None)))
    assert figures["generator_terms/bn"] == 0.5
    assert figures["class_weights/1"] == 0.25
    assert figures["seconds_making"] == 1.0
    assert not {"epoch", "student_loss", "validation"} & {*figures}


def read(folder):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    return accumulator.EventAccumulator(str(folder)).Reload()


def steps(folder, tag="class_weights/0") -> list[tuple[int, float]]:
    return [(each.step, each.value) for each in read(folder).Scalars(tag)]


def test_epochs_are_written_once_each_however_often_the_run_was_killed(tmp_path):
    pytest.importorskip("tensorboard")
    logs = [log(epoch, class_weights=[epoch / 8, 1 - epoch / 8]) for epoch in (1, 2, 3, 4)]
    killed = TensorBoard(tmp_path)
    for done in (1, 2, 3):
        killed.write(logs[:done])  # and no close; the third epoch's state is lost
    assert steps(tmp_path) == [(1, 0.125), (2, 0.25), (3, 0.375)]
    continued = TensorBoard(tmp_path)
    continued.write(logs[:2])
    assert steps(tmp_path) == [(1, 0.125), (2, 0.25)]
    continued.write(logs)
    continued.write(logs)
    continued.close()
    assert steps(tmp_path) == [(1, 0.125), (2, 0.25), (3, 0.375), (4, 0.5)]


def test_a_server_that_is_looking_on_sees_each_epoch_once(tmp_path):
    """It keeps what it has read, until it is told of a new beginning."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    killed = TensorBoard(tmp_path)
    killed.write([log(1), log(2), log(3)])
    server = EventAccumulator(str(tmp_path)).Reload()
    continued = TensorBoard(tmp_path)
    continued.write([log(1)])
    continued.write([log(1), log(2)])
    assert [each.step for each in server.Reload().Scalars("lr")] == [1, 2]
