"""What students' runs say about the causes in docs/why-ferd-falls-short.md, a line of a table each.

    python scripts/why_ferd.py RUN... --teacher demo --data-dir DATA

Columns, all about the images of a run's bank and its teacher: the share in which the teacher sees
the class asked for; its mean confidence; the share that keeps the teacher's class under PGD-4; the
share of channels that equation 6 masks, in runs with L_uni; the share of (epoch, class) whose mean
margin under PGD-20 is negative, so that equation 2 has D > 0; and the rank correlation (Spearman)
over classes of the teacher's error under PGD-20 on real training images, the last 100 of each
class, with the class weights that the run drew by, D, the clean cross-entropy to the class asked
for, and 1 − p of that class.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ferd_eval.attacks import PGD, Threat, frozen
from ferd_eval.datasets import load_dataset
from ferd_train.distillation.teacher import TeacherReading, teacher_file
from ferd_train.synthesis.class_sampling import attacked_logits, margins
from ferd_train.synthesis.image_bank import LABELS, Bank
from ferd_train.training.validation import hold_out, take

_COLUMNS = (
    "run", "as asked", "confidence", "survive PGD-4", "masked", "D > 0",
    "ρ weights", "ρ D", "ρ clean CE", "ρ 1 − p",
)  # fmt: skip
_AT_ONCE, _PER_CLASS = 500, 100


def main(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished students' runs.")],
    teacher: Annotated[str, typer.Option(help="Their teacher's checkpoint, or demo.")],
    data_dir: Annotated[Path, typer.Option(help="Folder of the teacher's data set.")],
) -> None:
    """Print the table as Markdown."""
    records = [json.loads((run / "manifest.json").read_text()) for run in runs]
    with teacher_file(teacher) as file:
        size = records[0]["recipe"]["image_size"]
        frozen_teacher = TeacherReading().load(file, size)
    network = frozen_teacher.classifier
    data = load_dataset(frozen_teacher.dataset, data_dir, split="train")
    _, rows_N = hold_out(data.labels_N, _PER_CLASS)
    x_NCHW, y_N, _ = take(data, rows_N, torch.device("cpu"))
    eps = Fraction(records[0]["recipe"]["eps"])
    error_N = (attacked(network, x_NCHW, y_N, eps).argmax(1) != y_N).double()
    error_K = by_class(error_N, y_N, frozen_teacher.num_classes)
    print(f"Teacher's error under PGD-20 by class: {np.round(error_K, 3).tolist()}\n")
    print("|" + "|".join(_COLUMNS) + "|\n" + "|---" * len(_COLUMNS) + "|")
    for run, record in zip(runs, records, strict=True):
        assert record["teacher"]["sha256"] == frozen_teacher.description["sha256"], run
        figures = look_at(run, record["recipe"], network, eps, error_K)
        print(
            "|".join(
                ["", run.name, *("–" if each is None else f"{each:.2f}" for each in figures), ""]
            )
        )


def look_at(
    run: Path, recipe: dict[str, Any], teacher: nn.Module, eps: Fraction, error_K: NDArray[Any]
) -> Iterator[float | None]:
    """The figures of a run, in the order of the columns."""
    logs = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    bank = Bank.open(run / "bank", logs[-1]["bank"])
    bytes_NCHW, asked = bank.read(np.arange(len(bank)))
    x_NCHW, asked_N = torch.from_numpy(bytes_NCHW).float() / 255, torch.from_numpy(asked)
    seen_N = torch.from_numpy(np.fromfile(run / "bank" / LABELS["teacher"], "<i8", len(bank)))
    with frozen(teacher), torch.no_grad():
        clean_NK = torch.cat([teacher(part) for part in x_NCHW.split(_AT_ONCE)])
    probability_N = clean_NK.softmax(1)
    yield float((asked_N == seen_N).double().mean())
    yield float(probability_N.amax(1).mean())
    four = PGD(steps=4, step_size=eps / 2)
    yield float((attacked(teacher, x_NCHW, seen_N, eps, four).argmax(1) == seen_N).double().mean())
    masked = [
        log["generator_terms"]["masked"] for log in logs if "masked" in log["generator_terms"]
    ]
    yield float(np.mean(masked)) if masked else None
    d_N = -margins(attacked(teacher, x_NCHW, asked_N, eps), asked_N).double()
    classes = len(error_K)
    batches = zip(d_N.split(recipe["batch_size"]), asked_N.split(recipe["batch_size"]), strict=True)
    means_EK = np.array([by_class(d_B, asked_B, classes) for d_B, asked_B in batches])
    yield float((means_EK[~np.isnan(means_EK)] > 0).mean())
    weights_K = np.mean([log["class_weights"] for log in logs], axis=0)
    yield rank_correlation(weights_K, error_K)
    ce_N = cross_entropy(clean_NK, asked_N, reduction="none").double()
    doubt_N = 1 - probability_N.gather(1, asked_N[:, None])[:, 0].double()
    for value_N in (d_N, ce_N, doubt_N):
        yield rank_correlation(by_class(value_N, asked_N, classes), error_K)


def attacked(
    teacher: nn.Module, x_NCHW: Tensor, y_N: Tensor, eps: Fraction, attack: PGD | None = None
) -> Tensor:
    """The teacher's logits under PGD-20 with steps of ε/4, or another attack."""
    attack = attack or PGD(steps=20, step_size=eps / 4)
    parts = zip(x_NCHW.split(_AT_ONCE), y_N.split(_AT_ONCE), strict=True)
    return torch.cat(
        [
            attacked_logits(teacher, x, y, threat=Threat(eps), seed=0, attack=attack)
            for x, y in parts
        ]
    )


def by_class(value_N: Tensor, labels_N: Tensor, classes: int) -> NDArray[Any]:
    """Means over each class's images; NaN for a class without any."""
    own = [value_N[labels_N == label] for label in range(classes)]
    return np.array([float(each.mean()) if len(each) else np.nan for each in own])


def rank_correlation(one_K: Sequence[float] | NDArray[Any], other_K: NDArray[Any]) -> float | None:
    """None where the first is even."""
    if np.ptp(one_K) == 0:
        return None
    return float(spearmanr(one_K, other_K, nan_policy="omit").statistic)


if __name__ == "__main__":
    typer.run(main)
