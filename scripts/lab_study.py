"""The laboratory study: FERD and its ablations on Fashion-MNIST, three seeds each.

``run`` trains and attacks what is still missing (hours on 2 cores; kill it and run it again), and
``report`` writes the tables of what is complete.

    python scripts/lab_study.py run --data-dir DATA --work reports/runs/lab
    python scripts/lab_study.py report --work reports/runs/lab --to reports/ferd-lab
"""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Annotated, Any

import typer
from scipy import stats

from ferd_eval.metrics import Comparison, Delta, compare_methods
from ferd_eval.results.outcomes import Outcomes

#: The switches of the paper's Table 3, and what the tables call them.
ARMS = {
    "none": "FERD",
    "no-reweight": "no reweighting",
    "no-fae": "no FAEs",
    "no-utae": "no UTAEs",
    "no-fae-no-utae": "neither FAEs nor UTAEs",
}
SEEDS = (0, 1, 2)

#: Evaluations: clean and PGD-20 on the whole test set, AutoAttack on 200 images of each class.
EVALUATIONS = {
    "full": ["--attacks", "pgd"],
    "balanced": ["--attacks", "aa", "--per-class", "200"],
}

#: Columns of the tables: title, evaluation, attack, figure, whether more is better.
COLUMNS = (
    ("clean avg", "full", "clean", "average", True),
    ("clean worst", "full", "clean", "worst", True),
    ("PGD avg", "full", "pgd", "average", True),
    ("PGD worst", "full", "pgd", "worst", True),
    ("PGD NSD", "full", "pgd", "nsd", False),
    ("AA avg", "balanced", "aa", "average", True),
    ("AA worst", "balanced", "aa", "worst", True),
    ("AA NSD", "balanced", "aa", "nsd", False),
)

app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Run:
    """One student."""

    arm: str
    seed: int

    def folder(self, work: Path) -> Path:
        """Where it lies."""
        return work / self.arm / f"seed-{self.seed}"


@app.command()
def run(
    data_dir: Annotated[Path, typer.Option(help="Where fashion-mnist lies.")],
    work: Annotated[Path, typer.Option(help="Folder of all runs.")],
    only: Annotated[str, typer.Option(help="Arms, separated by commas.")] = ",".join(ARMS),
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0,1,2",
) -> None:
    """Train and attack every student that is not complete, seed by seed."""
    wanted = [Run(arm, int(seed)) for seed in seeds.split(",") for arm in only.split(",")]
    for each in wanted:
        folder = each.folder(work)
        _call("ferd-train", "student", "--teacher", "demo", "--recipe", "ferd-lab",
              "--ablation", each.arm, "--seed", each.seed, "--out", folder / "run")  # fmt: skip
    for each in wanted:
        folder = each.folder(work)
        for name, options in EVALUATIONS.items():
            _call("ferd-eval", "score", folder / "run" / "student.safetensors",
                  "--dataset", "fashion-mnist", "--data-dir", data_dir,
                  *options, "--out", folder / name)  # fmt: skip


