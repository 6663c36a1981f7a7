"""What ``score`` and ``demo`` do once torch may be loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.text import Text

from ferd_eval.attacks import Attack
from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError, listed
from ferd_eval.evaluation.config import EvalConfig
from ferd_eval.evaluation.cost.eta import Forecast, Remaining, forecast
from ferd_eval.evaluation.evaluate import carry_out_jobs
from ferd_eval.evaluation.execution.executor import Executor, SerialExecutor
from ferd_eval.evaluation.inputs import (
    EvalInputs,
    LoadedModel,
    load_models,
    load_named,
    read_inputs,
    require_dataset,
)
from ferd_eval.evaluation.model_checks import Trial, try_readings
from ferd_eval.evaluation.run import EvalRun
from ferd_eval.io.json import to_json
from ferd_eval.io.lock import sole_user
from ferd_eval.report import Run, as_run, write_report
from ferd_eval.report.api import is_current, show
from ferd_eval.results.manifest import read_manifest
from ferd_eval.results.outcomes import Outcomes
from ferd_eval.results.run_folder import require_own_folder
from ferd_eval.runtime.console import console
from ferd_eval.runtime.device import DeviceChoice, choose_device
from ferd_eval.runtime.progress import Bar, Lines, ProgressReporter, duration
from ferd_eval.runtime.signals import after_what_is_at_hand

#: Where runs go when nobody says otherwise.
RUNS = Path("reports/runs")

_FINISHED = "All of it is finished: the command would show the reports again."
_NOT_TIMED = "How long it takes is not known: workers elsewhere, or too little memory to time it."


@dataclass(frozen=True)
class _Work:
    """What a command is about, once everything that can be wrong with it was looked at.

    Attributes:
        several: whether each checkpoint has a folder of its own in `root`.
        folders: of the runs.
    """

    candidates: Sequence[LoadedModel]
    assignment: EvalInputs
    device: DeviceChoice
    several: bool
    root: Path
    folders: Sequence[Path]

    @property
    def statuses(self) -> list[str | None]:
        """How far the run in each folder is; None where there is none."""
        return [(read_manifest(folder) or {}).get("status") for folder in self.folders]


def _prepare(
    files: Sequence[Path],
    settings: EvalConfig,
    folder_per_checkpoint: bool = False,
    make_attack: Callable[[LabelledImages], Attack] | None = None,
) -> _Work:
    """Look at everything; nothing is written."""
    require_dataset(settings)
    named = load_named(files, settings.key)
    for _, checkpoint in named:
        if checkpoint.choice:
            said = f"{checkpoint.path}: {checkpoint.choice}"
            console(stderr=True).print(Text(said), soft_wrap=True)
    assignment = read_inputs(settings, make_attack)
    device = choose_device("cpu" if settings.is_remote else settings.device)
    candidates = load_models(named, settings, assignment.data, assignment.plan, device)
    several = len(candidates) > 1 or folder_per_checkpoint
    root = settings.out or RUNS / _run_name(candidates, assignment, settings)
    _require_room(root, candidates, several=several)
    names = [each.name for each in candidates] if several else []
    require_own_folder(root, names)
    for name in names:
        require_own_folder(root / name)
    folders = [root / each.name if several else root for each in candidates]
    return _Work(candidates, assignment, device, several, root, folders)


def plan_checkpoints(files: Sequence[Path], settings: EvalConfig, *, as_json: bool) -> None:
    """Say what scoring would do and what it would cost; nothing is written or fetched."""
    work = _prepare(files, replace(settings, download=False))
    ahead = _forecast(work, settings)
    standing = {
        str(folder): {None: "new", "running": "continued"}.get(status, str(status))
        for folder, status in zip(work.folders, work.statuses, strict=True)
    }
    data, plan = work.assignment.data, work.assignment.plan
    if as_json:
        print(
            to_json(
                {
                    "checkpoints": [
                        {**each.describe(), "architecture": each.facts.architecture}
                        for each in work.candidates
                    ],
                    "dataset": {"name": data.name, "n": len(data), "image_shape": data.image_shape},
                    "device": work.device.describe(),
                    "attacks": {each.id: each.describe() for each in plan},
                    "seconds_at_most": ahead and ahead.longest_by_attack,
                    "folders": standing,
                }
            ),
            end="",
        )
        return
    for each in work.candidates:
        print(f"{each.name}: {each.facts.architecture}, {each.facts.parameters} parameters")
    print(f"on {len(data)} images of {data.name} ({work.assignment.selection}), {plan[-1].threat}")
    for planned in plan:
        stages = ", ".join(each.family for each in planned.attacks[1:])
        cost = f"  {duration(ahead.longest_by_attack[planned.id])} at most" if ahead else ""
        print(f"  {planned.id}{f' ({stages})' if stages else ''}{cost}")
    for folder, how in standing.items():
        print(f"into {folder} ({how})")
    finished = {*standing.values()} == {"finished"}
    print(_FINISHED if finished else ahead.sentence if ahead else _NOT_TIMED)
    print("This was a dry run: nothing is written. Leave out --dry-run to start.")


def score_checkpoints(
    files: Sequence[Path],
    settings: EvalConfig,
    *,
    command: Sequence[str],
    as_json: bool,
    folder_per_checkpoint: bool = False,
    make_attack: Callable[[LabelledImages], Attack] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Score each file, write its report and one over all, and print the table.

    Everything that can be wrong with the input is found before the first attack.

    Args:
        files: checkpoints.
        settings: what the user chose.
        command: as typed, for the record.
        as_json: print scorecards in place of the table.
        folder_per_checkpoint: even if there is only one.
        make_attack: one more attack, made for the data.
        facts: more entries for the manifests.
    """
    work = _prepare(files, settings, folder_per_checkpoint, make_attack)
    candidates, assignment, device = work.candidates, work.assignment, work.device
    several, root, folders = work.several, work.root, work.folders
    runs: dict[str, Run] = {}

    def told(candidate: LoadedModel, folder: Path, outcomes: Outcomes) -> None:
        runs[candidate.name] = run = as_run(candidate.name, outcomes)
        if not is_current(folder, [run]):
            write_report(folder, [run])

    with ExitStack() as stack:
        watcher = _watcher(stack)
        data = assignment.data
        for caution in data.cautions:
            watcher.note(f"warning: {caution}")
        for folder in dict.fromkeys([root, *folders]):
            stack.enter_context(sole_user(folder, below=("adversarial",), note=watcher.note))
        statuses = work.statuses
        ahead = _forecast(work, settings)
        if ahead and ahead.is_worth_saying and None in statuses:
            watcher.note(ahead.sentence)
        seconds = iter(ahead.seconds if ahead else ())
        executor = _executor(settings, device, watcher, stack)
        beside: list[Remaining] = []
        trials = [
            None
            if status == "finished"
            else try_readings(each.checkpoint, each.classifier, each.facts, data, device.device)
            for each, status in zip(candidates, statuses, strict=True)
        ]
        jobs = [
            EvalRun(
                model=candidate.classifier,
                data=data,
                plan=assignment.plan,
                seed=settings.seed,
                batch_size=settings.batch,
                executor=executor,
                folder=folder,
                save_adv=settings.save_adv,
                fold=settings.fold_batchnorm,
                watcher=watcher,
                beside=beside,
                seconds=next(seconds, None) if status != "finished" else None,
                title=candidate.name if several else "",
                remark=trial.hint(candidate.facts) if trial else None,
                told=partial(told, candidate, folder),
                facts={
                    "command": list(command),
                    **_facts(candidate, assignment, settings, trial),
                    **(facts or {}),
                },
            )
            for candidate, folder, status, trial in zip(
                candidates, folders, statuses, trials, strict=True
            )
        ]
        title = f"{len(jobs)} checkpoints" if several else candidates[0].name
        watcher.start(title, measured=ahead is not None)
        with after_what_is_at_hand("unit"):
            carry_out_jobs(jobs, executor)
        in_order = [runs[candidate.name] for candidate in candidates]
        if several and not is_current(root, in_order):
            write_report(root, in_order)
    show(in_order, root / "report.html", as_json=as_json)


