"""What ``score`` and ``demo`` do once torch may be loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ferd_eval.attacks import Attack
from ferd_eval.cli.assignment import Assignment, read_assignment, require_dataset
from ferd_eval.cli.candidate import Candidate, load_named, make_candidates
from ferd_eval.cli.console import console
from ferd_eval.cli.forecast import forecast
from ferd_eval.cli.own_folder import require_own_folder
from ferd_eval.cli.reporting import as_run, is_current, show
from ferd_eval.cli.settings import ScoreSettings
from ferd_eval.datasets import LabelledImages
from ferd_eval.device import DeviceChoice, choose_device
from ferd_eval.errors import UserError
from ferd_eval.folder_lock import sole_user
from ferd_eval.interruption import after_what_is_at_hand
from ferd_eval.job import Job
from ferd_eval.manifest import read_manifest
from ferd_eval.name_list import listed
from ferd_eval.outcomes import Outcomes
from ferd_eval.preflight import try_readings
from ferd_eval.progress import Bar, Lines, Watcher
from ferd_eval.remaining import Remaining
from ferd_eval.report import Run, write_report
from ferd_eval.runner import carry_out_jobs
from ferd_eval.workforce import Alone, Workforce

#: Where runs go when nobody says otherwise.
RUNS = Path("reports/runs")


def score_checkpoints(
    files: Sequence[Path],
    settings: ScoreSettings,
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
    require_dataset(settings)
    named = load_named(files)
    assignment = read_assignment(settings, make_attack)
    device = choose_device("cpu" if settings.is_remote else settings.device)
    candidates = make_candidates(named, settings, assignment.data, assignment.plan, device)
    several = len(candidates) > 1 or folder_per_checkpoint
    root = settings.out or RUNS / _run_name(candidates, assignment, settings)
    _require_room(root, candidates, several=several)
    names = [each.name for each in candidates] if several else []
    require_own_folder(root, names)
    for name in names:
        require_own_folder(root / name)
    folders = [root / each.name if several else root for each in candidates]
    runs: dict[str, Run] = {}

    def told(candidate: Candidate, folder: Path, outcomes: Outcomes) -> None:
        runs[candidate.name] = run = as_run(candidate.name, outcomes)
        if not is_current(folder, [run]):
            write_report(folder, [run])

    with ExitStack() as stack:
        watcher = _watcher(stack)
        for folder in dict.fromkeys([root, *folders]):
            stack.enter_context(sole_user(folder, below=("adversarial",), note=watcher.note))
        if not settings.is_remote:
            _forecast(candidates, folders, assignment, device, settings, watcher)
        workforce = _workforce(settings, device, watcher, stack)
        beside: list[Remaining] = []
        jobs = [
            Job(
                model=candidate.classifier,
                data=assignment.data,
                plan=assignment.plan,
                seed=settings.seed,
                batch_size=settings.batch,
                workforce=workforce,
                folder=folder,
                save_adv=settings.save_adv,
                fold=settings.fold_batchnorm,
                watcher=watcher,
                beside=beside,
                title=candidate.name if several else "",
                told=partial(told, candidate, folder),
                facts={
                    "command": list(command),
                    **_facts(candidate, assignment, settings, device, watcher),
                    **(facts or {}),
                },
            )
            for candidate, folder in zip(candidates, folders, strict=True)
        ]
        watcher.start(f"{len(jobs)} checkpoints" if several else candidates[0].name)
        with after_what_is_at_hand("unit"):
            carry_out_jobs(jobs, workforce)
        in_order = [runs[candidate.name] for candidate in candidates]
        if several and not is_current(root, in_order):
            write_report(root, in_order)
    show(in_order, root / "report.html", as_json=as_json)


def _facts(
    candidate: Candidate,
    assignment: Assignment,
    settings: ScoreSettings,
    device: DeviceChoice,
    watcher: Watcher,
) -> dict[str, Any]:
    """What the manifest says beyond what a run knows by itself.

    Before hours of attacks it is told what seems to be wrong with the network.
    """
    facts = candidate.facts
    trial = try_readings(
        candidate.checkpoint, candidate.classifier, facts, assignment.data, device.device
    )
    hint = trial.hint(facts) if trial else None
    if hint and len(assignment.plan) > 1:
        watcher.note(f"warning: {candidate.name}: {hint}")
    return {
        "checkpoint": candidate.describe(),
        "model": facts.to_json(),
        "trial": trial and trial.to_json(),
        "dataset": {"selection": assignment.selection},
        "engine": settings.engine,
        "groups": assignment.groups,
        "attack_file_sha256": assignment.attack_file_sha256,
        "warnings": [said for said in (facts.caution, hint) if said],
    }


def _forecast(
    candidates: Sequence[Candidate],
    folders: Sequence[Path],
    assignment: Assignment,
    device: DeviceChoice,
    settings: ScoreSettings,
    watcher: Watcher,
) -> None:
    """Say how long those will take that have not begun."""
    fresh_ones = [
        each.classifier
        for each, folder in zip(candidates, folders, strict=True)
        if _status(folder) is None
    ]
    said = forecast(fresh_ones, assignment.data, assignment.plan, device.device, settings.batch)
    if said:
        watcher.note(said)


def _status(folder: Path) -> str | None:
    """How far the run in a folder is; None where there is none."""
    return (read_manifest(folder) or {}).get("status")


def _require_room(root: Path, candidates: Sequence[Candidate], *, several: bool) -> None:
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
    candidates: Sequence[Candidate], assignment: Assignment, settings: ScoreSettings
) -> str:
    """A readable name that other settings do not share, so that runs never collide by default."""
    devices = settings.device.split(",")  # how many and whose does not matter
    shared = replace(settings, cluster=None, device=devices[0].partition(":")[0])
    data = assignment.data
    key = repr((shared, assignment.selection, data.fingerprint))
    digest = hashlib.sha256(key.encode())
    for candidate in candidates:
        digest.update(candidate.checkpoint.sha256.encode())
    first = candidates[0].name if len(candidates) == 1 else f"{len(candidates)}-checkpoints"
    return f"{first}-{data.name}-{digest.hexdigest()[:8]}"


def _watcher(stack: ExitStack) -> Watcher:
    screen = console(stderr=True)
    if screen.is_terminal:
        return stack.enter_context(Bar(screen))
    return Lines(screen)


def _workforce(
    settings: ScoreSettings, device: DeviceChoice, watcher: Watcher, stack: ExitStack
) -> Workforce:
    """Who does the work; sent home when the stack is left."""
    workforce: Workforce
    if not settings.is_remote:
        workforce = Alone(device, watcher.note)
    else:
        from ferd_eval.cluster import Cluster

        devices = [] if settings.cluster else settings.device.split(",")
        workforce = Cluster(settings.cluster, devices, note=watcher.note)
    stack.callback(workforce.end)
    return workforce
