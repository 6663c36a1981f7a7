"""What ``import --checkpoint`` does: adversarial images made elsewhere, judged like our own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ferd_eval.attacks import Attack, Threat
from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.evaluation.config import EvalConfig
from ferd_eval.evaluation.evaluate import as_threats
from ferd_eval.evaluation.saved_images import SavedFile, SavedImages, read_saved_images
from ferd_eval.io.epsilon import format_quantity
from ferd_eval.pipeline import score_checkpoints
from ferd_eval.results.attack_id import attack_id
from ferd_eval.results.outcomes import ATTACK_ID


def import_images(
    files: Sequence[str],
    checkpoint: Path,
    settings: EvalConfig,
    name: str | None,
    *,
    command: Sequence[str],
    as_json: bool,
) -> None:
    """Send clean and saved images through a checkpoint and write the run.

    Args:
        files: the one file of images.
        checkpoint: the network.
        settings: as for scoring, with ``clean`` as the only attack.
        name: what the attack that made the images is called; None where nobody says.
        command: as typed, for the record.
        as_json: print the scorecard in place of the table.
    """
    if len(files) > 1:
        raise UserError(f"{len(files)} files of images are given; import each into its own --out.")
    saved = read_saved_images(Path(files[0]))
    attack_name = _default_name(saved) if name is None else _attack_id(name)

    def attack_on(data: LabelledImages) -> Attack:
        if len(data) < (settings.limit or len(saved)):
            raise UserError(
                f"{saved.path} holds {len(saved)} images, but {data.name} has {len(data)}. Give "
                "the data set they were made from, or --limit."
            )
        threats = as_threats(settings.eps, data)
        if len(threats) > 1:
            raise UserError(f"--eps is {settings.eps}; the images were made with one ε. Give it.")
        attack = saved.attack_on(
            data, threats[0], attack_name, eps_is_stated=settings.eps is not None
        )
        print(f"{saved.path}: {_summary(attack, len(data), threats[0])}", file=sys.stderr)
        return attack

    source = {"name": saved.path.name, "sha256": saved.sha256, "attacks": [attack_name]}
    facts: dict[str, Any] = {"engine": "imported", "source": [source]}
    if settings.eps is None:
        facts["threat"] = {"eps": None, "eps_text": None}
    score_checkpoints(
        [checkpoint],
        replace(settings, limit=settings.limit or len(saved)),
        command=command,
        as_json=as_json,
        make_attack=attack_on,
        facts=facts,
    )


def _default_name(saved: SavedFile) -> str:
    """AutoAttack's users save its images alone; torchattacks saves those of any attack."""
    if saved.made_by != "torchattacks":
        return "aa"
    print(
        f"{saved.path} does not say which attack made its images, so it is called adv here. Name "
        "it with --attack.",
        file=sys.stderr,
    )
    return "adv"


def _attack_id(name: str) -> str:
    found = attack_id(name)
    if found in (None, "clean") or "@" in name or not ATTACK_ID.fullmatch(found):
        raise UserError(
            f"--attack is {name!r}; give the attack's own name, of letters, digits and -, as aa."
        )
    if found != name:
        print(f"--attack {name} is read as {found}", file=sys.stderr)
    return found


def _summary(attack: SavedImages, count: int, threat: Threat) -> str:
    """How far the images are from the clean ones, and what rounding has to do with it."""
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
