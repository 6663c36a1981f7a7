"""Is the network in order before anybody attacks it? K classes, N images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from ferd_eval.io.recorded_accuracy import says_clean_test
from ferd_eval.metrics.intervals import simultaneous
from ferd_eval.metrics.sanity.check import LEVEL, Check, Counts, classes, excess, images, pick
from ferd_eval.results.outcomes import Outcomes

#: Clean accuracy below this multiple of chance is no trained network.
_NEAR_CHANCE = 2.0

#: Clean accuracy may differ so much between epochs, roundings and validation and test images.
_SAME_ACCURACY = 0.05


#: Images for each class from which on a better matching of classes is no accident.
_ENOUGH_TO_MATCH = 10


def clean_checks(outcomes: Outcomes) -> Iterator[Check]:
    """Clean accuracy against chance, and against the checkpoint's own record."""
    name, question = "Clean accuracy", "Is the network in order before anybody attacks it?"
    if "clean" not in outcomes.attacks or outcomes.of("clean").empty:
        yield Check(name, question, "not measured", "This takes clean predictions.")
        return
    rows = outcomes.of("clean")
    K = len(outcomes.class_names)
    hits_KK = np.zeros((K, K), dtype=np.int64)
    np.add.at(hits_KK, (rows["label"], rows["adv_pred"]), 1)
    n_K, right_K = hits_KK.sum(1), np.diagonal(hits_KK)
    right, n = int(right_K.sum()), int(n_K.sum())
    counts = Counts.of("right without an attack", right_K, n_K)
    recorded = _against_record(outcomes.manifest, right, n)
    # Errors in excess of what guessing makes: the same test, seen from the other side.
    _, worse = excess(n_K - right_K, n_K, 1 - 1 / K)
    said = f"Clean accuracy is {right / n:.1%}"
    if near_chance(right / n, K):
        was_trained = recorded is not None and recorded.status == "warning"
        why = _why(outcomes.manifest, hits_KK, was_trained=was_trained)
        said += f" with {K} classes, near chance. {why}"
        yield Check(name, question, "warning", said, per_class=counts)
    elif len(worse):
        those = pick(outcomes.class_names, worse)
        said = (
            f"Clean accuracy is below chance in {classes(those)}: the order of the classes may "
            "be wrong there, and robustness means nothing where nothing was learnt."
        )
        yield Check(name, question, "warning", said, those, counts)
    else:
        yield Check(name, question, "ok", f"{said}, well above chance.", (), counts)
    if recorded is not None:
        yield recorded


def near_chance(accuracy: float, num_classes: int) -> bool:
    """Whether so little is right that the network has not learnt this, or is read wrongly."""
    chance = 1 / num_classes
    return accuracy < min(_NEAR_CHANCE * chance, (1 + chance) / 2)


def _why(manifest: Mapping[str, Any], hits_KK: NDArray[np.int64], *, was_trained: bool) -> str:
    """Possible reasons of accuracy near chance, as far as the run can tell; the likeliest first.

    `hits_KK` counts images by label and prediction; `was_trained` says that the checkpoint records
    a better accuracy of itself.
    """
    trial = manifest.get("trial") or {}
    better = trial.get("better")
    if better:
        return (
            f"On {images(trial['images'])} it is {trial['others'][better]:.1%} with {better}: "
            "probably the network was trained so."
        )
    matched = _matched(hits_KK)
    if matched is not None:
        return (
            f"With the classes in another order {matched:.1%} would be right: probably they are, "
            "in the images or in the network."
        )
    model = manifest.get("model") or {}
    tried = " ".join(trial.get("others") or ())
    facts, causes = [], []
    if (elsewhere := _trained_elsewhere(manifest)) is not None:
        causes.append(f"it was trained on {elsewhere}, and these are images of another data set")
    if "metadata" in str(model.get("normalization_decided_by")):
        facts.append("The checkpoint records its own normalisation, so this is not the cause.")
    elif model and "--normalize" not in tried:
        causes.append("it was trained with another normalisation (--normalize)")
    if model.get("same_keys") and "--arch" not in tried:
        causes.append("it is another network with the same keys (ferd-eval inspect names them)")
    if tried:
        facts.append(f"None of {len(trial['others'])} other readings of the file does better.")
    if not was_trained:
        causes.append("it has hardly learnt anything")
    causes.append("its classes are in another order than those of the images")
    if tried:
        causes.append("it needs a normalisation or a forward pass that was not tried")
    facts.append(f"Possible reasons, the likeliest first: {'; '.join(causes)}.")
    return " ".join(facts)


def _matched(hits_KK: NDArray[np.int64]) -> float | None:
    """Accuracy under the best one-to-one matching of classes, None unless most would be right."""
    n_K = hits_KK.sum(1)
    if n_K.min() < _ENOUGH_TO_MATCH:
        return None
    accuracy = float(hits_KK[linear_sum_assignment(hits_KK, maximize=True)].sum() / n_K.sum())
    return accuracy if accuracy > (1 + 1 / len(n_K)) / 2 else None


def _trained_elsewhere(manifest: Mapping[str, Any]) -> str | None:
    """The data set a checkpoint says it is for, where that is not this run's."""
    own = (manifest.get("checkpoint") or {}).get("trained_on")
    here = str(manifest["dataset"].get("name"))
    # What a user's own file or folder holds is not told by its name.
    return own if own and ":" not in here and own != here else None


def _against_record(manifest: Mapping[str, Any], right: int, n: int) -> Check | None:
    """Whether clean accuracy equals the checkpoint's record; None without one."""
    recorded = (manifest.get("checkpoint") or {}).get("recorded_accuracy") or {}
    if not recorded:
        return None
    name, question = "Accuracy on record", "Is clean accuracy what the checkpoint says of itself?"
    recorded = {k: v for k, v in recorded.items() if says_clean_test(k)} or recorded
    here = right / n
    key = min(recorded, key=lambda each: abs(recorded[each] - here))
    says = f"the checkpoint records {key} = {recorded[key]:.1%}"
    if (elsewhere := _trained_elsewhere(manifest)) is not None:
        return Check(name, question, "not measured", f"{_upper(says)}, on {elsewhere}.")
    low, high = (float(limit) for limit in simultaneous(right, n, 1 - LEVEL))
    if low <= recorded[key] <= high or abs(recorded[key] - here) <= _SAME_ACCURACY:
        return Check(name, question, "ok", f"Clean accuracy is {here:.1%}, and {says}.")
    said = f"Clean accuracy is {here:.1%} on {images(n)}, but {says}:"
    if here < recorded[key]:
        said += " probably it is read otherwise than it was trained, or these are other images."
    elif says_clean_test(key):
        said += " that figure is of other images, of another network, or under an attack."
    else:  # robust training keeps its best accuracy under attack by such a name
        return Check(name, question, "ok", f"{said} that may be an accuracy under attack.")
    return Check(name, question, "warning", said)


def _upper(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]
