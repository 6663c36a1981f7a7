"""What ``import`` does with plain predictions: read, compute, write. No torch on this path."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from ferd_eval.datasets import dataset_info
from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.errors import UserError, listed
from ferd_eval.io.epsilon import format_quantity, parse_quantity
from ferd_eval.io.json import parse_json, to_json
from ferd_eval.io.lock import now, sole_user
from ferd_eval.report import as_run, write_report
from ferd_eval.report.api import show
from ferd_eval.results.attack_id import eps_of, known_attack, preset_of
from ferd_eval.results.importing import Predictions, read_predictions
from ferd_eval.results.manifest import RECORD, environment
from ferd_eval.results.outcomes import OUTCOMES, Outcomes
from ferd_eval.results.prediction_file import PredictionFile
from ferd_eval.results.run_folder import require_own_folder
from ferd_eval.runtime.console import console

#: What makes two imports the same run.
_IDENTITY = ("engine", "source", "dataset", "attacks", "threat")


@dataclass(frozen=True)
class ImportSettings:
    """What is known of predictions beside their files; None where nobody said."""

    out: Path
    name: str | None
    dataset: str | None
    classes: str | None
    attack: str | None
    eps: str | None


def import_predictions(
    files: Sequence[str], settings: ImportSettings, *, command: Sequence[str], as_json: bool
) -> None:
    """Write a finished run of what other tools predicted, with its reports, and show it."""
    read = [_file(each, settings.attack) for each in files]
    record = _record_beside([each.path for each in read])
    dataset, class_names, said = _classes(settings, record)
    found = read_predictions(read, class_names)
    manifest = _manifest(found, settings, dataset, record, command)
    name = manifest["checkpoint"]["name"]
    outcomes = Outcomes(found.table, manifest)
    run = as_run(
        name, outcomes
    )  # what is wrong with the figures is found before anything is written
    _require_room(settings.out, manifest)
    screen = console(stderr=True)
    for note in [*said, *found.notes]:
        screen.print(Text(note), soft_wrap=True)
    with sole_user(settings.out):
        outcomes.save(settings.out)
        write_report(settings.out, [run])
    show([run], settings.out / "report.html", as_json=as_json)


def _file(word: str, attack: str | None) -> PredictionFile:
    """``FILE`` or ``FILE=ATTACK``."""
    path, equals, given = word.rpartition("=")
    if equals and not Path(word).exists():
        return PredictionFile(Path(path), given, attack_is_given=True)
    return PredictionFile(Path(word), attack or known_attack(Path(word).stem))


def _record_beside(files: Sequence[Path]) -> Mapping[str, Any]:
    """The record of the run that the only file is the outcomes of, where it lies beside it."""
    if len(files) > 1 or files[0].name != OUTCOMES or not (files[0].parent / RECORD).is_file():
        return {}
    return Outcomes.load(files[0].parent).manifest


def _classes(
    settings: ImportSettings, record: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...] | None, list[str]]:
    """What the data set is called and is made of, its class names, and what is to be said."""
    if settings.dataset is not None and settings.classes is not None:
        raise UserError("--dataset and --classes both name the classes; give one of them.")
    if record:
        return _recorded_classes(settings, record["dataset"])
    if settings.classes is not None:
        return {}, ClassOrder.chosen(settings.classes, None).of_numbers(), []
    if settings.dataset is None:
        return {}, None, []
    info = dataset_info(settings.dataset)
    if info.num_classes is None:
        raise UserError(
            f"the classes of {settings.dataset} are in its files. Name them with --classes."
        )
    groupings = {name: list(groups) for name, groups in info.groupings.items()}
    named = {"name": info.name, "groupings": groupings}
    if info.class_names:
        return named, info.class_names, []
    numbers = tuple(map(str, range(info.num_classes)))
    return named, numbers, [f"the class names of {info.name} are in its files: numbers stand in"]


def _recorded_classes(
    settings: ImportSettings, dataset: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...], list[str]]:
    """As `_classes`, from the record of a run."""
    said = settings.dataset or settings.classes
    if said is not None and said != dataset.get("name"):
        flag = "--dataset" if settings.dataset else "--classes"
        raise UserError(
            f"{flag} is {said}, but the manifest beside {OUTCOMES} says {dataset.get('name')} and "
            f"names its classes. Leave {flag} out."
        )
    return dict(dataset), tuple(dataset["class_names"]), []


def _manifest(
    found: Predictions,
    settings: ImportSettings,
    dataset: Mapping[str, Any],
    record: Mapping[str, Any],
    command: Sequence[str],
) -> dict[str, Any]:
    """The record of a finished run, without anything that nobody said."""
    images = found.table.drop_duplicates("index")
    counts_K = np.bincount(images["label"], minlength=len(found.class_names))
    ball = {} if found.attacks == ("clean",) else _ball(settings, record)
    known = record.get("attacks", {})
    checkpoint = record.get("checkpoint") or {}
    name = settings.name or checkpoint.get("name") or settings.out.resolve().name
    time = now()
    return {
        **record,
        "status": "finished",
        "started": time,
        "finished": time,
        **environment(),
        "command": list(command),
        "checkpoint": {**checkpoint, "name": name},
        "dataset": {
            **dataset,
            "n": len(images),
            "class_names": list(found.class_names),
            "class_counts": counts_K.tolist(),
        },
        **({"threat": {"norm": "linf", **ball}} if ball else {}),
        "attacks": {
            attack: known.get(attack) or _constants(attack, ball) for attack in found.attacks
        },
        "engine": "imported",
        "source": list(found.sources),
        "warnings": [*(record.get("warnings") or []), *_doubts(found, record)],
    }


def _ball(settings: ImportSettings, record: Mapping[str, Any]) -> dict[str, Any]:
    """ε as given, else as recorded; empty where nobody said."""
    recorded = {key: value for key, value in (record.get("threat") or {}).items() if key != "norm"}
    if settings.eps is None:
        return recorded
    eps = parse_quantity(settings.eps, "--eps")
    if recorded and recorded.get("eps") != float(eps):
        raise UserError(
            f"--eps is {settings.eps}, but the manifest beside {OUTCOMES} says "
            f"{recorded.get('eps_text') or recorded.get('eps')}. Leave --eps out."
        )
    return {"eps": float(eps), "eps_text": format_quantity(eps)}


def _doubts(found: Predictions, record: Mapping[str, Any]) -> list[str]:
    """Why what the files say may not be what it is called."""
    doubts = []
    for attack in found.attacks:
        rows = found.table[found.table["attack"] == attack]
        if attack != "clean" and (rows["adv_pred"] == rows["clean_pred"]).all():
            doubts.append(
                f"{attack} changed none of {len(rows)} predictions. If they were made on clean "
                "images, they say nothing about robustness: import them as FILE=clean."
            )
        if preset_of(attack) == "aa-audited" and attack not in (record.get("audits") or {}):
            doubts.append(
                f"{attack} attacks a part of the images to the end, and which is not in the file: "
                "what it left out counts as robust."
            )
    return doubts


def _constants(attack: str, ball: Mapping[str, Any]) -> dict[str, Any]:
    """ε, where the id or the user tells it; what else the attack was is not known."""
    if attack == "clean":
        return {"eps": 0.0, "eps_text": "0"}
    own = eps_of(attack, {}) if "@" in attack else None
    if own is not None:
        return {"eps": own, "eps_text": attack.rpartition("@")[2]}
    return dict(ball)


def _require_room(folder: Path, manifest: Mapping[str, Any]) -> None:
    """The folder is empty, or holds this very import.

    Raises:
        UserError: it holds something else.
    """
    require_own_folder(folder)
    try:
        earlier = parse_json((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        if runs := sorted(file.parent.name for file in folder.glob(f"*/{RECORD}")):
            raise UserError(
                f"{folder} is a folder of runs ({listed(runs, 3)}). Give --out a folder in it, "
                f"e.g. {folder / 'imported'}."
            ) from None
        return
    except (OSError, ValueError):
        earlier = None
    now_asked = json.loads(to_json(manifest))
    same = isinstance(earlier, dict) and all(
        earlier.get(key) == now_asked.get(key) for key in _IDENTITY
    )
    if not same:
        raise UserError(
            f"{folder} holds another run. Choose another folder with --out, or remove this one."
        )
