"""A killed run continues to the bit; a folder of anything else is refused."""

from __future__ import annotations

import io
import json
import signal
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ferd_eval.errors import UserError
from ferd_eval.runtime.device import choose_device
from ferd_eval.runtime.signals import stopping_after
from ferd_train.cli import main
from tests.train.processes import Process

RESULT, STATE = "teacher.safetensors", "state.pt"


class KilledError(Exception):
    """The end of the process, as far as the folder can tell."""


def kill_after(epoch: int):
    def watch(log, epochs):
        if log.epoch == epoch:
            raise KilledError

    return watch


def figures(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def outcome(folder: Path) -> tuple[bytes, list[dict[str, float]]]:
    return (folder / RESULT).read_bytes(), figures(folder)


@pytest.fixture(scope="module")
def uninterrupted(train, tmp_path_factory) -> Path:
    return train(tmp_path_factory.mktemp("whole") / "run").parent


@pytest.fixture
def unfinished(train, tmp_path) -> Path:
    with pytest.raises(KilledError):
        train(tmp_path / "run", watch=kill_after(1))
    return tmp_path / "run"


def edit_manifest(folder: Path, **changes: object) -> None:
    file = folder / "manifest.json"
    manifest = json.loads(file.read_text())
    for path, value in changes.items():
        *parents, key = path.split("__")
        part = manifest
        for parent in parents:
            part = part[parent]
        part[key] = value
    manifest.pop("seal")  # as whoever edits one is told to
    file.write_text(json.dumps(manifest))


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_killed_after_an_epoch(epoch, train, tmp_path, uninterrupted):
    with pytest.raises(KilledError):
        train(tmp_path / "run", watch=kill_after(epoch))
    assert not (tmp_path / "run" / RESULT).exists()
    seen = []
    train(tmp_path / "run", watch=lambda log, epochs: seen.append(log.epoch))
    assert seen == list(range(epoch + 1, 4))
    assert outcome(tmp_path / "run") == outcome(uninterrupted)
    assert not (tmp_path / "run" / STATE).exists()


def test_a_signal_between_two_epochs(train, tmp_path, uninterrupted):
    seen = []

    def watch(log, epochs):
        seen.append(log.epoch)
        if log.epoch == 2:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt), stopping_after("step"):
        train(tmp_path / "run", watch=watch)
    assert seen == [1, 2]
    train(tmp_path / "run", watch=watch)
    assert seen == [1, 2, 3]
    assert outcome(tmp_path / "run") == outcome(uninterrupted)


def test_killed_after_every_epoch_with_trades_and_augmentation(train, tmp_path):
    changes = {"loss": "trades", "flip": True, "crop_padding": 2}
    for epoch in (1, 2, 3):
        with pytest.raises(KilledError):
            train(tmp_path / "run", watch=kill_after(epoch), **changes)
    train(tmp_path / "run", **changes)
    train(tmp_path / "whole", **changes)
    assert outcome(tmp_path / "run") == outcome(tmp_path / "whole")


