"""Picture of how a student's run went: the losses, agreement with the teacher, validation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ferd_train.monitoring.charts import Line, Panel, figure, line_chart
from ferd_train.monitoring.epoch_log import StudentLog

#: What the generator's terms are called; all are shown unweighted.
_TERMS = {
    "adv": "Divergence of student and teacher, L_adv",
    "bn": "Batch-norm statistics, L_bn",
    "oh": "Class asked for, L_oh",
    "uni": "Uniformity, L_uni",
}

#: Accuracies as validation gives them, and their labels.
_ACCURACIES = {
    "clean": "clean",
    "clean_worst_class": "clean, worst",
    "pgd": "PGD-10",
    "pgd_worst_class": "PGD-10, worst",
}


def learning_curves(logs: Sequence[StudentLog]) -> str:
    """An SVG with a panel for each loss and each kind of share that was measured so far.

    Args:
        logs: figures of the epochs from the first; at least one.
    """
    of_generator = [log.generator_loss for log in logs]
    of_student = [log.student_loss for log in logs]
    panels = [
        _panel("Generator, L_gen", "loss of the batch that was kept", {"": of_generator}),
        *(
            _panel(title, "unweighted term of L_gen", {"": _term(logs, term)})
            for term, title in _titles(logs).items()
        ),
        _panel("Student, L_stu", "loss, mean of the epoch's steps", {"": of_student}),
        _panel(
            "Agreement with the teacher",
            "share of images",
            {
                "new images": [log.teacher_agrees for log in logs],
                "student": [log.student_agrees for log in logs],
            },
            shares=True,
        ),
        _panel(
            "Held-out images",
            "accuracy, used for no choice",
            {label: _accuracy(logs, key) for key, label in _ACCURACIES.items()},
            shares=True,
        ),
    ]
    return line_chart(
        "Learning curves",
        "By epoch, with the last value at the right",
        [panel for panel in panels if panel.lines],
        columns=3,
        plot_size=(260, 150),
    )


def _titles(logs: Sequence[StudentLog]) -> dict[str, str]:
    """FERD's terms first, then those of other methods in the order they came."""
    others = {term: f"Generator, {term}" for log in logs for term in log.generator_terms}
    return {**_TERMS, **{term: others[term] for term in others if term not in _TERMS}}


def _term(logs: Sequence[StudentLog], term: str) -> list[float | None]:
    return [log.generator_terms.get(term) for log in logs]


def _accuracy(logs: Sequence[StudentLog], key: str) -> list[float | None]:
    return [log.validation[key] if log.validation else None for log in logs]


def _panel(
    title: str,
    unit: str,
    quantities: Mapping[str, Sequence[float | None]],
    *,
    shares: bool = False,
) -> Panel:
    """A panel of what has been measured in any epoch; its labels begin with the last value."""
    lines = []
    for label, values in quantities.items():
        line = Line(label or title, values)
        if line.known:
            last = figure(line.known[-1][1])
            lines.append(Line(line.name, values, f"{last} {label}".strip()))
    return Panel(title, unit, lines, including=(0.0, 1.0) if shares else ())
