"""Read a published scorecard and check it against the files published beside it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from ferd_eval._version import __version__
from ferd_eval.errors import UserError
from ferd_eval.io.files import file_sha256
from ferd_eval.metrics import scorecard
from ferd_eval.report.published.counts import PublishedAttack, read_attack
from ferd_eval.report.published.run import CodeState, Place, PublishedRun, Training
from ferd_eval.results.manifest import RECORD, look_up
from ferd_eval.results.outcomes import ATTACK_ID, OUTCOMES, Outcomes
from ferd_eval.results.schema import Fields

_PAGE, _README = "report.html", "README.md"

#: Fields of the record of a scoring run, and of a training run.
SCORING, TRAINING = frozenset({"attacks", "status"}), frozenset({"recipe", "status"})

#: Fields that a run's record shares with its scorecard: place in the record → in the scorecard.
_SHARED = {
    "checkpoint.sha256": "checkpoint.sha256",
    "dataset.fingerprint": "dataset.fingerprint",
    "seed": "seed",
    "ferd_eval": "versions.ferd_eval",
}

_COMMIT = re.compile("[0-9a-f]{7,64}")
_DAY = re.compile(r"(\d{4}-\d\d-\d\d)T")

#: Recipe fields that name the method.
_METHOD_FIELDS = ("variant", "ablation", "synthesis.method", "loss.name")


def read_run(reports: Path, place: Place) -> PublishedRun:
    """Read one scorecard and the files beside it.

    Args:
        reports: folder of all reports.

    Raises:
        UserError: it is damaged, or files contradict each other.
    """
    file = reports / place.file
    card = Fields.read(file, str(place.file))
    names = card.texts("dataset.class_names")
    attacks = tuple(read_attack(card, attack, names) for attack in _attacks(card))
    record = _scoring_record(file, place)
    if record is not None:
        _require_same(card, record)
    digest = card.digest("checkpoint.sha256")
    training = _training_record(reports, place, digest)
    outcomes = place.file.name == "scorecard.json" and (file.parent / OUTCOMES).is_file()
    if outcomes:
        _require_outcomes(file.parent, place, attacks)
    return PublishedRun(
        place=place,
        dataset=card.text("dataset.name"),
        selection=card.text_or_none("dataset.selection") or "",
        fingerprint=card.digest("dataset.fingerprint"),
        class_names=names,
        attacks=attacks,
        sha256=digest,
        key=card.text_or_none("checkpoint.key") or "",
        architecture=card.text_or_none("model.architecture") or "",
        version=_version(card),
        training=_training(training, record, place),
        scored=_code_state(record),
        flags=card.texts("flags"),
        imported=record is not None and record.text_or_none("engine") == "imported",
        weights=_require_weights(reports, place, card, training),
        outcomes=outcomes,
        readme=_nearest_readme(reports, place),
        page=_beside(reports, place.file.parent / _PAGE),
    )


def _attacks(card: Fields) -> tuple[str, ...]:
    attacks = tuple(card.object("attacks"))
    strange = [attack for attack in attacks if not ATTACK_ID.fullmatch(attack)]
    if not attacks or strange:
        said = f"{strange[0]!r} is no attack" if strange else "it holds no attack"
        raise UserError(f"{card.file}: {said}. Publish what ferd-eval score wrote.")
    return attacks


def _version(card: Fields) -> str:
    """The version of ferd_eval that scored; refuse none, and one later than this."""
    version = card.text("versions.ferd_eval")
    found = [re.match(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})", each) for each in (version, __version__)]
    theirs, ours = (each and tuple(map(int, each.groups())) for each in found)
    if theirs is None or (ours is not None and theirs > ours):
        raise UserError(
            f"{card.file}: made by ferd_eval {version[:40]}, this is {__version__}. "
            "Publish with that version or a later one."
        )
    return version


def _scoring_record(file: Path, place: Place) -> Fields | None:
    """The scoring run's record, if published; refuse a damaged one or an unfinished run."""
    name = file.name.removesuffix("scorecard.json") + RECORD
    record = _record(file.with_name(name), str(place.file.with_name(name)), SCORING)
    if record is not None and record.text_or_none("status") != "finished":
        raise UserError(
            f"{record.file}: the run is not finished. Repeat its score command, and copy it again."
        )
    return record


def _record(file: Path, called: str, fields: frozenset[str]) -> Fields | None:
    """A record with these fields, if there is one."""
    if not file.is_file():
        return None
    record = Fields.read(file, called)
    return record if fields <= {*record.values} else None


def _require_same(card: Fields, record: Fields) -> None:
    """Refuse a scorecard and a record of different runs."""
    differing = [
        there
        for there, here in _SHARED.items()
        if look_up(card.values, here) != look_up(record.values, there)
    ]
    recorded = record.object("attacks")
    differing += [
        f"what {attack} ran with"
        for attack, scores in card.object("attacks").items()
        if (look_up(scores, "constants") or {}) != (recorded.get(attack) or {})
    ]
    if differing:
        raise UserError(
            f"{card.file} and {record.file} differ in {differing[0]}. Copy both from the same run."
        )


