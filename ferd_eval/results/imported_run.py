"""Predictions of other tools as a finished run: outcomes and their record. Needs no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ferd_eval.errors import UserError, listed
from ferd_eval.io.epsilon import format_quantity, parse_quantity
from ferd_eval.io.json import parse_json, to_json
from ferd_eval.io.lock import now
from ferd_eval.results.attack_id import eps_of, known_attack, preset_of
from ferd_eval.results.importing import Predictions, read_predictions
from ferd_eval.results.manifest import RECORD, environment
from ferd_eval.results.outcomes import OUTCOMES, Outcomes
from ferd_eval.results.prediction_file import PredictionFile
from ferd_eval.results.run_folder import require_own_folder

#: What makes two imports the same run.
_IDENTITY = ("engine", "source", "dataset", "attacks", "threat")


@dataclass(frozen=True)
class PredictionSource:
    """Files of predictions, and the record of the run they come from; empty where there is none."""

    files: tuple[PredictionFile, ...]
    record: Mapping[str, Any]

    @classmethod
    def of(cls, words: Sequence[str], attack: str | None) -> PredictionSource:
        """From ``FILE`` or ``FILE=ATTACK``; `attack` names files that do not say it."""
        files = tuple(_file(word, attack) for word in words)
        folder = files[0].path.parent
        is_outcomes = len(files) == 1 and files[0].path.name == OUTCOMES
        known = is_outcomes and (folder / RECORD).is_file()
        return cls(files, Outcomes.load(folder).manifest if known else {})

    def imported(
        self,
        out: Path,
        *,
        name: str | None,
        dataset: Mapping[str, Any],
        class_names: Sequence[str] | None,
        eps: str | None,
        command: Sequence[str],
    ) -> tuple[Outcomes, tuple[str, ...]]:
        """A finished run, with nothing in its record that nobody said, and notes on the reading.

        `name` is the model's; without one it is called as recorded, else as the folder `out`.
        Without `class_names` classes are the numbers that occur. `eps` is the radius of the
        attacks, `command` the command line.

        UserError: a file cannot be read, says what cannot be true, or contradicts the record.
        """
        found = read_predictions(self.files, class_names)
        images = found.table.drop_duplicates("index")
        counts_K = np.bincount(images["label"], minlength=len(found.class_names))
        ball = {} if found.attacks == ("clean",) else self._ball(eps)
        known = self.record.get("attacks", {})
        checkpoint = self.record.get("checkpoint") or {}
        time = now()
        manifest = {
            **self.record,
            "status": "finished",
            "started": time,
            "finished": time,
            **environment(),
            "command": list(command),
            "checkpoint": {
                **checkpoint,
                "name": name or checkpoint.get("name") or out.resolve().name,
            },
            "dataset": {
                **dataset,
                "n": len(images),
                "class_names": list(found.class_names),
                "class_counts": counts_K.tolist(),
            },
            **({"threat": {"norm": "linf", **ball}} if ball else {}),
            "attacks": {id_: known.get(id_) or _constants(id_, ball) for id_ in found.attacks},
            "engine": "imported",
            "source": list(found.sources),
            "warnings": [*(self.record.get("warnings") or []), *_doubts(found, self.record)],
        }
        return Outcomes(found.table, manifest), found.notes

    def _ball(self, eps: str | None) -> dict[str, Any]:
        """ε as given, else as recorded; empty where nobody said."""
        threat = self.record.get("threat") or {}
        recorded = {key: value for key, value in threat.items() if key != "norm"}
        if eps is None:
            return recorded
        radius = parse_quantity(eps, "--eps")
        if recorded and recorded.get("eps") != float(radius):
            raise UserError(
                f"--eps is {eps}, but the manifest beside {OUTCOMES} says "
                f"{recorded.get('eps_text') or recorded.get('eps')}. Leave --eps out."
            )
        return {"eps": float(radius), "eps_text": format_quantity(radius)}


def _file(word: str, attack: str | None) -> PredictionFile:
    path, equals, given = word.rpartition("=")
    if equals and not Path(word).exists():
        return PredictionFile(Path(path), given, attack_is_given=True)
    return PredictionFile(Path(word), attack or known_attack(Path(word).stem))


def _doubts(found: Predictions, record: Mapping[str, Any]) -> list[str]:
    """Why files may not be what they are called."""
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
    """ε, where the id or the user tells it; the attack's other constants are unknown."""
    if attack == "clean":
        return {"eps": 0.0, "eps_text": "0"}
    own = eps_of(attack, {}) if "@" in attack else None
    if own is not None:
        return {"eps": own, "eps_text": attack.rpartition("@")[2]}
    return dict(ball)


def require_room(folder: Path, manifest: Mapping[str, Any]) -> None:
    """UserError unless the folder is empty or holds this very import."""
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
    asked = json.loads(to_json(manifest))
    if not isinstance(earlier, dict) or any(
        earlier.get(key) != asked.get(key) for key in _IDENTITY
    ):
        raise UserError(
            f"{folder} holds another run. Choose another folder with --out, or remove this one."
        )
