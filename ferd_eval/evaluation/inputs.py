"""From settings and files to models, images and attacks, all checked before any work."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ferd_eval.attacks import Attack, PlannedAttack, plan_attacks
from ferd_eval.attacks.registry import BLACK_BOX, PRESETS
from ferd_eval.datasets import LabelledImages, list_datasets, load_dataset
from ferd_eval.errors import UserError, brief, listed
from ferd_eval.evaluation.config import EvalConfig
from ferd_eval.evaluation.evaluate import as_threats, require_own_names, through_engine
from ferd_eval.evaluation.model_checks import check_network, need_gradient, wrong_class_count
from ferd_eval.io.epsilon import parse_quantity
from ferd_eval.models import Classifier, ModelFacts, build_classifier
from ferd_eval.models.checkpoint.load import Checkpoint, load_checkpoint
from ferd_eval.models.file_classifier import checkpoint_record
from ferd_eval.models.onnx_network import OnnxNetwork
from ferd_eval.results.class_groups import read_groups
from ferd_eval.runtime.device import DeviceChoice
from ferd_eval.runtime.plugins import load_user_code


@dataclass(frozen=True)
class LoadedModel:
    """A checkpoint and its network, under a name of its own."""

    name: str
    checkpoint: Checkpoint
    classifier: Classifier
    facts: ModelFacts

    def describe(self) -> dict[str, Any]:
        return checkpoint_record(self.name, self.checkpoint)


def load_named(files: Sequence[Path], key: str | None = None) -> list[tuple[str, Checkpoint]]:
    """Each file with its stem, or its folder's name and that; UserError where two are the same."""
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
    return [(name, load_checkpoint(file, key=key)) for file, name in zip(files, names, strict=True)]


def load_models(
    named: Sequence[tuple[str, Checkpoint]],
    config: EvalConfig,
    inputs: EvalInputs,
    device: DeviceChoice,
) -> list[LoadedModel]:
    """Build all networks, then check each on the device; UserError names the file that does not
    fit."""
    data = inputs.data
    dtype = torch.float64 if config.precision == "float64" else torch.float32
    models = []
    for name, checkpoint in named:
        classifier, facts = build_classifier(
            checkpoint,
            arch=config.arch,
            model_file=config.model_file,
            normalize=config.normalize,
            num_classes=data.num_classes,
        )
        if facts.num_classes is not None and facts.num_classes != data.num_classes:
            raise UserError(f"{checkpoint.path}: {wrong_class_count(facts.num_classes, data)}")
        if isinstance(classifier.network, OnnxNetwork):
            require_no_gradients(checkpoint, config, inputs.plan, data)
        models.append(LoadedModel(name, checkpoint, classifier, facts))
    by_gradient = need_gradient(inputs.plan, data)
    for model in models:
        model.classifier.to(device.device, dtype)
        try:
            check_network(model.classifier, data, dtype, by_gradient=by_gradient)
        except UserError as error:
            raise UserError(f"{model.checkpoint.path}: {error}") from error
    return models


def require_no_gradients(
    checkpoint: Checkpoint, config: EvalConfig, plan: Sequence[PlannedAttack], data: LabelledImages
) -> None:
    """UserError where a network in an ONNX file is asked for what only the original can give."""
    if config.precision != "float32":
        raise UserError(
            f"{checkpoint.path} computes as it was exported; leave --precision {config.precision} "
            "out."
        )
    needing = [each.id for each in plan if need_gradient([each], data)]
    if needing:
        work = ["clean", *(name for name, of in PRESETS.items() if of.access == (BLACK_BOX,))]
        raise UserError(
            f"{checkpoint.path}: {listed(needing, 9)} need gradients, which an ONNX file does not "
            f"give. Without: --attacks {','.join(work)}; and images made from its checkpoint: "
            "ferd-eval import."
        )


@dataclass(frozen=True)
class EvalInputs:
    """Shared by all models of a command."""

    data: LabelledImages  #: images to attack
    selection: str  #: which of the data set's these are, for print
    plan: tuple[PlannedAttack, ...]  #: attacks, in order
    groups: dict[str, list[str]] | None  #: name → classes, None where nobody asked for groups
    attack_file_sha256: str | None  #: of the user's own attack


def read_inputs(
    config: EvalConfig, make_attack: Callable[[LabelledImages], Attack] | None = None
) -> EvalInputs:
    """Load and check everything but the checkpoints; UserError where something is wrong.

    `make_attack` makes one more attack for the data; a file of the user's own goes first.
    """
    data, selection = _load_data(require_dataset(config), config)
    own, own_digest = None, None
    if config.attack_file is not None:
        own, own_digest = _own_attack(config.attack_file)
    elif make_attack is not None:
        own = make_attack(data)
    plan = _plan(config, data, own)
    named = config.groups
    groups = None if named is None else read_groups(named, data.class_names, data.groupings)
    return EvalInputs(data, selection, plan, groups, own_digest)


def require_dataset(config: EvalConfig) -> str:
    """The data set's name; UserError where the user gave none."""
    if config.dataset is None:
        names = ", ".join(info.name for info in list_datasets())
        raise UserError(f"--dataset is missing. There are: {names}.")
    return config.dataset


def _load_data(dataset: str, config: EvalConfig) -> tuple[LabelledImages, str]:
    data = load_dataset(
        dataset,
        config.data_dir,
        download=config.download,
        classes=config.classes,
        class_order=config.class_order,
    )
    if config.limit is not None:
        return data.first(config.limit), f"first {config.limit}"
    if config.per_class is not None:
        return data.first_per_class(config.per_class), f"first {config.per_class} per class"
    return data, "all"


def _plan(
    config: EvalConfig, data: LabelledImages, own: Attack | None
) -> tuple[PlannedAttack, ...]:
    step = config.step_size
    names: list[str | Attack] = [*config.attacks.split(","), *([] if own is None else [own])]
    plan = plan_attacks(
        names,
        as_threats(config.eps, data),
        steps=config.steps,
        step_size=None if step is None else parse_quantity(step, "--step-size"),
    )
    require_own_names(plan)
    return through_engine(plan, config.engine, data.num_classes)


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
            f"{', '.join(missing)} (docs/contributing/attack.md)."
        )
    assert isinstance(made, Attack)
    return made, code.sha256
