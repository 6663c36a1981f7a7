"""Score, then report: the one way in for the commands, the trainer and studies."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.text import Text

from ferd_eval.attacks import Attack, Threat
from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError, listed
from ferd_eval.evaluation.config import AUTO, EvalConfig
from ferd_eval.evaluation.cost.eta import Forecast, Remaining, forecast
from ferd_eval.evaluation.evaluate import as_threats, evaluate
from ferd_eval.evaluation.execution.executor import Executor, SerialExecutor
from ferd_eval.evaluation.inputs import (
    EvalInputs,
    LoadedModel,
    load_models,
    load_named,
    read_inputs,
    require_dataset,
)
from ferd_eval.evaluation.model_checks import CleanTrial, try_readings
from ferd_eval.evaluation.run import EvalRun
from ferd_eval.evaluation.saved_images import SavedFile, SavedImages, read_saved_images
from ferd_eval.io.epsilon import format_quantity
from ferd_eval.io.json import to_json
from ferd_eval.io.lock import sole_user
from ferd_eval.report import Run, as_run, render_terminal, scorecards, view, write_report
from ferd_eval.report.api import is_current
from ferd_eval.results.attack_id import attack_id
from ferd_eval.results.manifest import RECORD, read_manifest
from ferd_eval.results.outcomes import ATTACK_ID, Outcomes
from ferd_eval.results.run_folder import require_own_folder
from ferd_eval.runtime.console import console, show
from ferd_eval.runtime.device import DeviceChoice, choose_device
from ferd_eval.runtime.progress import duration, shown_on
from ferd_eval.runtime.signals import stopping_after

#: Parent of the default run folders.
RUNS = Path("reports/runs")

_FINISHED = "All of it is finished: the command would show the reports again."
_NOT_TIMED = "How long it takes is not known: workers elsewhere, or too little memory to time it."


@dataclass(frozen=True)
class _Work:
    """Models, inputs and folders of a command, all checked.

    Attributes:
        several: whether each checkpoint has a folder of its own in `root`.
        folders: of the runs.
    """

    config: EvalConfig
    models: Sequence[LoadedModel]
    inputs: EvalInputs
    device: DeviceChoice
    several: bool
    root: Path
    folders: Sequence[Path]

    @classmethod
    def prepare(
        cls,
        files: Sequence[Path],
        config: EvalConfig,
        folder_per_checkpoint: bool = False,
        make_attack: Callable[[LabelledImages], Attack] | None = None,
    ) -> _Work:
        """Load and check everything; nothing is written."""
        require_dataset(config)
        named = load_named(files, config.key)
        for _, checkpoint in named:
            if checkpoint.choice:
                said = f"{checkpoint.path}: {checkpoint.choice}"
                console(stderr=True).print(Text(said), soft_wrap=True)
        inputs = read_inputs(config, make_attack)
        device = choose_device("cpu" if config.is_remote else config.device)
        models = load_models(named, config, inputs, device)
        several = len(models) > 1 or folder_per_checkpoint
        root = config.out or RUNS / _run_name(models, inputs, config)
        _require_room(root, models, several=several)
        names = [each.name for each in models] if several else []
        require_own_folder(root, names)
        for name in names:
            require_own_folder(root / name)
        folders = [root / each.name if several else root for each in models]
        return cls(config, models, inputs, device, several, root, folders)

    def statuses(self) -> list[str | None]:
        """Status of the run in each folder, as it is now; None where there is none."""
        return [(read_manifest(folder) or {}).get("status") for folder in self.folders]

    def forecast(self, statuses: Sequence[str | None]) -> Forecast | None:
        """Cost of the unfinished runs; None where that cannot be timed here."""
        if self.config.is_remote:
            return None
        pairs = zip(self.models, statuses, strict=True)
        unfinished = [model.classifier for model, status in pairs if status != "finished"]
        data, plan = self.inputs.data, self.inputs.plan
        return forecast(unfinished, data, plan, self.device.device, self.config.batch)

    def facts(self, model: LoadedModel, trial: CleanTrial | None) -> dict[str, Any]:
        """Entries of a run's manifest that the run itself does not know."""
        hint = trial and trial.hint(model.facts)
        doubts = (model.checkpoint.choice, model.facts.caution, hint)
        return {
            "checkpoint": model.describe(),
            "model": model.facts.to_json(),
            "trial": trial and trial.to_json(),
            "dataset": {"selection": self.inputs.selection},
            "engine": self.config.engine,
            "groups": self.inputs.groups,
            "attack_file_sha256": self.inputs.attack_file_sha256,
            "warnings": [said for said in doubts if said],
        }


