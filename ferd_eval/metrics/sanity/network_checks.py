"""What the look at the network (``manifest["diagnosis"]``) means. K classes.

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

#: Fewer images than this do not show that a loss rises, even where it does on nine of ten.
_FEWEST = 30

Diagnosis = Mapping[str, Any]


def network_checks(diagnosis: Diagnosis | None, names: Sequence[str]) -> tuple[Check, ...]:
    """Answer what the look at the network answers, "not measured" where there was none."""
    return tuple(ask(diagnosis or {}, names) for ask in _ASKED)


def _zero_gradients(diagnosis: Diagnosis, names: Sequence[str]) -> Check:
    name, question = "Zero gradients", "Can attacks by gradient start at all?"
    by_loss = diagnosis.get("zero_gradients")
    if not by_loss:
        return _unmeasured(name, question)
    found, stuck, flat_K = [], [], np.zeros(len(names), dtype=bool)
    most: Mapping[str, Any] = max(by_loss.values(), key=lambda tally: tally["count"])
    for loss, tally in by_loss.items():
        found.append(f"{tally['count']} under {loss}")
        overall, many = _excess(tally, _NO_GRADIENT)
        flat_K[many] = True
        if overall or len(many):
            stuck.append(loss)
    those = pick(names, np.flatnonzero(flat_K))
    statement = f"Of {images(most['n'])} looked at, the gradient vanishes for {listed(found)}"
    if stuck:
        where = f", above all in {classes(those)}" if those else ""
        statement += f"{where}: attacks by {listed(stuck)} cannot start there"
    return Check(
        name,
        question,
        "warning" if stuck else "ok",
        f"{statement}.",
        those,
        _counts("no gradient, under the loss with most of them", most),
    )


def _at_bounds(diagnosis: Diagnosis, names: Sequence[str]) -> Check:
    name, question = "Gradients at 0 and 1", "Do black and white pixels have a gradient?"
    measured = diagnosis.get("gradients_at_bounds")
    if not measured:
        return _unmeasured(name, question)
    at_0, at_1, others = measured["at_0"], measured["at_1"], measured["elsewhere"]
    both = {key: np.add(at_0[key], at_1[key]).tolist() for key in at_0}
    if not both["n"]:
        return Check(name, question, "ok", "No pixel of the images looked at is exactly 0 or 1.")
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
        where = f", above all in {classes(those)}" if 0 < len(those) < len(names) else ""
        sentences.append(
            "The network clamps its input, and the framework gives a clamp no gradient at its "
            f"bound{where}"
        )
    if measured["distance"]:
        sentences.append(
            "The attacks of this run take the gradient just inside the pixel range; tools that do "
            "not may overstate the robustness of this network"
        )
    elif hidden:
        sentences.append("Attacks by gradient cannot move these pixels and overstate robustness")
    return Check(
        name,
        question,
        "warning" if hidden else "ok",
        ". ".join(sentences) + ".",
        those,
        _counts("pixels at exactly 0 or 1 without a gradient", both),
    )


def _softmax(diagnosis: Diagnosis, _: Sequence[str]) -> Check:
    name, question = "Output", "Does the network return logits, as attacks expect?"
    tally = diagnosis.get("softmax")
    if not tally:
        return _unmeasured(name, question)
    if tally["count"] < tally["n"]:
        return Check(name, question, "ok", "The output is logits, not probabilities.")
    return Check(
        name,
        question,
        "warning",
        "The network returns probabilities, not logits: a softmax at its end makes gradients "
        "vanish. Take it out and score again.",
    )


def _randomised(diagnosis: Diagnosis, _: Sequence[str]) -> Check:
    name, question = "Same image, same output", "Is the network deterministic?"
    tally = diagnosis.get("randomised")
    if not tally:
        return _unmeasured(name, question)
    if not tally["count"]:
        return Check(name, question, "ok", f"{images(tally['n'])} gave the same output twice.")
    return Check(
        name,
        question,
        "warning",
        f"The same input twice gives another output for {tally['count']} of {images(tally['n'])} "
        f"({tally['changed']} predicted differently): the network is randomised, and attacks "
        "that do not average over its randomness overstate robustness.",
        per_class=_counts("another output the second time", tally),
    )


def _batch_dependent(diagnosis: Diagnosis, _: Sequence[str]) -> Check:
    name, question = "Alone as in a batch", "Does an image's output depend on its neighbours?"
    tally, randomised = diagnosis.get("batch_dependent"), diagnosis.get("randomised")
    if not tally or not tally["n"]:
        return _unmeasured(name, question)
    if randomised and randomised["count"]:
        return Check(
            name, question, "not measured", "A randomised network gives another output anyway."
        )
    if not tally["count"]:
        return Check(
            name, question, "ok", f"{images(tally['n'])} gave the same output alone as in a batch."
        )
    return Check(
        name,
        question,
        "warning",
        f"Alone, {tally['count']} of {images(tally['n'])} looked at get another output than in a "
        f"batch ({tally['changed']} predicted differently), as with batch statistics in "
        "evaluation mode: results depend on the batch size, and one image shields another.",
    )


def _far(diagnosis: Diagnosis, names: Sequence[str]) -> Check:
    name, question = "Accuracy at 4ε", "Does an attack that may go far enough succeed?"
    tally = diagnosis.get("far")
    if not tally:
        return _unmeasured(name, question)
    tolerated = max(1 / len(names), _FAR_ACCURACY)
    overall, many = _excess(tally, tolerated)
    those = pick(names, many)
    accuracy = tally["count"] / tally["n"]
    reach = "the whole pixel range" if tally["eps"] >= 1 else f"ε = {tally['eps_text']}"
    statement = f"PGD at 4ε ({reach}) leaves {accuracy:.1%} of {images(tally['n'])} right"
    if overall or those:
        where = f", above all {classes(those)}" if those else ""
        statement += (
            f"{where}, where near 0 is expected: the attack finds no way, which says more of its "
            "gradients than of robustness"
        )
    return Check(
        name,
        question,
        "warning" if overall or those else "ok",
        f"{statement}.",
        those,
        _counts("right at 4ε", tally),
    )


def _loss(diagnosis: Diagnosis, names: Sequence[str]) -> Check:
    name, question = "Loss over steps", "Does the attack climb?"
    tally = diagnosis.get("loss")
    if not tally:
        return _unmeasured(name, question)
    if tally["n"] < _FEWEST:
        return Check(name, question, "not measured", f"{images(tally['n'])} are too few to tell.")
    first, last = tally["steps"][0], tally["steps"][-1]
    # A rise must be seen: the sign test against "as often down as up".
    flat = float(excess_p(tally["count"], tally["n"], 0.5)) >= LEVEL
    those = pick(names, _falling(tally))
    course = " → ".join("∞" if each is None else f"{each:.3g}" for each in tally["mean"])
    statement = (
        f"From {first} to {last} steps of PGD the loss rises on {tally['count']} of "
        f"{images(tally['n'])} (mean {course} after "
        f"{', '.join(map(str, tally['steps'][:-1]))} and {last})"
    )
    if flat or those:
        where = f", least in {classes(those)}" if those else ""
        statement += f"{where}: more steps do not help, so gradients are probably masked"
    return Check(
        name,
        question,
        "warning" if flat or those else "ok",
        f"{statement}.",
        those,
        _counts("loss higher after the last number of steps than after the first", tally),
    )


def _falling(tally: Mapping[str, Any]) -> Sequence[int]:
    """Classes in which the loss does not rise on most images, beyond chance."""
    still_K = np.subtract(tally["n_by_class"], tally["count_by_class"])
    return [int(k) for k in excess(still_K, tally["n_by_class"], 0.5)[1]]


def _unmeasured(name: str, question: str) -> Check:
    return Check(name, question, "not measured", "This run did not look at it.")


def _excess(tally: Mapping[str, Any], share: float) -> tuple[bool, Sequence[int]]:
    overall, many = excess(tally["count_by_class"], tally["n_by_class"], share)
    return overall, [int(k) for k in many]


def _counts(what: str, tally: Mapping[str, Any]) -> Counts:
    return Counts.of(what, tally["count_by_class"], tally["n_by_class"])


_ASKED: tuple[Callable[[Diagnosis, Sequence[str]], Check], ...] = (
    _zero_gradients,
    _at_bounds,
    _softmax,
    _randomised,
    _batch_dependent,
    _far,
    _loss,
)