def test_killed_within_an_epoch(train, tmp_path, uninterrupted, monkeypatch):
    """The half epoch is done again from its start."""
    step, calls = torch.optim.SGD.step, []

    def dying_step(self, *arguments):
        calls.append(1)
        if len(calls) == 5:  # 3 steps an epoch
            raise KilledError
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.SGD, "step", dying_step)
        with pytest.raises(KilledError):
            train(tmp_path / "run")
    assert [line["epoch"] for line in figures(tmp_path / "run")] == [1]
    train(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(uninterrupted)


@pytest.mark.parametrize("lost", ["metrics.jsonl", STATE])
def test_killed_between_two_files(lost, train, unfinished, uninterrupted):
    """The state comes before the figures, and the manifest before both."""
    (unfinished / lost).unlink()
    train(unfinished)
    assert outcome(unfinished) == outcome(uninterrupted)


@pytest.mark.usefixtures("same_code")
def test_kill_9(striped_file, tmp_path):
    settings = {"arch": "cnn28-2", "batch_size": 8, "epochs": 12, "validation_per_class": 4}
    arguments = ["teacher", "--recipe", "demo-cnn", "--device", "cpu"]
    for name, value in {**settings, "dataset": f"npz:{striped_file}"}.items():
        arguments += ["--set", f"{name}={value}"]
    run, whole = tmp_path / "run", tmp_path / "whole"
    process, errors = Process([*arguments, "--out", run]), []
    for line in process.stderr:
        errors.append(line)
        if line.startswith("epoch 2/12"):
            break
    process.kill()
    assert process.end()[0] == -signal.SIGKILL, "".join(errors)
    assert json.loads((run / "manifest.json").read_text())["status"] == "running"
    assert 2 <= len(figures(run)) < 12
    for folder in (run, whole):
        with pytest.raises(SystemExit) as exit_:
            main([*arguments, "--out", str(folder)])
        assert exit_.value.code == 0
    assert outcome(run) == outcome(whole)


def test_a_finished_run_stays_as_it_is(train, tmp_path):
    train(tmp_path / "run")

    def snapshot() -> dict[str, tuple[bytes, int]]:
        return {
            file.name: (file.read_bytes(), file.stat().st_mtime_ns)
            for file in (tmp_path / "run").iterdir()
        }

    before = snapshot()
    own = ["metrics.csv", "metrics.jsonl"]
    assert sorted(before) == ["manifest.json", *own, "recipe.toml", RESULT]
    # On another machine, with other versions: there is nothing left to compute.
    time.sleep(0.01)
    assert train(tmp_path / "run", watch=kill_after(1)) == tmp_path / "run" / RESULT
    assert snapshot() == before


def test_a_finished_run_may_be_asked_for_elsewhere(train, tmp_path):
    result = train(tmp_path / "run", epochs=1)
    edit_manifest(tmp_path / "run", packages__torch="1.0", device__name="abacus")
    assert train(tmp_path / "run", epochs=1) == result


@pytest.mark.parametrize("damage", [Path.unlink, lambda file: file.write_bytes(b"other")])
def test_a_finished_run_without_its_network_is_refused(damage, train, tmp_path):
    damage(train(tmp_path / "run", epochs=1))
    with pytest.raises(UserError, match=r"teacher.safetensors is missing or no longer"):
        train(tmp_path / "run", epochs=1)


def truncate(content: bytes) -> bytes:
    return content[: len(content) // 2]


def flip_a_weight(content: bytes) -> bytes:
    """One bit in the middle of the largest tensor; `torch.load` alone does not notice."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        tensors = [member for member in archive.infolist() if "/data/" in member.filename]
        largest = max(tensors, key=lambda member: member.file_size)
        at = content.index(archive.read(largest)) + largest.file_size // 2
    return content[:at] + bytes([content[at] ^ 0x40]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip_a_weight,
        lambda content: b"",
        lambda content: b"not a zip",
        lambda content: b"\x80\x02cposix\nsystem\n(S'touch owned'\ntR.",
    ],
    ids=["truncated", "flipped", "empty", "text", "pickle"],
)
def test_a_torn_state_is_said_in_one_line_and_may_be_deleted(
    damage, train, unfinished, uninterrupted
):
    """It was written whole, so the disk lost it: whether to start again is the user's to say."""
    state = unfinished / STATE
    state.write_bytes(damage(state.read_bytes()))
    torn = state.read_bytes()
    with pytest.raises(UserError, match=r"state.pt \(\d+ bytes\) is damaged.*Delete it") as caught:
        train(unfinished)
    assert "\n" not in str(caught.value)
    assert state.read_bytes() == torn
    state.unlink()
    train(unfinished)
    assert outcome(unfinished) == outcome(uninterrupted)


def test_a_state_of_another_network_is_refused(train, unfinished):
    torch.save({"network": {}, "average": {}, "optimizer": {}, "logs": []}, unfinished / STATE)
    with pytest.raises(UserError, match="damaged"):
        train(unfinished)


@pytest.mark.parametrize(
    ("name", "asked", "before", "after"),
    [
        ("epochs", 4, "3", "4"),
        ("lr", 0.2, "0.1", "0.2"),
        ("eps", "8/255", "0.1", "8/255"),
        ("loss", "trades", "pgd-at", "trades"),
        ("seed", 1, "0", "1"),
    ],
)
def test_another_recipe_is_refused(name, asked, before, after, train, unfinished, uninterrupted):
    for folder in (unfinished, uninterrupted):
        with pytest.raises(UserError, match=rf"{name} is {before}, asked for is {after}\. .*--out"):
            train(folder, **{name: asked})


def test_other_data_are_refused(train, unfinished, uninterrupted, other_stripes):
    for folder in (unfinished, uninterrupted):
        with pytest.raises(UserError, match=r"a run on other data \(fingerprint \w{12}, now \w"):
            train(folder, data=other_stripes)


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("packages__torch", "packages.torch"),
        ("packages__numpy", "packages.numpy"),
        ("device__name", "device.name"),
        ("device__threads", "device.threads"),
        ("ferd_eval", "ferd_eval"),
    ],
)
def test_another_environment_is_refused(field, path, train, unfinished):
    edit_manifest(unfinished, **{field: "64"})
    with pytest.raises(UserError, match=rf"unfinished run .*{path} was 64 and is .* now"):
        train(unfinished)


def test_threads_are_part_of_the_environment(train, unfinished, cpu):
    now = cpu.threads + 1
    with pytest.raises(UserError, match=f"threads was {cpu.threads} and is {now} now"):
        train(unfinished, device=replace(cpu, threads=now))


def test_a_device_knows_the_threads_it_has():
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        assert choose_device("cpu").threads == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("name", [RESULT, STATE])
def test_a_network_without_its_record_is_not_overwritten(name, train, tmp_path):
    (tmp_path / name).write_bytes(b"precious")
    with pytest.raises(UserError, match=rf"{name} but no manifest.json"):
        train(tmp_path)
    assert (tmp_path / name).read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"status": "finished", "attacks": {}}', "not of a training run"),
        ("{", "cannot be read"),
        ("[]", "not of a training run"),
    ],
)
def test_somebody_elses_folder_is_refused(content, message, train, tmp_path):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=message):
        train(tmp_path)
    assert (tmp_path / "manifest.json").read_text() == content


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "cnn29-2"}, "not a known architecture"),
        ({"validation_per_class": 20}, "class 0 has 20 training images"),
    ],
)
def test_a_run_that_cannot_begin_leaves_no_folder(changes, message, train, tmp_path):
    """Else the corrected command would be refused as another recipe."""
    with pytest.raises(UserError, match=message):
        train(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_images_of_a_size_the_network_does_not_take(train, striped, tmp_path):
    small = replace(striped, images_NCHW=np.ascontiguousarray(striped.images_NCHW[..., ::2, ::2]))
    with pytest.raises(UserError, match="28×28"):
        train(tmp_path / "run", data=small)
    assert not (tmp_path / "run").exists()