def plan_checkpoints(files: Sequence[Path], config: EvalConfig, *, as_json: bool) -> None:
    """Print what scoring would do and cost; nothing is written or fetched."""
    work = _Work.prepare(files, replace(config, download=False))
    now = work.statuses()
    ahead = work.forecast(now)
    statuses = {
        str(folder): {None: "new", "running": "continued"}.get(status, str(status))
        for folder, status in zip(work.folders, now, strict=True)
    }
    data, plan = work.inputs.data, work.inputs.plan
    if as_json:
        models = [
            {**each.describe(), "architecture": each.facts.architecture} for each in work.models
        ]
        record = {
            "checkpoints": models,
            "dataset": {"name": data.name, "n": len(data), "image_shape": data.image_shape},
            "device": work.device.describe(),
            "attacks": {each.id: each.describe() for each in plan},
            "seconds_at_most": ahead and ahead.longest_by_attack,
            "folders": statuses,
        }
        print(to_json(record), end="")
        return
    for each in work.models:
        print(f"{each.name}: {each.facts.architecture}, {each.facts.parameters} parameters")
    print(f"on {len(data)} images of {data.name} ({work.inputs.selection}), {plan[-1].threat}")
    for planned in plan:
        stages = ", ".join(each.family for each in planned.attacks[1:])
        cost = f"  {duration(ahead.longest_by_attack[planned.id])} at most" if ahead else ""
        print(f"  {planned.id}{f' ({stages})' if stages else ''}{cost}")
    for folder, status in statuses.items():
        print(f"into {folder} ({status})")
    finished = {*statuses.values()} == {"finished"}
    print(_FINISHED if finished else ahead.sentence if ahead else _NOT_TIMED)
    print("This was a dry run: nothing is written. Leave out --dry-run to start.")


