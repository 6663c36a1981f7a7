"""A training run's folder: record, figures, state and finally the network."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from ferd_eval.errors import UserError
from ferd_eval.io.files import file_sha256, make_folder, write_atomically
from ferd_eval.io.json import with_checksum
from ferd_eval.io.lock import now
from ferd_eval.results.manifest import ENVIRONMENT, RECORD, environment, look_up, read_manifest
from ferd_eval.runtime.device import DeviceChoice, is_out_of_memory
from ferd_train.config.recipe import Recipe, RunRecipe, to_toml

# The order of the images comes from numpy; the order of sums from how many processes add them up.
_TRAINING_ENVIRONMENT = (*ENVIRONMENT, "packages.numpy", "processes")

#: Sources of a run: path in the record to a digest, and how a run with another is called.
_SOURCES = {
    "dataset.fingerprint": "on other data (fingerprint",
    "teacher.sha256": "of another teacher (sha256",
    "validation.fingerprint": "with other validation images (fingerprint",
}

#: How a teacher's file is read.
_READINGS = (
    "teacher.key",
    "teacher.architecture",
    "teacher.model_file_sha256",
    "teacher.normalization",
)


class RunFolder:
    """A killed run leaves a state in its folder, a finished one a network.

    Attributes:
        record: content of ``manifest.json``.
        state: file to continue from.
        network: file of the finished network.
        is_finished: whether nothing is left to do.

    Raises:
        UserError: the folder holds another run, or a damaged one, or something else.
    """

    def __init__(self, folder: Path, network: str, record: Mapping[str, Any]) -> None:
        """Check the folder, which need not exist; nothing is written before `begin`.

        `network` is the name of the finished network's file, `record` of the run to begin or
        continue.
        """
        self.folder = folder
        self.state = folder / "state.pt"
        self.network = folder / network
        earlier = read_manifest(folder, frozenset({"status", "recipe"}), "a training run")
        self.is_finished = False
        if earlier is None:
            # A network or a state whose record is lost is neither continued nor overwritten.
            for file in (self.network, self.state):
                if file.exists():
                    raise UserError(
                        f"{folder} holds {file.name} but no {RECORD} to say of which run. Choose "
                        "another folder with --out."
                    )
            self.record = dict(record)
            return
        _require_same_training(earlier, record, folder)
        self.record = earlier
        if earlier["status"] == "finished":
            recorded = look_up(earlier, "result.sha256")
            if not self.network.is_file() or file_sha256(self.network) != recorded:
                raise UserError(
                    f"{folder} holds a finished run, but its {network} is missing or no longer the "
                    f"one in {RECORD}. Restore it, or choose another folder with --out to train "
                    "again."
                )
            self.is_finished = True

    def begin(self, recipe: Recipe) -> None:
        """Create the folder, with the record and the recipe in it."""
        make_folder(self.folder)
        write_atomically(self.folder / RECORD, with_checksum(self.record))
        write_atomically(self.folder / "recipe.toml", to_toml(recipe).encode())

    def write_figures(self, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Write ``metrics.jsonl``, a line for each finished epoch."""
        lines = "".join(json.dumps(dict(epoch), ensure_ascii=False) + "\n" for epoch in epochs)
        write_atomically(self.folder / "metrics.jsonl", lines.encode())

    def add(self, facts: Mapping[str, Any]) -> None:
        """Put facts that came up into the record of a run that has begun."""
        self.record |= facts
        write_atomically(self.folder / RECORD, with_checksum(self.record))

    def finish(
        self,
        epochs: Sequence[Mapping[str, Any]],
        table: Sequence[Mapping[str, Any]],
        *,
        epoch: int | None = None,
    ) -> None:
        """Seal a run whose network, of `epoch`, has been written; its figures go into the record.

        `table` has the same as rows of ``metrics.csv``; one may lack columns that another has.
        `epoch` is counted from 1, by default the last.
        """
        self.write_figures(epochs)
        text = io.StringIO()
        columns = dict.fromkeys(name for row in table for name in row)
        writer = csv.DictWriter(text, list(columns), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
        write_atomically(self.folder / "metrics.csv", text.getvalue().encode())
        figures = epochs[-1 if epoch is None else epoch - 1]
        result = {"file": self.network.name, "sha256": file_sha256(self.network), **figures}
        self.add({"status": "finished", "finished": now(), "result": result})
        self.state.unlink(missing_ok=True)
        self.is_finished = True


def describe_run(
    recipe: RunRecipe, device: DeviceChoice, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """The record of a run that begins now; `facts` are its sources and how it ends."""
    return {
        "status": "running",
        "started": now(),
        "finished": None,
        **environment(),
        "recipe": recipe.to_json(),
        "seed": recipe.seed,
        "device": device.describe(),
        **facts,
    }


@contextmanager
def fitting_into_memory(batch_size: int, device: DeviceChoice) -> Iterator[None]:
    """Say what to do where the allocator gives up.

    Raises:
        UserError: it did.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise UserError(
            f"a batch of {batch_size} images does not fit into the memory of {device.device}. Free "
            "some, or start again in another folder with a lower --set batch_size."
        ) from error


def _require_same_training(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Refuse another recipe or other sources, and to continue where the last bit would differ."""

    def refuse(held: str) -> NoReturn:
        raise UserError(f"{folder} holds {held}. Choose another folder with --out.")

    def changed(paths: Iterable[str]) -> Iterator[tuple[str, Any, Any]]:
        for path in paths:
            before, after = look_up(old, path) or None, look_up(new, path) or None
            if before != after:
                yield path, before, after

    if {*old["recipe"]} != {*new["recipe"]}:
        refuse("a run with a recipe of another kind")
    for key, value in new["recipe"].items():
        if (before := old["recipe"][key]) != value:
            refuse(f"a run with another recipe: {key} is {before}, asked for is {value}")
    for path, before, after in changed(_SOURCES):
        refuse(f"a run {_SOURCES[path]} {str(before)[:12]}, now {str(after)[:12]})")
    for path, before, after in changed(_READINGS):
        refuse(f"a run with the teacher read otherwise: {path} is {before}, asked for is {after}")
    if old["status"] == "finished":
        return
    for path, before, after in changed(_TRAINING_ENVIRONMENT):
        raise UserError(
            f"{folder} holds an unfinished run of another environment: {path} was {before} and is "
            f"{after} now, so the result would be another. Continue it as it was begun, or choose "
            "another folder with --out."
        )
