"""Do intervals and verdicts hold what they claim? Coverage by simulation, in designs known to hurt.

    python benchmarks/coverage.py                      # all, some 20 minutes on one core
    python benchmarks/coverage.py --only runs --repetitions 500

Prints the tables of docs/statistics.md: per cent (mean width in points). What covers less than it
claims by more than three Monte-Carlo standard errors is marked and makes the exit status 1.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from numpy.typing import NDArray
from scipy.special import ndtri

from ferd_eval.metrics import Comparison, compare, compare_methods
from ferd_eval.metrics.intervals import (
    clopper_pearson_lower,
    gap_interval,
    lowest_percent_interval,
    possibly_worst,
    simultaneous,
    wilson,
    worst_class_interval,
)
from ferd_eval.results.outcomes import Outcomes, conform

#: CIFAR-10 under AutoAttack, near the class accuracies of a published robust network.
ROBUST = np.array([0.62, 0.75, 0.38, 0.24, 0.36, 0.40, 0.55, 0.60, 0.70, 0.65])


def _profile(K: int, mean: float, spread: float, seed: int) -> NDArray[np.float64]:
    return np.clip(np.random.default_rng(seed).normal(mean, spread, K), 0.02, 0.95)


@dataclass(frozen=True)
class Design:
    """True accuracies of the classes, and images of each."""

    name: str
    truth: NDArray[np.float64]
    n: int


DESIGNS = (
    Design("robust profile, n = 1000", ROBUST, 1000),
    Design("robust profile, n = 100", ROBUST, 100),
    Design("ten equal, n = 1000", np.full(10, 0.5), 1000),
    Design("ten equal, n = 100", np.full(10, 0.5), 100),
    Design("100 classes, n = 100", _profile(100, 0.28, 0.14, 5), 100),
    Design("200 classes, n = 50", _profile(200, 0.20, 0.12, 6), 50),
)

#: What every interval, bound and test claims.
LEVEL = 0.95

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Cell:
    """How often something claimed at 95 % held; `width` is the mean width of its interval."""

    design: str
    what: str
    held: float
    repetitions: int
    width: float | None = None

    @property
    def falls_short(self) -> bool:
        """By more than three standard errors of the simulation."""
        return (
            self.repetitions > 1
            and self.held < LEVEL - 3 * (LEVEL * (1 - LEVEL) / self.repetitions) ** 0.5
        )

    def __str__(self) -> str:
        width = "" if self.width is None else f" ({100 * self.width:.1f})"
        return f"{100 * self.held:.1f}{width}{' **short**' * self.falls_short}"


def _table(title: str, cells: list[Cell]) -> str:
    """One row a design, one column a claim."""
    claims = list(dict.fromkeys(cell.what for cell in cells))
    lines = [f"| {title} | {' | '.join(claims)} |", "|---|" + "---|" * len(claims)]
    for design in dict.fromkeys(cell.design for cell in cells):
        found = {cell.what: str(cell) for cell in cells if cell.design == design}
        lines.append(f"| {design} | {' | '.join(found.get(claim, '') for claim in claims)} |")
    return "\n".join(lines)


@app.command()
def main(
    repetitions: Annotated[int, typer.Option(help="Of a run or a pair of runs.")] = 2000,
    method_repetitions: Annotated[int, typer.Option(help="Of a comparison over seeds.")] = 400,
    only: Annotated[str, typer.Option(help="runs, pairs, methods, or several.")] = (
        "runs,pairs,methods"
    ),
) -> None:
    """Simulate, and print what was covered."""
    parts = {
        "runs": lambda: _runs(repetitions),
        "pairs": lambda: _pairs(repetitions),
        "methods": lambda: _methods(method_repetitions),
    }
    short = False
    for part in only.split(","):
        cells = list(parts[part]())
        print(f"\n{_table(part, cells)}", flush=True)
        short |= any(cell.falls_short for cell in cells)
    sys.exit(1 if short else 0)


def _runs(repetitions: int) -> Iterator[Cell]:
    """Every interval and bound of a single run."""
    for design in DESIGNS:
        random = np.random.default_rng(1)
        held: Counter[str] = Counter()
        width: Counter[str] = Counter()
        kept = 0
        for _ in range(repetitions):
            right_K = random.binomial(design.n, design.truth)
            for what, covered, wide in _claims(design, right_K):
                held[what] += covered
                width[what] += wide
            found = possibly_worst(right_K, np.full(right_K.size, design.n))
            held["possibly worst"] += bool((design.truth[found] == design.truth.min()).any())
            kept += found.size
        for what, count in held.items():
            wide = width[what] / repetitions if what in width else None
            yield Cell(design.name, what, count / repetitions, repetitions, wide)
        yield Cell(design.name, "classes in that set, %", kept / repetitions / 100, 1)


def _claims(design: Design, right_K: NDArray[np.int64]) -> Iterator[tuple[str, float, float]]:
    """What is claimed, whether (or of how many classes) it holds, and the width."""
    truth_K, n_K = design.truth, np.full(right_K.size, design.n)
    ordered = np.sort(truth_K)
    tenth = -(-truth_K.size // 10)
    low_K, high_K = wilson(right_K, n_K)
    within_K = (low_K <= truth_K) & (truth_K <= high_K)
    yield "one class", float(within_K.mean()), float((high_K - low_K).mean())
    low_K, high_K = simultaneous(right_K, n_K)
    within_K = (low_K <= truth_K) & (truth_K <= high_K)
    yield "all classes at once", float(within_K.all()), float((high_K - low_K).mean())
    low, high = wilson(right_K.sum(), n_K.sum())
    yield "average", float(low <= truth_K.mean() <= high), float(high - low)
    floor = float(clopper_pearson_lower(right_K, n_K).min())
    yield "floor", float(floor <= ordered[0]), float(ordered[0] - floor)
    for what, interval, true in (
        ("worst class", worst_class_interval(right_K, n_K), ordered[0]),
        ("worst 10 %", lowest_percent_interval(right_K, n_K), ordered[:tenth].mean()),
        ("gap", gap_interval(right_K, n_K), ordered[-1] - ordered[0]),
    ):
        assert interval is not None
        yield what, float(interval[0] <= true <= interval[1]), interval[1] - interval[0]


@dataclass(frozen=True)
class Pair:
    """Two networks: true accuracies, images a class, correlation within an image."""

    name: str
    first: NDArray[np.float64]
    second: NDArray[np.float64]
    n: int
    correlation: float

    def draw(self, random: np.random.Generator) -> tuple[Outcomes, Outcomes]:
        """Two runs on the same images."""
        cells_K4 = _cells(self.first, self.second, self.correlation)
        labels_N = np.repeat(np.arange(len(self.first)), self.n)
        edges_K4 = cells_K4.cumsum(axis=1)
        cell_N = (random.random(len(labels_N))[:, None] > edges_K4[labels_N]).sum(axis=1)
        return _run(labels_N, cell_N >= 2), _run(labels_N, cell_N % 2 == 1)


def _pair_designs() -> Iterator[Pair]:
    low_one = np.full(10, 0.7)
    low_one[0] = 0.5
    for correlation in (0.0, 0.6, 0.9):
        for design in DESIGNS:
            yield Pair(
                f"{design.name}, no difference, ρ = {correlation}",
                design.truth, design.truth, design.n, correlation,
            )  # fmt: skip
        for n in (1000, 100):
            yield Pair(
                f"ten equal → one as low, n = {n}, ρ = {correlation}",
                np.full(10, 0.5), low_one, n, correlation,
            )  # fmt: skip
    for design in DESIGNS[:2] + DESIGNS[4:]:
        yield Pair(
            f"{design.name}, a fifth of the spread less, ρ = 0.6",
            design.truth, design.truth * 0.8 + 0.2 * design.truth.mean(), design.n, 0.6,
        )  # fmt: skip


def _pairs(repetitions: int) -> Iterator[Cell]:
    """Differences between two runs, and how often equal networks are called fairer."""
    for pair in _pair_designs():
        random = np.random.default_rng(2)
        found = [compare(*pair.draw(random), "pgd") for _ in range(repetitions)]
        yield from _judge(pair.name, found, _true_deltas(pair.first, pair.second))


def _methods(repetitions: int) -> Iterator[Cell]:
    """The same over seeds: each network has its own accuracies, 2 points around the method's."""
    designs = (DESIGNS[0], DESIGNS[1], DESIGNS[2], DESIGNS[4])
    for design, seeds, by_seed in product(designs, (3, 5), (False, True)):
        random = np.random.default_rng(3)
        found = []
        for _ in range(repetitions):
            runs = _seeded_runs(design, 2 * seeds, random)
            found.append(compare_methods(runs[:seeds], runs[seeds:], "pgd", by_seed=by_seed))
        name = f"{design.name}, {seeds} seeds{', paired' if by_seed else ''}, no difference"
        yield from _judge(name, found, dict.fromkeys(_FIGURES, 0.0))