def _call(*words: object) -> None:
    done = subprocess.run([str(word) for word in words], stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        sys.exit(done.returncode)


@app.command()
def report(
    work: Annotated[Path, typer.Option(help="Folder of all runs.")],
    to: Annotated[Path, typer.Option(help="Folder of the report.")],
) -> None:
    """Write the tables, and copy what they rest on: students, records and scorecards."""
    to.mkdir(parents=True, exist_ok=True)
    figures = {run: found for run in _all_runs() if (found := _figures(run.folder(work)))}
    for each in figures:
        _keep(each, work, to)
    rows = [
        {"arm": run.arm, "seed": run.seed, **{c[0]: found.get(c[0]) for c in COLUMNS}}
        for run, found in figures.items()
    ]
    with (to / "students.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    tables = "\n".join([*_means(figures), *_differences(work)])
    (to / "tables.md").write_text(tables + "\n", encoding="utf-8")
    print(to / "tables.md")


def _all_runs() -> Iterator[Run]:
    return (Run(arm, seed) for arm in ARMS for seed in SEEDS)


def _figures(folder: Path) -> dict[str, float]:
    """What is complete of a student, as fractions, by column."""
    found = {}
    for title, evaluation, attack, figure, _ in COLUMNS:
        file = folder / evaluation / "scorecard.json"
        if file.is_file():
            card = json.loads(file.read_text())
            found[title] = _figure(card["attacks"][attack], figure)
    return found


def _figure(scores: Mapping[str, Any], figure: str) -> float:
    value = scores["worst_class"]["accuracy"] if figure == "worst" else scores[figure]
    return float(value)


def _keep(run: Run, work: Path, to: Path) -> None:
    source, target = run.folder(work), to / run.arm / f"seed-{run.seed}"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("run/student.safetensors", "run/manifest.json", "run/metrics.csv",
                 "full/scorecard.json", "balanced/scorecard.json"):  # fmt: skip
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name.replace("run/", "").replace("/", "-"))


def _means(figures: Mapping[Run, Mapping[str, float]]) -> Iterator[str]:
    titles = [column[0] for column in COLUMNS]
    yield "Mean over the seeds ± half the 95 % t interval over seeds (per cent; NSD as it is).\n"
    yield f"| arm | seeds | {' | '.join(titles)} |"
    yield "|---|---|" + "---|" * len(titles)
    for arm, name in ARMS.items():
        cells = []
        count = sum(run.arm == arm for run in figures)
        for title in titles:
            values = [f[title] for run, f in figures.items() if run.arm == arm and title in f]
            partly = f" ({len(values)} of {count})" if len(values) < count else ""
            cells.append(_interval(values, title) + partly if values else "–")
        yield f"| {name} | {count} | {' | '.join(cells)} |"


def _differences(work: Path) -> Iterator[str]:
    """Each arm against FERD, as `ferd-eval compare` compares methods; none before three seeds."""
    for title, (evaluation, attack) in {
        "PGD-20, 10 000 images": ("full", "pgd"),
        "AutoAttack, 2000 images": ("balanced", "aa"),
        "Clean, 10 000 images": ("full", "clean"),
    }.items():
        ferd = _seeds(work, "none", evaluation)
        others = {arm: _seeds(work, arm, evaluation) for arm in list(ARMS)[1:]}
        if not all(len(runs) == len(SEEDS) for runs in (ferd, *others.values())):
            continue
        yield (
            f"\n**{title}: difference to FERD**, paired by seed, with 95 % intervals that allow "
            "for seeds and images (points; NSD debiased, as it is).\n"
        )
        yield "| without | average | worst class | NSD | classes better, worse | verdict |"
        yield "|---|---|---|---|---|---|"
        for arm, runs in others.items():
            found = compare_methods(ferd, runs, attack, by_seed=True)
            yield (
                f"| {ARMS[arm]} | {_points(found.average)} | {_points(found.worst_class)} "
                f"| {_points(found.nsd, 1, 3)} | {_names(found, found.better)}; "
                f"{_names(found, found.worse)} | {found.verdict} |"
            )


def _seeds(work: Path, arm: str, evaluation: str) -> list[Outcomes]:
    folders = [Run(arm, seed).folder(work) / evaluation for seed in SEEDS]
    return [Outcomes.load(each) for each in folders if (each / "outcomes.parquet").is_file()]


def _points(delta: Delta, scale: float = 100, digits: int = 1) -> str:
    assert delta.value is not None
    assert delta.interval95 is not None
    low, high = (f"{scale * end:+.{digits}f}" for end in delta.interval95)
    return f"{scale * delta.value:+.{digits}f} ({low} to {high})"


def _names(found: Comparison, classes: Sequence[int]) -> str:
    return ", ".join(found.per_class[k].name for k in classes) or "none"


def _half_width(values: Sequence[float]) -> float:
    """Half the 95 % t interval of a mean of independent values."""
    quantile = float(stats.t.ppf(0.975, len(values) - 1))
    return quantile * stdev(values) / len(values) ** 0.5


def _scaled(value: float, title: str) -> str:
    return f"{value:.3f}" if title.endswith("NSD") else f"{100 * value:.1f}"


def _interval(values: Sequence[float], title: str) -> str:
    text = _scaled(mean(values), title)
    return text if len(values) < 2 else f"{text} ± {_scaled(_half_width(values), title)}"


if __name__ == "__main__":
    app()
