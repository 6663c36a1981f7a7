"""Answers of the look at the network (``manifest["diagnosis"]``). K classes.

`ferd_eval.evaluation.diagnostics` makes the numbers; older and imported runs have none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ferd_eval.errors import listed
from ferd_eval.metrics.sanity.check import (
    LEVEL,
    Check,
    Counts,
    Finding,
    classes,
    excess,
    excess_p,
    images,
    pick,
)

#: Share of images whose gradient may vanish before attacks that start there are in doubt.
_NO_GRADIENT = 0.05

#: Accuracy at 4ε that needs no explanation; chance, where that is more, needs none either.
_FAR_ACCURACY = 0.05

#: Fewer images than this may not show that a loss rises, even where it does on nine of ten.
_FEWEST = 30

Diagnosis = Mapping[str, Any]


def network_checks(diagnosis: Diagnosis | None, names: Sequence[str]) -> tuple[Check, ...]:
    """Answer every question, "not measured" where nobody looked."""
    looked = diagnosis or {}
    return tuple(
        (answer(looked, names) if looked.get(key) else _UNMEASURED).answers(name, question)
        for key, (name, question, answer) in _QUESTIONS.items()
    )


_UNMEASURED = Finding(None, "This run did not look at it.")


def _zero_gradients(diagnosis: Diagnosis, names: Sequence[str]) -> Finding:
    by_loss = diagnosis["zero_gradients"]
    most: Mapping[str, Any] = max(by_loss.values(), key=lambda tally: tally["count"])
    found = {loss: _excess(tally, _NO_GRADIENT) for loss, tally in by_loss.items()}
    stuck = [loss for loss, (overall, many) in found.items() if overall or many]
    those = pick(names, sorted({k for _, many in found.values() for k in many}))
    counts = listed([f"{tally['count']} under {loss}" for loss, tally in by_loss.items()])
    statement = f"Of {images(most['n'])} looked at, the gradient vanishes for {counts}"
    if stuck:
        statement += f"{_above_all(those)}: attacks by {listed(stuck)} cannot start there"
    per_class = _counts("no gradient, under the loss with most of them", most)
    return Finding(bool(stuck), f"{statement}.", those, per_class)


def _at_bounds(diagnosis: Diagnosis, names: Sequence[str]) -> Finding:
    measured = diagnosis["gradients_at_bounds"]
    at_0, at_1, others = measured["at_0"], measured["at_1"], measured["elsewhere"]
    both = {key: np.add(at_0[key], at_1[key]).tolist() for key in at_0}
    if not both["n"]:
        return Finding(False, "No pixel of the images looked at is exactly 0 or 1.")
    overall, many = _excess(both, _NO_GRADIENT)
    those = pick(names, many)
    places = {"at exactly 0": at_0, "at exactly 1": at_1, "between": others}
    shares = [
        f"{tally['count'] / tally['n']:.1%} of {tally['n']} pixels {place}"
        for place, tally in places.items()
        if tally["n"]
    ]
    sentences = [f"Without a gradient are {listed(shares)}"]
    hidden = overall or len(those) > 0
    if hidden:
        sentences.append(
            "The network clamps its input, and the framework gives a clamp no gradient at its "
            f"bound{_above_all(those) if len(those) < len(names) else ''}"
        )
    if measured["distance"]:
        sentences.append(
            "The attacks of this run take the gradient just inside the pixel range; tools that do "
            "not may overstate the robustness of this network"
        )
    elif hidden:
        sentences.append("Attacks by gradient cannot move these pixels and overstate robustness")
    per_class = _counts("pixels at exactly 0 or 1 without a gradient", both)
    return Finding(hidden, ". ".join(sentences) + ".", those, per_class)


def _softmax(diagnosis: Diagnosis, _: Sequence[str]) -> Finding:
    tally = diagnosis["softmax"]
    if tally["count"] < tally["n"]:
        return Finding(False, "The output is logits, not probabilities.")
    return Finding(
        True,
        "The network returns probabilities, not logits: a softmax at its end makes gradients "
        "vanish. Take it out and score again.",
    )


def _randomised(diagnosis: Diagnosis, _: Sequence[str]) -> Finding:
    tally = diagnosis["randomised"]
    if not tally["count"]:
        return Finding(False, f"{images(tally['n'])} gave the same output twice.")
    return Finding(
        True,
        f"The same input twice gives another output for {tally['count']} of {images(tally['n'])} "
        f"({tally['changed']} predicted differently): the network is randomised, and attacks "
        "that do not average over its randomness overstate robustness.",
        per_class=_counts("another output the second time", tally),
    )


def _batch_dependent(diagnosis: Diagnosis, _: Sequence[str]) -> Finding:
    tally, randomised = diagnosis["batch_dependent"], diagnosis.get("randomised")
    if not tally["n"]:
        return _UNMEASURED
    if randomised and randomised["count"]:
        return Finding(None, "A randomised network gives another output anyway.")
    if not tally["count"]:
        return Finding(False, f"{images(tally['n'])} gave the same output alone as in a batch.")
    return Finding(
        True,
        f"Alone, {tally['count']} of {images(tally['n'])} looked at get another output than in a "
        f"batch ({tally['changed']} predicted differently), as with batch statistics in "
        "evaluation mode: results depend on the batch size, and one image shields another.",
    )


def _far(diagnosis: Diagnosis, names: Sequence[str]) -> Finding:
    tally = diagnosis["far"]
    overall, many = _excess(tally, max(1 / len(names), _FAR_ACCURACY))
    those, warns = pick(names, many), overall or len(many) > 0
    reach = "the whole pixel range" if tally["eps"] >= 1 else f"ε = {tally['eps_text']}"
    accuracy = f"{tally['count'] / tally['n']:.1%}"
    statement = f"PGD at 4ε ({reach}) leaves {accuracy} of {images(tally['n'])} right"
    if warns:
        statement += (
            f"{_above_all(those, '')}, where near 0 is expected: the attack finds no way, which "
            "says more of its gradients than of robustness"
        )
    return Finding(warns, f"{statement}.", those, _counts("right at 4ε", tally))


def _loss(diagnosis: Diagnosis, names: Sequence[str]) -> Finding:
    tally = diagnosis["loss"]
    *before, last = tally["steps"]
    # The sign test against "as often down as up": overall a rise must be seen, in a class a fall.
    flat = float(excess_p(tally["count"], tally["n"], 0.5)) >= LEVEL
    if flat and tally["n"] < _FEWEST:
        return Finding(None, f"{images(tally['n'])} are too few to tell.")
    still_K = np.subtract(tally["n_by_class"], tally["count_by_class"])
    those = pick(names, map(int, excess(still_K, tally["n_by_class"], 0.5)[1]))
    course = " → ".join("∞" if each is None else f"{each:.3g}" for each in tally["mean"])
    statement = (
        f"From {before[0]} to {last} steps of PGD the loss rises on {tally['count']} of "
        f"{images(tally['n'])} (mean {course} after {', '.join(map(str, before))} and {last})"
    )
    if flat or those:
        where = f", least in {classes(those)}" if those else ""
        statement += f"{where}: more steps do not help, so gradients are probably masked"
    per_class = _counts("loss higher after the last number of steps than after the first", tally)
    return Finding(flat or len(those) > 0, f"{statement}.", those, per_class)


def _excess(tally: Mapping[str, Any], share: float) -> tuple[bool, Sequence[int]]:
    overall, many = excess(tally["count_by_class"], tally["n_by_class"], share)
    return overall, [int(k) for k in many]


def _above_all(names: Sequence[str], preposition: str = "in ") -> str:
    return f", above all {preposition}{classes(names)}" if names else ""


def _counts(what: str, tally: Mapping[str, Any]) -> Counts:
    return Counts.of(what, tally["count_by_class"], tally["n_by_class"])


#: Entry of the record → name, question, and who answers it.
_QUESTIONS: Mapping[str, tuple[str, str, Callable[[Diagnosis, Sequence[str]], Finding]]] = {
    "zero_gradients": ("Zero gradients", "Can attacks by gradient start at all?", _zero_gradients),
    "gradients_at_bounds": (
        "Gradients at 0 and 1", "Do black and white pixels have a gradient?", _at_bounds
    ),
    "softmax": ("Output", "Does the network return logits, as attacks expect?", _softmax),
    "randomised": ("Same image, same output", "Is the network deterministic?", _randomised),
    "batch_dependent": (
        "Alone as in a batch", "Does an image's output depend on its neighbours?", _batch_dependent
    ),
    "far": ("Accuracy at 4ε", "Does an attack that may go far enough succeed?", _far),
    "loss": ("Loss over steps", "Does the attack climb?", _loss),
}  # fmt: skip