def _seeded_runs(design: Design, count: int, random: np.random.Generator) -> list[Outcomes]:
    """Networks of one method; an image hard for one is hard for the others."""
    labels_N = np.repeat(np.arange(len(design.truth)), design.n)
    hardness_N = random.normal(size=len(labels_N))
    runs = []
    for _ in range(count):
        own_K = np.clip(design.truth + random.normal(0, 0.02, len(design.truth)), 0.01, 0.99)
        mixed_N = np.sqrt(0.6) * hardness_N + np.sqrt(0.4) * random.normal(size=len(labels_N))
        runs.append(_run(labels_N, mixed_N < _normal_quantile(own_K)[labels_N]))
    return runs


_FIGURES = ("average", "worst_class", "worst_10pct", "sd", "nsd")


def _judge(name: str, found: list[Comparison], true: Mapping[str, float]) -> Iterator[Cell]:
    R = len(found)
    for figure in _FIGURES:
        intervals = [getattr(each, figure).interval95 for each in found]
        held = sum(low - 1e-12 <= true[figure] <= high + 1e-12 for low, high in intervals)
        width = float(np.mean([high - low for low, high in intervals]))
        yield Cell(name, f"Δ {figure}", held / R, R, width)
    if true["worst_class"] <= 0 and true["worst_10pct"] <= 0:
        fairer = sum(each.verdict.startswith("fairer") for each in found)
        yield Cell(name, "not called fairer", 1 - fairer / R, R)
    if not any(true.values()):
        unmoved = sum(not each.better and not each.worse for each in found)
        yield Cell(name, "no class called different", unmoved / R, R)
        same = sum(each.verdict == "indistinguishable" for each in found)
        yield Cell(name, "indistinguishable, %", same / R, 1)
    else:
        fairer = sum(each.verdict.startswith(("fairer", "dominates")) for each in found)
        yield Cell(name, "called fairer or dominating, %", fairer / R, 1)


