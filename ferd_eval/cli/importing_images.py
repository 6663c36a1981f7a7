"""What ``import --checkpoint`` does: adversarial images made elsewhere, judged like our own."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ferd_eval.attacks import Attack
from ferd_eval.cli.scoring import score_checkpoints
from ferd_eval.cli.settings import ScoreSettings
from ferd_eval.datasets import LabelledImages
from ferd_eval.errors import UserError
from ferd_eval.outcomes import ATTACK_ID
from ferd_eval.quantity import format_quantity
from ferd_eval.runner import as_threats
from ferd_eval.saved_images import read_saved_images


def import_images(
    files: Sequence[str],
    checkpoint: Path,
    settings: ScoreSettings,
    name: str,
    *,
    command: Sequence[str],
    as_json: bool,
) -> None:
    """Send clean and saved images through a checkpoint and write the run.

    Args:
        files: the one file of images.
        checkpoint: the network.
        settings: as for scoring, with ``clean`` as the only attack.
        name: id of the attack that made the images.
        command: as typed, for the record.
        as_json: print the scorecard in place of the table.
    """
    if len(files) > 1:
        raise UserError(f"{len(files)} files of images are given; import each into its own --out.")
    if not ATTACK_ID.fullmatch(name) or "@" in name or name == "clean":
        raise UserError(f"--attack is {name!r}; give a name of letters, digits and -, such as aa.")
    saved = read_saved_images(Path(files[0]))

    def attack_on(data: LabelledImages) -> Attack:
        if len(data) < (settings.limit or len(saved)):
            raise UserError(
                f"{saved.path} holds {len(saved)} images, but {data.name} has {len(data)}. Give "
                "the data set they were made from, or --limit."
            )
        threats = as_threats(settings.eps, data)
        if len(threats) > 1:
            raise UserError(f"--eps is {settings.eps}; the images were made with one ε. Give it.")
        attack = saved.attack_on(data, threats[0], name)
        print(
            f"{saved.path}: the largest of {len(data)} perturbations is {attack.largest:.6f} = "
            f"{255 * attack.largest:.3f}/255, within ε = {format_quantity(threats[0].eps)}",
            file=sys.stderr,
        )
        return attack

    source = {"name": saved.path.name, "sha256": saved.sha256, "attacks": [name]}
    score_checkpoints(
        [checkpoint],
        replace(settings, limit=settings.limit or len(saved)),
        command=command,
        as_json=as_json,
        make_attack=attack_on,
        facts={"engine": "imported", "source": [source]},
    )
