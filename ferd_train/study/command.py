"""Carry out a study: the work of ``study``."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.io.lock import sole_user
from ferd_train.study.definition import Study
from ferd_train.study.parse import read_study
from ferd_train.study.process_pool import run_in_processes
from ferd_train.study.report import write_study_report
from ferd_train.study.status import RUN, TrialState, expected_seconds, states, time_left
from ferd_train.study.trial import Done, Epoch, Event, Failed, Stage, TrialTask
from ferd_train.study.validate import validate_study, write_record

#: Seconds between two lines about epochs.
_PATIENCE = 10.0


@dataclass(frozen=True)
class StudySettings:
    """The options of ``ferd-train study``."""

    file: Path
    work: Path | None = None
    data_dir: Path | None = None
    download: bool = False
    device: str = "auto"
    only: Sequence[str] = ()
    jobs: int = 1
    cluster: str | None = None
    dry_run: bool = False


def run_study(asked: StudySettings) -> bool:
    """Run the rest of a study and write its report; the report's path is the last line.

    All input is validated before the first epoch. Returns whether no trial failed.
    """
    if asked.jobs < 1:
        raise UserError(f"--jobs is {asked.jobs}; give 1 or more.")
    if asked.cluster is not None and asked.jobs != 1:
        raise UserError(
            "--cluster and --jobs exclude each other: a cluster works on as many networks at once "
            "as it has GPUs or, without any, CPUs. Leave one of them out."
        )
    study = read_study(asked.file)
    work = asked.work or study.out
    of_all = states(study, work)
    wanted = _wanted(of_all, study, asked.only)
    validate_study(
        study,
        of_all,
        wanted,
        work,
        device=asked.device,
        data_dir=asked.data_dir,
        download=asked.download,
    )
    if asked.dry_run:
        print(*_plan(study, of_all, wanted, asked.jobs), sep="\n")
        return True
    # The study itself writes into these; each run sweeps its own folder.
    swept = ["report", *(str(state.folder.relative_to(work)) for state in of_all)]
    with sole_user(work, "--work", below=swept):
        write_record(study, work)
        left = [state for state in wanted if state.left(study.evaluations)]
        progress = _Progress(study, of_all, left, asked.jobs)
        tasks = [
            TrialTask(state.trial, study.evaluations, state.folder, asked.data_dir, asked.device)
            for state in left
        ]
        if asked.cluster is None:
            run_in_processes(tasks, asked.jobs, progress.watch)
        else:
            from ferd_train.study.ray_pool import run_on_ray  # needs Ray

            run_on_ray(tasks, work, asked.cluster, progress.watch)
        page = write_study_report(study, of_all, work / "report")
    for state in progress.failed:
        print(f"failed: {state.trial.path}: {state.failure()}", file=sys.stderr)
    print(page)
    return not progress.failed


def _wanted(of_all: Sequence[TrialState], study: Study, only: Sequence[str]) -> list[TrialState]:
    """Trials of these methods or rows, and all teachers."""
    known = dict.fromkeys(name for row in study.rows for name in (row.method, row.name))
    for name in only:
        if name not in known:
            raise UserError(
                f"--only: no method of {study.file} is called {name!r}.{did_you_mean(name, known)}"
            )
    return [
        state
        for state in of_all
        if not only
        or state.trial.row is None
        or {state.trial.row.method, state.trial.row.name} & {*only}
    ]


def _plan(
    study: Study, of_all: Sequence[TrialState], wanted: Sequence[TrialState], jobs: int
) -> Iterator[str]:
    yield (
        f"{study.title}: {len(of_all)} networks, scored on {study.dataset}: "
        f"{', '.join(each.name for each in study.evaluations)}"
    )
    for state in wanted:
        yield f"  {state.trial.path}: {_standing(state, study)}"
    left = [state for state in wanted if state.left(study.evaluations)]
    if left:
        ahead = time_left(expected_seconds(left, of_all, study.evaluations), jobs)
        yield f"{len(wanted) - len(left)} of {len(wanted)} are done; {ahead} with --jobs {jobs}."
    else:
        yield f"all {len(wanted)} are done."


def _standing(state: TrialState, study: Study) -> str:
    left = state.left(study.evaluations)
    if not left:
        return "done"
    steps = ["train" if stage == RUN else f"score {stage}" for stage in left]
    if left[0] == RUN and state.trial.row is not None and (time := state.training_time()).epochs:
        steps[0] = f"train from epoch {time.epochs + 1} of {state.trial.row.recipe.epochs}"
    failure = state.failure()
    return ", ".join(steps) + (f" (failed the last time: {failure})" if failure else "")


@dataclass
class _Progress:
    """Collects failures, and prints stages and now and then an epoch."""

    study: Study
    of_all: Sequence[TrialState]
    left: Sequence[TrialState]
    jobs: int
    failed: list[TrialState] = field(default_factory=list)
    _finished: int = 0
    _said: float = 0.0

    def watch(self, task: TrialTask, event: Event) -> None:
        state = TrialState(task.trial, task.folder)
        if isinstance(event, Done | Failed):
            self._finished += 1
        if isinstance(event, Done):
            state.succeed()
            self._say(state, "done")
        elif isinstance(event, Failed):
            state.fail(event.reason)
            self.failed.append(state)
            self._say(state, f"failed: {event.reason}")
        elif isinstance(event, Stage):
            self._say(state, "training" if event.name == RUN else f"scoring {event.name}")
        elif isinstance(event, Epoch) and time.monotonic() - self._said > _PATIENCE:
            self._say(state, f"epoch {event.number}/{event.of}")

    def _say(self, state: TrialState, news: str) -> None:
        self._said = time.monotonic()
        failed, evaluations = {each.folder for each in self.failed}, self.study.evaluations
        left = [each for each in self.left if each.folder not in failed and each.left(evaluations)]
        line = [f"[{self._finished}/{len(self.left)}] {state.trial.path}: {news}"]
        if left:
            line.append(time_left(expected_seconds(left, self.of_all, evaluations), self.jobs))
        print(*line, sep="  ", file=sys.stderr, flush=True)
