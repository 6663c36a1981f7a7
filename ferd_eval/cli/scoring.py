"""What ``score`` and ``demo`` do once torch may be loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from ferd_eval.acceptance import check_network, need_gradient, wrong_class_count
from ferd_eval.attacks import Attack, PlannedAttack, plan_attacks
from ferd_eval.checkpoint import Checkpoint, load_checkpoint
from ferd_eval.cli.forecast import forecast
from ferd_eval.cli.own_folder import require_own_folder
from ferd_eval.cli.reporting import as_run, is_current, show
from ferd_eval.cli.settings import ScoreSettings
from ferd_eval.cli.training_record import training_record
from ferd_eval.datasets import LabelledImages, list_datasets, load_dataset
from ferd_eval.device import DeviceChoice, choose_device
from ferd_eval.errors import UserError
from ferd_eval.folder_lock import sole_user
from ferd_eval.groups import read_groups
from ferd_eval.interruption import after_what_is_at_hand
from ferd_eval.job import Job
from ferd_eval.manifest import read_manifest
from ferd_eval.models import Classifier, ModelFacts, build_classifier
from ferd_eval.outcomes import Outcomes
from ferd_eval.preflight import normalization_hint
from ferd_eval.progress import Bar, Lines, Watcher
from ferd_eval.quantity import parse_quantity
from ferd_eval.remaining import Remaining
from ferd_eval.report import Run, write_report
from ferd_eval.runner import as_threats, carry_out_jobs, require_own_names
from ferd_eval.user_code import brief, load_user_code
from ferd_eval.workforce import Alone, Workforce

#: Where runs go when nobody says otherwise.
RUNS = Path("reports/runs")


@dataclass(frozen=True)
class Candidate:
    """A checkpoint ready to be scored, under a name of its own."""

    name: str
    checkpoint: Checkpoint
    classifier: Classifier
    facts: ModelFacts


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
    dataset = _require_dataset(settings)
    checkpoints = [(name, load_checkpoint(file)) for file, name in _named(files)]
    data, selection = _load_data(dataset, settings)
    own, own_digest = None, None
    if settings.attack_file is not None:
        own, own_digest = _own_attack(settings.attack_file)
    elif make_attack is not None:
        own = make_attack(data)
    plan = _plan(settings, data, own)
    remote = settings.cluster is not None or "," in settings.device
    device = choose_device("cpu" if remote else settings.device)
    groups = _groups(settings, data)
    candidates = [_candidate(each, name, settings, data) for name, each in checkpoints]
    for candidate in candidates:
        candidate.classifier.to(device.device, _dtype(settings))
        with _naming(candidate.checkpoint.path):
            check_network(
                candidate.classifier,
                data,
                _dtype(settings),
                by_gradient=need_gradient(plan, data),
            )
    several = len(candidates) > 1 or folder_per_checkpoint
    root = settings.out or RUNS / _run_name(candidates, data, selection, settings)
    _require_room(root, candidates, several=several)
    names = [each.name for each in candidates] if several else []
    require_own_folder(root, names)
    for name in names:
        require_own_folder(root / name)
    folders = [root / each.name if several else root for each in candidates]
    runs: dict[str, Run] = {}
    with ExitStack() as stack:
        watcher = _watcher(stack)
        for folder in dict.fromkeys([root, *folders]):
            stack.enter_context(sole_user(folder, below=("adversarial",), note=watcher.note))
        fresh_ones = [
            each.classifier
            for each, folder in zip(candidates, folders, strict=True)
            if _status(folder) is None
        ]
        if not remote and (
            said := forecast(fresh_ones, data, plan, device.device, _batch_size(settings))
        ):
            watcher.note(said)
        workforce = _workforce(settings, device, watcher, stack)
        beside: list[Remaining] = []

        def told(candidate: Candidate, folder: Path, outcomes: Outcomes) -> None:
            runs[candidate.name] = run = as_run(candidate.name, outcomes)
            if not is_current(folder, [run]):
                write_report(folder, [run])

        jobs = [
            Job(
                model=candidate.classifier,
                data=data,
                plan=tuple(plan),
                seed=settings.seed,
                batch_size=_batch_size(settings),
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
                    "checkpoint": _describe_checkpoint(candidate),
                    "model": candidate.facts.to_json(),
                    "dataset": {"selection": selection},
                    "engine": settings.engine,
                    "groups": groups,
                    "attack_file_sha256": own_digest,
                    "warnings": [
                        *([candidate.facts.caution] if candidate.facts.caution else []),
                        *normalization_hint(
                            candidate.classifier, candidate.facts, data, device.device
                        ),
                    ],
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


def rehearse(settings: ScoreSettings) -> LabelledImages:
    """Find what can be wrong with the settings while there is no checkpoint yet.

    Returns:
        The images that would be scored on.

    Raises:
        UserError: something is.
    """
    data, _ = _load_data(_require_dataset(settings), settings)
    _plan(settings, data, None)
    _groups(settings, data)
    return data


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
            f"{root} is a folder of runs ({', '.join(runs[:3])}), but one checkpoint is given. "
            f"Give --out {root / candidates[0].name}."
        )


def _require_dataset(settings: ScoreSettings) -> str:
    if settings.dataset is None:
        names = ", ".join(info.name for info in list_datasets())
        raise UserError(f"--dataset is missing. There are: {names}.")
    return settings.dataset


def _load_data(dataset: str, settings: ScoreSettings) -> tuple[LabelledImages, str]:
    data = load_dataset(dataset, settings.data_dir, download=settings.download)
    if settings.limit is not None:
        return data.first(settings.limit), f"first {settings.limit}"
    if settings.per_class is not None:
        return data.first_per_class(settings.per_class), f"first {settings.per_class} per class"
    return data, "all"


def _groups(settings: ScoreSettings, data: LabelledImages) -> dict[str, list[str]] | None:
    if settings.groups is None:
        return None
    return read_groups(settings.groups, data.class_names, data.groupings)


def _plan(
    settings: ScoreSettings, data: LabelledImages, own: Attack | None
) -> tuple[PlannedAttack, ...]:
    step = settings.step_size
    names: list[str | Attack] = list(settings.attacks.split(","))
    if own is not None:
        names.append(own)
    plan = plan_attacks(
        names,
        as_threats(settings.eps, data),
        steps=settings.steps,
        step_size=None if step is None else parse_quantity(step, "--step-size"),
    )
    require_own_names(plan)
    if settings.engine == "torchattacks":
        from ferd_eval.attacks.torchattacks_engine import through_torchattacks

        plan = through_torchattacks(plan, data.num_classes)
    elif settings.engine == "autoattack":
        from ferd_eval.attacks.autoattack_engine import through_autoattack

        plan = through_autoattack(plan, data.num_classes)
    return plan


def _own_attack(spec: str) -> tuple[Attack, str]:
    """An instance of the class in ``FILE.py:CLASS``, and the file's digest."""
    code = load_user_code(spec, "--attack-file")
    if not (isinstance(code.value, type) and issubclass(code.value, Attack)):
        raise UserError(
            f"--attack-file {spec} is no subclass of ferd_eval.Attack. Derive the class from it "
            "and write perturb(problem)."
        )
    made: Attack | type[Attack] = code.value
    has_perturb = "perturb" not in code.value.__abstractmethods__
    if has_perturb:  # without it none can be made
        try:
            made = code.value()
        except Exception as error:
            raise UserError(
                f"--attack-file {spec}: making one failed with {brief(error)}. It takes no "
                "arguments."
            ) from error
    family, steps = getattr(made, "family", None), getattr(made, "steps", None)
    has_family = isinstance(family, str) and family != ""
    has_steps = isinstance(steps, int) and not isinstance(steps, bool) and steps >= 0
    parts = {
        'family = "mine"': has_family,
        "steps = 20": has_steps,
        "def perturb(self, problem)": has_perturb,
    }
    missing = [part for part, is_there in parts.items() if not is_there]
    if missing:
        raise UserError(
            f"--attack-file {spec} is no whole attack. Add to the class, for example: "
            f"{', '.join(missing)} (docs/own_attack.md)."
        )
    assert isinstance(made, Attack)
    return made, code.sha256


