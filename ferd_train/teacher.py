"""A teacher's run: a folder that holds its record, its figures and in the end its network."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ferd_eval.datasets import LabelledImages, load_dataset
from ferd_eval.device import DeviceChoice, exact_arithmetic, is_out_of_memory
from ferd_eval.errors import UserError
from ferd_eval.manifest import RECORD, look_up, now
from ferd_eval.output import make_folder, to_json, write_atomically
from ferd_train.run_record import describe_run, read_record, require_same_training
from ferd_train.teacher_recipe import TeacherRecipe
from ferd_train.training import EpochLog, Training

#: The network that a finished run leaves in its folder.
RESULT = "teacher.safetensors"
_STATE = "state.pt"


def train_teacher(
    recipe: TeacherRecipe,
    out: Path,
    *,
    device: DeviceChoice,
    data_dir: Path | None = None,
    download: bool = False,
    data: LabelledImages | None = None,
    watch: Callable[[EpochLog, int], None] = lambda log, epochs: None,
) -> Path:
    """Train, or continue training, and return the path of the saved network.

    The weights saved are the moving average after the last epoch; nothing is selected on any data.

    Args:
        recipe: what to do.
        out: the run's folder; a killed run continues from its last finished epoch, a finished one
            is left as it is.
        device: where to train.
        data_dir: where the data set lies.
        download: fetch it if it is missing.
        data: training images, in place of the recipe's data set.
        watch: called after each epoch with its figures and the number of epochs.

    Raises:
        UserError: the data or the network cannot be had, the folder holds another run or a damaged
            one, a batch does not fit into memory, or training diverged.
    """
    if data is None:
        data = load_dataset(recipe.dataset, data_dir, split="train", download=download)
    record = describe_run(recipe, data, device)
    earlier = read_record(out)
    if earlier is None:
        _require_free(out)
    else:
        require_same_training(earlier, record, out)
        if earlier["status"] == "finished":
            return _finished_result(out, earlier)
        record = earlier
    with exact_arithmetic():
        training = Training(recipe, data, device.device)
        training.resume(out / _STATE)
        make_folder(out)
        write_atomically(out / RECORD, to_json(record).encode())
        while training.epochs_done < recipe.epochs:
            log = _epoch(training, device)
            training.save(out / _STATE)
            write_atomically(out / "metrics.jsonl", _lines(training.logs))
            watch(log, recipe.epochs)
    training.export(out / RESULT)
    write_atomically(out / "metrics.jsonl", _lines(training.logs))
    write_atomically(out / "metrics.csv", _table(training.logs))
    result = {"file": RESULT, "sha256": _sha256(out / RESULT), **vars(training.logs[-1])}
    finished = {**record, "status": "finished", "finished": now(), "result": result}
    write_atomically(out / RECORD, to_json(finished).encode())
    (out / _STATE).unlink(missing_ok=True)
    return out / RESULT


def _epoch(training: Training, device: DeviceChoice) -> EpochLog:
    try:
        return training.epoch()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"a batch of {training.recipe.batch_size} images does not fit into the memory of "
            f"{device.device}. Free some, or start again in another folder with a lower --set "
            "batch_size."
        ) from error


def _require_free(folder: Path) -> None:
    """A result or a state whose record is lost is neither continued nor overwritten."""
    for name in (RESULT, _STATE):
        if (folder / name).exists():
            raise UserError(
                f"{folder} holds {name} but no {RECORD} to say of which run. Choose another "
                "folder with --out."
            )


def _finished_result(folder: Path, record: Mapping[str, Any]) -> Path:
    file = folder / RESULT
    if not file.is_file() or _sha256(file) != look_up(record, "result.sha256"):
        raise UserError(
            f"{folder} holds a finished run, but its {RESULT} is missing or no longer the one in "
            f"{RECORD}. Restore it, or choose another folder with --out to train again."
        )
    return file


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _lines(logs: Sequence[EpochLog]) -> bytes:
    return "".join(json.dumps(vars(log)) + "\n" for log in logs).encode()


def _table(logs: Sequence[EpochLog]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(EpochLog)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(vars(log) for log in logs)
    return text.getvalue().encode()