def _training_record(reports: Path, place: Place, digest: str) -> Fields | None:
    """The training run's record, if published.

    Raises:
        UserError: it is damaged, unfinished, or of another network.
    """
    for folder in place.training:
        record = _record(reports / folder / RECORD, str(folder / RECORD), TRAINING)
        if record is None:
            continue
        if record.text_or_none("status") != "finished":
            raise UserError(f"{record.file}: training is not finished. Publish it when it is.")
        if record.digest_or_none("result.sha256") != digest:
            raise UserError(
                f"{place.file}: checkpoint {digest[:12]} was scored, but {record.file} is of "
                f"{(record.text_or_none('result.sha256') or 'none')[:12]}. Publish the scores of "
                "the network that is there."
            )
        return record
    return None


def _require_weights(reports: Path, place: Place, card: Fields, training: Fields | None) -> bool:
    """Whether the checkpoint is published; refuse a file of its name with another digest."""
    named = [card.text_or_none("checkpoint.path")]
    named += [training.text_or_none("result.file")] if training else []
    names = {re.split(r"[\\/]", name)[-1] for name in named if name} - {"", ".", ".."}
    names = {name for name in names if name.isprintable() and len(name.encode()) < 256}
    folders = {place.file.parent, *place.training}
    found = False
    for folder in sorted(folders):
        for name in sorted(names):
            file = reports / folder / name
            if not file.is_file() or file.suffix == ".json":
                continue
            if file_sha256(file) != card.digest("checkpoint.sha256"):
                raise UserError(
                    f"{folder / name} is not the checkpoint that {place.file} scored: its SHA-256 "
                    "is another. Publish that one, or none."
                )
            found = True
    return found


def _require_outcomes(folder: Path, place: Place, attacks: tuple[PublishedAttack, ...]) -> None:
    """Refuse published outcomes that cannot be read, or give other counts than the scorecard."""
    again = "Make the scorecard again with ferd-eval report, and copy both."
    try:
        made = scorecard(Outcomes.load(folder)).attacks
        theirs = [(each.attack, each.sizes, each.accuracies) for each in attacks]
        ours = [
            (attack, *zip(*((each.n, each.accuracy) for each in scores.per_class), strict=True))
            for attack, scores in made.items()
        ]
        same = ours == theirs
    except (UserError, KeyError, TypeError, ValueError, AttributeError, IndexError) as reason:
        said = " ".join(str(reason).replace(f"{folder}/", "").split())[:200]
        raise UserError(
            f"{place.file.parent / OUTCOMES} cannot be read: {said} {again}"
        ) from reason
    if not same:
        raise UserError(f"{place.file}: its counts are not those of {OUTCOMES} beside it. {again}")


def _training(training: Fields | None, scoring: Fields | None, place: Place) -> Training:
    """From the training record, else from the checkpoint's own record in the scoring run."""
    recipe: Mapping[str, Any] = {}
    teacher = teacher_sha256 = ""
    seed = None
    if training is not None:
        recipe = training.object("recipe")
        seed = training.whole_or_none("seed")
        teacher = training.text_or_none("teacher.name") or ""
        teacher_sha256 = training.digest_or_none("teacher.sha256") or ""
    elif scoring is not None:
        found = look_up(scoring.values, "checkpoint.recipe")
        recipe = found if isinstance(found, Mapping) else {}
        seed = scoring.whole_or_none("checkpoint.recipe.seed")
        teacher_sha256 = scoring.digest_or_none("checkpoint.teacher_sha256") or ""
    words = [recipe.get(key) for key in _METHOD_FIELDS]
    named = dict.fromkeys(w for w in words if isinstance(w, str) and w and w != "none")
    own = {key: value for key, value in recipe.items() if key != "seed"}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True, default=str).encode()).hexdigest()
    return Training(
        seed=place.seed if seed is None else seed,
        recipe=", ".join(named),
        constants=digest if recipe else "",
        teacher=teacher,
        teacher_sha256=teacher_sha256,
        real_images=recipe.get("synthesis.method") == "data",
        code=_code_state(training),
    )


def _code_state(record: Fields | None) -> CodeState:
    if record is None:
        return CodeState()
    commit = record.text_or_none("code.commit") or ""
    day = _DAY.match(record.text_or_none("finished") or "")
    known = bool(_COMMIT.fullmatch(commit))
    return CodeState(
        commit if known else "",
        known and look_up(record.values, "code.dirty") is True,
        day[1] if day else "",
    )


def _nearest_readme(reports: Path, place: Place) -> str:
    for folder in place.file.parents:
        if folder.parts and (found := _beside(reports, folder / _README)):
            return found
    return ""


def _beside(reports: Path, file: PurePosixPath) -> str:
    there = reports / file
    return str(file) if there.is_file() and not there.is_symlink() else ""