def _facts(
    candidate: LoadedModel, assignment: EvalInputs, settings: EvalConfig, trial: Trial | None
) -> dict[str, Any]:
    """What the manifest says beyond what a run knows by itself."""
    facts = candidate.facts
    hint = trial and trial.hint(facts)
    return {
        "checkpoint": candidate.describe(),
        "model": facts.to_json(),
        "trial": trial and trial.to_json(),
        "dataset": {"selection": assignment.selection},
        "engine": settings.engine,
        "groups": assignment.groups,
        "attack_file_sha256": assignment.attack_file_sha256,
        "warnings": [said for said in (candidate.checkpoint.choice, facts.caution, hint) if said],
    }


def _forecast(work: _Work, settings: EvalConfig) -> Forecast | None:
    """What those will cost that are not finished; None where that cannot be timed here."""
    if settings.is_remote:
        return None
    open_ones = [
        candidate.classifier
        for candidate, status in zip(work.candidates, work.statuses, strict=True)
        if status != "finished"
    ]
    data, plan = work.assignment.data, work.assignment.plan
    return forecast(open_ones, data, plan, work.device.device, settings.batch)


def _require_room(root: Path, candidates: Sequence[LoadedModel], *, several: bool) -> None:
    """A folder is either one run or a folder of runs: their reports would overwrite each other."""
    try:
        alone = (root / "manifest.json").exists()
        runs = sorted(file.parent.name for file in root.glob("*/manifest.json"))
    except OSError:
        return  # nothing can be written there either, which has its own message
    if several and alone:
        raise UserError(
            f"{root} is the folder of one run, but {len(candidates)} checkpoints are given. "
            "Choose another folder with --out."
        )
    if not several and not alone and runs:
        raise UserError(
            f"{root} is a folder of runs ({listed(runs, 3)}), but one checkpoint is given. "
            f"Give --out {root / candidates[0].name}."
        )