def score_checkpoints(
    files: Sequence[Path],
    config: EvalConfig,
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
        config: of the runs.
        command: as typed, for the record.
        as_json: print scorecards in place of the table.
        folder_per_checkpoint: even if there is only one.
        make_attack: one more attack, made for the data.
        facts: more entries for the manifests.
    """
    work = _Work.prepare(files, config, folder_per_checkpoint, make_attack)
    data, root = work.inputs.data, work.root
    finished: dict[str, Run] = {}

    def report(model: LoadedModel, folder: Path, outcomes: Outcomes) -> None:
        finished[model.name] = run = as_run(model.name, outcomes)
        if not is_current(folder, [run]):
            write_report(folder, [run])

    with ExitStack() as stack:
        screen = console(stderr=True)
        reporter = stack.enter_context(shown_on(screen))
        for caution in data.cautions:
            reporter.note(f"warning: {caution}")
        for folder in dict.fromkeys([root, *work.folders]):
            stack.enter_context(sole_user(folder, below=("adversarial",), note=reporter.note))
        statuses = work.statuses()
        ahead = work.forecast(statuses)
        if ahead and ahead.is_worth_saying and None in statuses:
            reporter.note(ahead.sentence)
        seconds = iter(ahead.seconds if ahead else ())
        executor = _executor(config, work.device, reporter.note)
        stack.callback(executor.end)
        beside: list[Remaining] = []
        runs = []
        for model, folder, status in zip(work.models, work.folders, statuses, strict=True):
            done, trial = status == "finished", None
            if not done:
                device = work.device.device
                trial = try_readings(model.checkpoint, model.classifier, model.facts, data, device)
            runs.append(
                EvalRun(
                    model.classifier,
                    data,
                    work.inputs.plan,
                    config,
                    executor,
                    folder,
                    {"command": list(command), **work.facts(model, trial), **(facts or {})},
                    reporter,
                    beside=beside,
                    seconds=None if done else next(seconds, None),
                    title=model.name if work.several else "",
                    remark=trial.hint(model.facts) if trial else None,
                    on_finished=partial(report, model, folder),
                )
            )
        title = f"{len(runs)} checkpoints" if work.several else work.models[0].name
        reporter.start(title, measured=ahead is not None)
        with stopping_after("shard"):
            evaluate(runs, executor)
        in_order = [finished[model.name] for model in work.models]
        if work.several and not is_current(root, in_order):
            write_report(root, in_order)
    show(
        lambda: render_terminal(view(in_order)),
        lambda: scorecards(in_order),
        root / "report.html",
        as_json=as_json,
    )


def _require_room(root: Path, models: Sequence[LoadedModel], *, several: bool) -> None:
    """A folder is either one run or a folder of runs: their reports would overwrite each other."""
    try:
        alone = (root / RECORD).exists()
        runs = sorted(file.parent.name for file in root.glob(f"*/{RECORD}"))
    except OSError:
        return  # nothing can be written there either, which has its own message
    if several and alone:
        raise UserError(
            f"{root} is the folder of one run, but {len(models)} checkpoints are given. "
            "Choose another folder with --out."
        )
    if not several and not alone and runs:
        raise UserError(
            f"{root} is a folder of runs ({listed(runs, 3)}), but one checkpoint is given. "
            f"Give --out {root / models[0].name}."
        )


def _run_name(models: Sequence[LoadedModel], inputs: EvalInputs, config: EvalConfig) -> str:
    """A readable name that other settings do not share, so that runs never collide by default."""
    devices = config.device.split(",")  # how many and whose does not matter
    shared = replace(config, cluster=None, device=devices[0].partition(":")[0])
    data = inputs.data
    named = [] if config.classes is None else [data.class_names]
    searched = [] if config.search_precision == AUTO else [config.search_precision]
    key = repr((shared, inputs.selection, data.fingerprint, *named, *searched))
    # The class's former name: default folders of earlier runs are found again.
    digest = hashlib.sha256(key.replace("EvalConfig", "ScoreSettings", 1).encode())
    for model in models:
        digest.update(f"{model.checkpoint.sha256}{model.checkpoint.key}".encode())
    first = models[0].name if len(models) == 1 else f"{len(models)}-checkpoints"
    return f"{first}-{data.name}-{digest.hexdigest()[:8]}"


def _executor(config: EvalConfig, device: DeviceChoice, note: Callable[[str], None]) -> Executor:
    if not config.is_remote:
        return SerialExecutor(device, note)
    from ferd_eval.evaluation.execution.ray_executor import RayExecutor

    devices = [] if config.cluster else config.device.split(",")
    return RayExecutor(config.cluster, devices, note=note)


def import_images(
    files: Sequence[str],
    checkpoint: Path,
    config: EvalConfig,
    name: str | None,
    *,
    command: Sequence[str],
    as_json: bool,
) -> None:
    """Send clean images, and adversarial ones made elsewhere, through a checkpoint.

    Args:
        files: the one file of images.
        checkpoint: the network.
        config: as for scoring, with ``clean`` as the only attack.
        name: of the attack that made the images, None where nobody says.
        command: as typed, for the record.
        as_json: print the scorecard in place of the table.
    """
    if len(files) > 1:
        raise UserError(f"{len(files)} files of images are given; import each into its own --out.")
    saved = read_saved_images(Path(files[0]))
    attack_name = _default_name(saved) if name is None else _attack_id(name)

    def attack_on(data: LabelledImages) -> Attack:
        if len(data) < (config.limit or len(saved)):
            raise UserError(
                f"{saved.path} holds {len(saved)} images, but {data.name} has {len(data)}. Give "
                "the data set they were made from, or --limit."
            )
        threats = as_threats(config.eps, data)
        if len(threats) > 1:
            raise UserError(f"--eps is {config.eps}; the images were made with one ε. Give it.")
        attack = saved.attack_on(
            data, threats[0], attack_name, eps_is_stated=config.eps is not None
        )
        _tell(f"{saved.path}: {_summary(attack, len(data), threats[0])}")
        return attack

    source = {"name": saved.path.name, "sha256": saved.sha256, "attacks": [attack_name]}
    unknown = {"threat": {"eps": None, "eps_text": None}} if config.eps is None else {}
    score_checkpoints(
        [checkpoint],
        replace(config, limit=config.limit or len(saved)),
        command=command,
        as_json=as_json,
        make_attack=attack_on,
        facts={"engine": "imported", "source": [source], **unknown},
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _default_name(saved: SavedFile) -> str:
    """AutoAttack's users save its images alone; torchattacks saves those of any attack."""
    if saved.made_by != "torchattacks":
        return "aa"
    _tell(
        f"{saved.path} does not say which attack made its images, so it is called adv here. Name "
        "it with --attack."
    )
    return "adv"


def _attack_id(name: str) -> str:
    found = attack_id(name)
    if found in (None, "clean") or "@" in name or not ATTACK_ID.fullmatch(found):
        raise UserError(
            f"--attack is {name!r}; give the attack's own name, of letters, digits and -, as aa."
        )
    if found != name:
        _tell(f"--attack {name} is read as {found}")
    return found


def _summary(attack: SavedImages, count: int, threat: Threat) -> str:
    """How far the images are from the clean ones, and how rounding matters."""
    said = (
        f"the largest of {count} perturbations is {attack.largest:.6f} = "
        f"{255 * attack.largest:.3f}/255"
    )
    usual = "" if attack.eps_is_stated else "the data set's usual "
    ball = f"{usual}ε = {format_quantity(threat.eps)}"
    if not attack.beyond:
        said += f", within {ball}"
    if attack.rounding is not None:
        said += (
            f". Its pixels are {attack.rounding.type}, which may move one by "
            f"{255 * attack.rounding.most:.2f}/255"
        )
        if attack.beyond:
            said += f": {attack.beyond} images beyond {ball} by no more are moved back to it"
        said += ". Rounding may undo part of an attack; float32 keeps all of it"
    if not attack.eps_is_stated:
        said += ". For which ε they were made is not known; give it as --eps"
    return said
