"""What a network makes of common corruptions: on a terminal, as Markdown, CSV and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from ferd_eval.datasets.corruptions import BENCHMARK, SEVERITIES
from ferd_eval.errors import UserError, listed
from ferd_eval.io.files import write_texts
from ferd_eval.io.json import parse_json, to_json
from ferd_eval.metrics.corruption_error import CorruptionErrors, alexnet, measured
from ferd_eval.report.format import Cell, Table, ends, percent, whole
from ferd_eval.report.render import CsvCell, csv_text
from ferd_eval.report.render import text as rendered
from ferd_eval.report.terminal import MOST_BARS, rich_table

_NAME = "corruptions"


def against(errors: CorruptionErrors, baseline: str) -> CorruptionErrors:
    """The same results, divided by a network's: ``alexnet``, or the folder of another summary.

    UserError: the baseline cannot be read, or does not fit.
    """
    if baseline == "alexnet":
        return replace(errors, baseline=alexnet(errors))
    file = Path(baseline) / f"{_NAME}.json"
    try:
        record = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as reason:
        raise UserError(
            f"--baseline {baseline} cannot be read ({reason}); give alexnet, or a folder that "
            "ferd-eval corruptions wrote."
        ) from reason
    return replace(errors, baseline=measured(errors, record, str(file)))


def write_corruptions(folder: Path, errors: CorruptionErrors) -> Path:
    """Write ``corruptions`` as .json, .csv and .md, the last of which is returned."""
    *_, page = write_texts(
        folder,
        {
            f"{_NAME}.json": to_json(errors.to_dict()),
            f"{_NAME}.csv": csv_text(
                ("corruption", "severity", "class", "n", "correct", "accuracy"), _lines(errors)
            ),
            f"{_NAME}.md": rendered(
                "corruptions.md.j2",
                title=_title(errors),
                sentences=_sentences(errors),
                tables=(_by_corruption(errors), _by_class(errors)),
            ),
        },
    )
    return page


def on_terminal(errors: CorruptionErrors) -> RenderableType:
    """Title, sentences, corruptions, and the weakest classes."""
    parts: list[RenderableType] = [Text(_title(errors), style="bold"), Text()]
    for sentence in _sentences(errors):
        parts += [Text(sentence), Text()]
    for table in (_by_corruption(errors), _by_class(errors)):
        shown = replace(table, rows=table.rows[: max(MOST_BARS, len(BENCHMARK) + 4)])
        parts += [Text(table.title, style="bold"), rich_table(shown, shown.columns)]
        if hidden := len(table.rows) - len(shown.rows):
            parts.append(Text(f"and {hidden} more in the files", style="dim"))
        parts.append(Text())
    return Group(*parts[:-1])


def _title(errors: CorruptionErrors) -> str:
    return f"{errors.network} under the corruptions of {errors.dataset}"


def _sentences(errors: CorruptionErrors) -> list[str]:
    """What the mean is, over what, and whom it hits."""
    n, k = len(errors.counted), errors.worst_class()
    images = int(errors.results[0].images_K.sum())
    what = f"{n} corruption{'s' * (n > 1)}"
    plain = (
        f"{percent(errors.mean_error)} % of the {images} images are wrong on average over {what}"
    )
    if errors.mce is None:
        first = (
            f"{plain}. This is the plain mean error, not normalised: no baseline network is given, "
            "so it is not the mCE of the paper (--baseline)."
        )
    else:
        assert errors.baseline is not None
        of_all = "mCE" if errors.is_whole else f"mean corruption error over {n} of 15"
        first = (
            f"{of_all}: {percent(errors.mce)} % of {errors.baseline.name}'s errors "
            f"({plain}, not normalised)."
        )
    sentences = [first]
    if not errors.is_whole:
        absent = [name for name in BENCHMARK if name not in errors.corruptions]
        said = f"without {listed(absent)}" if absent else "not all in five severities"
        sentences.append(
            f"Not the whole benchmark: {said}. Compare it only with figures over the same ones."
        )
    extra = [name for name in errors.corruptions if name not in errors.counted]
    if extra:
        sentences.append(f"Shown but not counted in any mean: {listed(extra)}.")
    low, high = ends(errors.worst_class_interval())
    sentences.append(
        f"The weakest class on average is {errors.class_names[k]}, right "
        f"{percent(float(errors.class_accuracy()[k]))} % of the time; the class that truly is, "
        f"whichever it may be, is right {low} to {high} % of the time (95 % confidence)."
    )
    return sentences


def _words(corruption: str) -> str:
    """Its name, which may be broken between words."""
    return corruption.replace("_", " ")


def _by_corruption(errors: CorruptionErrors) -> Table:
    def row(name: str) -> Mapping[str, Cell]:
        found = {each.cell.severity: each.error for each in errors.of(name)}
        k = errors.worst_class(name)
        ce: Mapping[str, Cell] = (
            {"CE": percent(errors.corruption_error(name))} if errors.baseline else {}
        )
        return {
            "Corruption": _words(name),
            **{str(s): percent(found.get(s)) for s in SEVERITIES},
            "Mean": percent(errors.error(name)),
            **ce,
            "Weakest class": errors.class_names[k],
            "Right": percent(float(errors.class_accuracy(name)[k])),
            "95 %": "{} to {}".format(*ends(errors.worst_class_interval(name))),
        }

    return Table.of(
        "Error by severity, and the class that is right least often, with the interval of the one "
        "that truly is (all in %)",
        map(row, errors.corruptions),
    )


def _by_class(errors: CorruptionErrors) -> Table:
    accuracy_K = errors.class_accuracy()
    accuracy_CK = np.array([errors.class_accuracy(name) for name in errors.counted])
    images_K = errors.results[0].images_K
    order = [int(k) for k in np.argsort(accuracy_K, kind="stable") if not np.isnan(accuracy_K[k])]

    def row(k: int) -> Mapping[str, Cell]:
        lowest = int(np.argmin(accuracy_CK[:, k]))
        return {
            "Class": errors.class_names[k],
            "Images": whole(int(images_K[k])),
            "Right": percent(float(accuracy_K[k])),
            "Least under": _words(errors.counted[lowest]),
            "Then": percent(float(accuracy_CK[lowest, k])),
        }

    return Table.of("Classes, lowest mean accuracy first (in %)", map(row, order))


def _lines(errors: CorruptionErrors) -> Iterator[list[CsvCell]]:
    for result in errors.results:
        of_class = zip(
            errors.class_names, result.images_K.tolist(), result.right_K.tolist(), strict=True
        )
        for name, n, right in of_class:
            accuracy = right / n if n else None
            yield [result.cell.corruption, result.cell.severity, name, n, right, accuracy]
