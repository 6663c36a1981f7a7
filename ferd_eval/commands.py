"""What the commands do, as functions of Python: the same options, and nothing printed.

`score`, `scorecard`, `report` and `load_dataset` stand where they are computed. No torch on this
path. Remarks on what is left out go to the logger ``ferd_eval``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferd_eval.datasets import dataset_info, list_datasets
from ferd_eval.datasets.class_order import ClassOrder
from ferd_eval.errors import UserError, require_kind
from ferd_eval.io.lock import sole_user
from ferd_eval.metrics.comparison.verdict import MARGIN
from ferd_eval.report import as_run, write_report
from ferd_eval.report.comparison.compare import ComparisonRequest, compare_runs
from ferd_eval.report.comparison.model import ComparisonReport
from ferd_eval.report.comparison.write import write_comparison
from ferd_eval.report.gate import Verdict, Verdicts, judge
from ferd_eval.report.leaderboard import LatexStyle, read_reported, write_leaderboard
from ferd_eval.report.leaderboard import leaderboard as build_leaderboard
from ferd_eval.report.leaderboard.model import Leaderboard
from ferd_eval.report.leaderboard.read import Rows, read_scored_groups
from ferd_eval.results.imported_run import PredictionSource, require_room
from ferd_eval.results.outcomes import OUTCOMES, Outcomes
from ferd_eval.results.run_group import Side
from ferd_eval.runtime.remarks import remark

Paths = str | Path | Sequence[str | Path]


def compare(
    a: Side,
    b: Side,
    *,
    reference: Side | None = None,
    attack: str | None = None,
    margin: float = MARGIN,
    pair_seeds: bool | None = None,
    out: Path | str | None = None,
) -> ComparisonReport:
    """Compare two networks, or two methods by three training seeds or more, on the same images.

    Args:
        a, b: each a run folder, `Outcomes`, a folder of runs, or a sequence of folders or of
            Outcomes. Differences are b − a.
        reference: a third one that both are compared with, too.
        attack: that of the verdict; default: the strongest both met.
        margin: tolerated loss of average accuracy, a fraction.
        pair_seeds: take differences seed by seed; default: where seeds and teachers are the same.
        out: folder to write ``compare.html``, ``.md``, ``.csv`` and ``.json`` to; None writes
            nothing.

    Raises:
        UserError: the runs cannot be compared.
    """
    require_kind(margin, int | float, "margin", "a fraction, such as 0.01")
    report = compare_runs(ComparisonRequest(a, b, reference, attack, margin, pair_seeds))
    if out is not None:
        write_comparison(Path(out), report)
    return report


def leaderboard(
    runs: Paths | Mapping[str, Paths],
    *,
    reported: Path | str | None = None,
    attacks: str | Sequence[str] | None = None,
    figures: str | Sequence[str] | None = None,
    sort: str | None = None,
    group_seeds: bool = False,
    style: LatexStyle | None = None,
    out: Path | str | None = None,
) -> Leaderboard:
    """Rank many runs in one table for each set of images.

    Args:
        runs: run folders or folders of runs; ``{name: folders}`` makes one row of each name, over
            training seeds.
        reported: a CSV file of published rows to show apart; ``"paper"``: those of FERD.
        attacks: which, in this order, as names or ``"clean,pgd"``; default: all.
        figures: which, likewise: avg, worst, nsd, floor; default: all.
        sort: ``"ATTACK.FIGURE"`` such as ``"pgd.worst"`` (avg, worst, nsd, floor), ``"name"`` or
            ``"given"``.
        group_seeds: runs that differ in the training seed are one row.
        style: of ``leaderboard.tex``.
        out: folder to write ``leaderboard.html``, ``.md``, ``.csv``, ``.tex`` and ``.json`` to;
            None writes nothing.

    Raises:
        UserError: a run, attack or figure is not there, or runs of a row do not belong together.
    """
    rows: Rows
    if isinstance(runs, Mapping):
        rows = {name: _paths(each) for name, each in runs.items()}
    else:
        rows = _paths(runs)
    if not rows:
        raise UserError("there is no run to rank. Give one folder or more.")
    published = None if reported is None else read_reported(str(reported))
    groups = read_scored_groups(rows, group_seeds=group_seeds)
    ids, keys = _named(attacks), _named(figures)
    if attacks is not None and not ids:
        raise UserError("--attacks names no attack. Give some with commas, such as clean,pgd,aa.")
    if figures is not None and not keys:
        raise UserError("--figures names no figure. Give some with commas, such as avg,worst,nsd.")
    classes = {info.name: info.num_classes for info in list_datasets() if info.num_classes}
    board = build_leaderboard(
        groups, published, attacks=ids, figures=keys, sort=sort, num_classes=classes
    )
    if out is not None:
        write_leaderboard(Path(out), board, style or LatexStyle())
    return board


def _named(words: str | Sequence[str] | None) -> list[str]:
    """Names, also with commas between them, each once."""
    given = words.split(",") if isinstance(words, str) else words or ()
    return list(dict.fromkeys(filter(None, map(str.strip, given))))


def gate(
    run: Path | str,
    *,
    floor: float | str | None = None,
    max_drop: float | str | None = None,
    attack: str | None = None,
) -> Verdict | Verdicts:
    """Judge a finished run, or each of a folder of runs, against limits; ``passed`` is the answer.

    Args:
        run: its folder.
        floor: every class must be right at least this often, with 95 % confidence: 0.20 or "20%".
        max_drop: no class may lose more than this from clean to attacked, likewise.
        attack: default: the strongest attack of the run.

    Raises:
        UserError: nothing is asked, the run cannot be read, or it cannot answer.
    """
    least, most = (None if each is None else str(each) for each in (floor, max_drop))
    return judge(Path(run), least, most, attack)


def import_predictions(
    files: Paths | Mapping[str, str | Path],
    out: Path | str | None = None,
    *,
    attack: str | None = None,
    eps: str | float | None = None,
    dataset: str | None = None,
    classes: str | Sequence[str] | None = None,
    name: str | None = None,
    command: Sequence[str] = (),
) -> Outcomes:
    """Make a finished run of predictions from another tool.

    Args:
        files: CSV or npz (index, label, pred[, attack]), each as ``FILE`` or ``"FILE=ATTACK"``, or
            ``{attack: file}``.
        out: folder of the run and its reports; None writes nothing.
        attack: the attack's name if the files do not say; ``"clean"`` for none.
        eps: L∞ radius of the attacks, as ``"8/255"``.
        dataset: a name of ``ferd-eval ls datasets``, for its class names.
        classes: class names, or a file with one a line.
        name: the model's in reports; default: the folder's, else the first file's.
        command: for the record.

    Raises:
        UserError: a file cannot be read, says what cannot be true, or `out` holds something else.
    """
    if isinstance(files, Mapping):
        words = [f"{file}={attack}" for attack, file in files.items()]
    else:
        words = _paths(files)
    if not words:
        raise UserError("there is no file of predictions. Give one or more.")
    if dataset is not None and classes is not None:
        raise UserError("--dataset and --classes both name the classes; give one of them.")
    source = PredictionSource.of(words, attack)
    known, class_names, said = _classes(dataset, classes, source.record.get("dataset"))
    outcomes, notes = source.imported(
        source.files[0].path.with_suffix("") if out is None else Path(out),
        name=name,
        dataset=known,
        class_names=class_names,
        eps=None if eps is None else str(eps),
        command=command,
    )
    run = as_run(outcomes.manifest["checkpoint"]["name"], outcomes)  # checks before it writes
    if out is not None:
        require_room(Path(out), outcomes.manifest)
    for note in [*said, *notes]:
        remark(note)
    if out is not None:
        with sole_user(Path(out)):
            outcomes.save(out)
            write_report(out, [run])
    return outcomes


def _paths(given: Paths) -> list[str]:
    """One or several, as text."""
    several = [given] if isinstance(given, str | Path) else given
    require_kind(several, Sequence, "the runs or files", "one path or several")
    for each in several:
        require_kind(each, str | Path, "a run or file", "its path")
    return [str(each) for each in several]


def _classes(
    dataset: str | None, classes: str | Sequence[str] | None, recorded: Mapping[str, Any] | None
) -> tuple[dict[str, Any], tuple[str, ...] | None, list[str]]:
    """The record of the data set, its class names, and notes; `recorded` comes first."""
    if recorded is not None:
        if (said := dataset or classes) and said != recorded.get("name"):
            option = "--dataset" if dataset else "--classes"
            raise UserError(
                f"{option} is {said}, but the manifest beside {OUTCOMES} says "
                f"{recorded.get('name')} and names its classes. Leave {option} out."
            )
        return dict(recorded), tuple(recorded["class_names"]), []
    if classes is not None:
        return {}, ClassOrder.chosen(classes, None).of_numbers(), []
    if dataset is None:
        return {}, None, []
    info = dataset_info(dataset)
    if info.num_classes is None:
        raise UserError(f"the classes of {dataset} are in its files. Name them with --classes.")
    groupings = {name: list(groups) for name, groups in info.groupings.items()}
    named = {"name": info.name, "groupings": groupings}
    if info.class_names:
        return named, info.class_names, []
    numbers = tuple(map(str, range(info.num_classes)))
    return named, numbers, [f"the class names of {info.name} are in its files: numbers are shown"]