def _named(files: Sequence[Path]) -> list[tuple[Path, str]]:
    """Each file with a name of its own: the stem, with its folder where stems repeat."""
    stems = [file.stem for file in files]
    names = [
        file.stem if stems.count(file.stem) == 1 else f"{file.resolve().parent.name}-{file.stem}"
        for file in files
    ]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"two checkpoints would both be called {name!r}. Rename one, or score them apart."
            )
    return list(zip(files, names, strict=True))


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Put the checkpoint's name before what is wrong with its network: there may be several."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{file}: {error}") from error


def _candidate(
    checkpoint: Checkpoint, name: str, settings: ScoreSettings, data: LabelledImages
) -> Candidate:
    classifier, facts = build_classifier(
        checkpoint,
        arch=settings.arch,
        model_file=settings.model_file,
        normalize=settings.normalize,
        num_classes=data.num_classes,
    )
    if facts.num_classes is not None and facts.num_classes != data.num_classes:
        raise UserError(f"{checkpoint.path}: {wrong_class_count(facts.num_classes, data)}")
    return Candidate(name, checkpoint, classifier, facts)


def _describe_checkpoint(candidate: Candidate) -> dict[str, Any]:
    checkpoint = candidate.checkpoint
    return {
        "name": candidate.name,
        "path": str(checkpoint.path),
        "sha256": checkpoint.sha256,
        "format": checkpoint.format,
        "unwrapped": checkpoint.unwrapped,
        "ignored": list(checkpoint.ignored),
        **training_record(checkpoint.metadata),
    }


def _run_name(
    candidates: Sequence[Candidate],
    data: LabelledImages,
    selection: str,
    settings: ScoreSettings,
) -> str:
    """A readable name that other settings do not share, so that runs never collide by default."""
    devices = settings.device.split(",")  # how many and whose does not matter
    shared = replace(settings, cluster=None, device=devices[0].partition(":")[0])
    digest = hashlib.sha256(repr((shared, selection, data.fingerprint)).encode())
    for candidate in candidates:
        digest.update(candidate.checkpoint.sha256.encode())
    first = candidates[0].name if len(candidates) == 1 else f"{len(candidates)}-checkpoints"
    return f"{first}-{data.name}-{digest.hexdigest()[:8]}"


def _watcher(stack: ExitStack) -> Watcher:
    console = Console(stderr=True)
    if console.is_terminal:
        return stack.enter_context(Bar(console))
    return Lines(console)


def _workforce(
    settings: ScoreSettings, device: DeviceChoice, watcher: Watcher, stack: ExitStack
) -> Workforce:
    """Who does the work; sent home when the stack is left."""
    workforce: Workforce
    if settings.cluster is None and "," not in settings.device:
        workforce = Alone(device, watcher.note)
    else:
        from ferd_eval.cluster import Cluster

        devices = [] if settings.cluster else settings.device.split(",")
        workforce = Cluster(settings.cluster, devices, note=watcher.note)
    stack.callback(workforce.end)
    return workforce


def _batch_size(settings: ScoreSettings) -> int | None:
    return None if settings.batch_size == "auto" else int(settings.batch_size)


def _dtype(settings: ScoreSettings) -> torch.dtype:
    return torch.float64 if settings.precision == "float64" else torch.float32