def _true_deltas(first_K: NDArray[np.float64], second_K: NDArray[np.float64]) -> dict[str, float]:
    def figures(p: NDArray[np.float64]) -> NDArray[np.float64]:
        tenth = np.sort(p)[: -(-p.size // 10)].mean()
        return np.array([p.mean(), p.min(), tenth, p.std(), p.std() / p.mean()])

    deltas = figures(second_K) - figures(first_K)
    return dict(zip(_FIGURES, deltas.tolist(), strict=True))


def _cells(
    a_K: NDArray[np.float64], b_K: NDArray[np.float64], correlation: float
) -> NDArray[np.float64]:
    """Probabilities of (a, b) = 00, 01, 10, 11 for each class."""
    both_K = a_K * b_K + correlation * np.sqrt(a_K * (1 - a_K) * b_K * (1 - b_K))
    both_K = np.clip(both_K, np.maximum(a_K + b_K - 1, 0), np.minimum(a_K, b_K))
    return np.stack([1 - a_K - b_K + both_K, b_K - both_K, a_K - both_K, both_K], axis=1)


def _normal_quantile(p_K: NDArray[np.float64]) -> NDArray[np.float64]:
    quantile: NDArray[np.float64] = ndtri(p_K)
    return quantile


def _run(labels_N: NDArray[np.int64], right_N: NDArray[np.bool_]) -> Outcomes:
    K = int(labels_N.max()) + 1
    wrong_N = (labels_N + 1) % K
    predictions_N = np.where(right_N, labels_N, wrong_N)
    table = pd.DataFrame(
        {
            "index": np.arange(len(labels_N)), "label": labels_N, "attack": "pgd", "target": pd.NA,
            "clean_pred": labels_N, "adv_pred": predictions_N, "correct": right_N, "margin": 0.0,
            "confidence": 0.5, "stage": pd.NA, "steps": 20, "linf": 0.03,
        }
    )  # fmt: skip
    names = [str(k) for k in range(K)]
    return Outcomes(conform(table), {"dataset": {"class_names": names}, "attacks": {"pgd": {}}})


if __name__ == "__main__":
    app()