def _run_name(
    candidates: Sequence[LoadedModel], assignment: EvalInputs, settings: EvalConfig
) -> str:
    """A readable name that other settings do not share, so that runs never collide by default."""
    devices = settings.device.split(",")  # how many and whose does not matter
    shared = replace(settings, cluster=None, device=devices[0].partition(":")[0])
    data = assignment.data
    named = () if settings.classes is None else (data.class_names,)
    key = repr((shared, assignment.selection, data.fingerprint, *named))
    # The class's former name: default folders of earlier runs are found again.
    key = key.replace("EvalConfig", "ScoreSettings", 1)
    digest = hashlib.sha256(key.encode())
    for candidate in candidates:
        checkpoint = candidate.checkpoint
        digest.update(f"{checkpoint.sha256}{checkpoint.key}".encode())
    first = candidates[0].name if len(candidates) == 1 else f"{len(candidates)}-checkpoints"
    return f"{first}-{data.name}-{digest.hexdigest()[:8]}"


def _watcher(stack: ExitStack) -> Bar | Lines:
    screen = console(stderr=True)
    if screen.is_terminal:
        return stack.enter_context(Bar(screen))
    return Lines(screen)


def _executor(
    settings: EvalConfig, device: DeviceChoice, watcher: ProgressReporter, stack: ExitStack
) -> Executor:
    """Who does the work; sent home when the stack is left."""
    executor: Executor
    if not settings.is_remote:
        executor = SerialExecutor(device, watcher.note)
    else:
        from ferd_eval.evaluation.execution.ray_executor import RayExecutor

        devices = [] if settings.cluster else settings.device.split(",")
        executor = RayExecutor(settings.cluster, devices, note=watcher.note)
    stack.callback(executor.end)
    return executor
