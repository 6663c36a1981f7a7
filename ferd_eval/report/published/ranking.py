"""Rankings of what is published: one for each set of images and ε, a column for each attack."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ferd_eval.metrics import seed_mean
from ferd_eval.metrics.comparison.methods import FEWEST_SEEDS
from ferd_eval.metrics.figures import LOWEST, WORST_CLASS, Figure, board_figures
from ferd_eval.report.format import NOTHING, PRINTERS, FormattedValue, Table
from ferd_eval.report.leaderboard.build import (
    TITLES,
    Board,
    Column,
    Place,
    Row,
    Score,
)
from ferd_eval.report.leaderboard.model import apart, variants
from ferd_eval.report.leaderboard.notes import constants_of_columns
from ferd_eval.report.published.counts import ClassCounts, stable
from ferd_eval.report.published.link import href
from ferd_eval.report.published.run import PublishedRun
from ferd_eval.results.attack_id import preset_of


@dataclass(frozen=True, eq=False)
class Entry:
    """One network on one set of images within one ball.

    Attributes:
        name: its folder, as a reader finds it.
        counts: attack without its ε → counts.
    """

    name: str
    run: PublishedRun
    counts: Mapping[str, ClassCounts]


@dataclass(frozen=True, eq=False)
class Ranking:
    """What can be compared, and nothing else.

    Attributes:
        methods: means over training seeds; None where no method has enough.
        networks: every network by itself.
        links: name of a row of `networks` → its folder, seen from the page.
        lowest: which class is lowest, network by network.
    """

    title: str
    methods: Board | None
    networks: Board
    links: Mapping[str, str]
    notes: tuple[str, ...]
    lowest: Table
    constants: Table


def rankings(runs: Sequence[PublishedRun]) -> tuple[Ranking, ...]:
    """Put runs together that met the same images within the same ball."""
    together: dict[tuple[object, ...], list[tuple[PublishedRun, dict[str, ClassCounts]]]] = {}
    for run in runs:
        for eps, counts in _by_eps(run).items():
            key = (run.dataset, run.fingerprint, run.class_names, _sizes(counts), eps)
            together.setdefault(key, []).append((run, counts))
    found = [_ranking(_entries(those)) for those in together.values()]
    found.sort(key=lambda r: (r.networks.dataset, -(r.networks.images or 0), r.title))
    return tuple(found)


def _by_eps(run: PublishedRun) -> dict[str, dict[str, ClassCounts]]:
    """Attacks by their ε, each with the clean images; clean images alone stand under no ε."""
    clean = {each.attack: each for each in run.attacks if each.is_clean}
    found: dict[str, dict[str, ClassCounts]] = {}
    for each in run.attacks:
        if not each.is_clean:
            eps = "unknown" if each.eps is None else f"{each.eps:.9g}"
            found.setdefault(eps, dict(clean))[preset_of(each.attack)] = each
    return found or {"": clean}


def _sizes(counts: Mapping[str, ClassCounts]) -> tuple[int, ...]:
    return tuple(next(iter(counts.values())).n_K.tolist())


def _entries(those: Sequence[tuple[PublishedRun, dict[str, ClassCounts]]]) -> list[Entry]:
    """One for each network: its evaluations on the same images are put together.

    Where two contradict each other, each stands for itself.
    """
    found: dict[str, Entry] = {}
    for run, counts in those:
        name = str(run.place.network)
        before = found.get(name)
        if before is not None:
            shared = {*before.counts} & {*counts}
            clean_alike = shared <= {"clean"} and all(
                (before.counts[a].correct_K == counts[a].correct_K).all() for a in shared
            )
            same = (before.run.sha256, before.run.key) == (run.sha256, run.key)
            if clean_alike and same:
                found[name] = replace(before, counts={**before.counts, **counts})
                continue
            name = str(run.place.file.parent)
        found[name] = Entry(name, run, counts)
    return list(found.values())


def _ranking(entries: list[Entry]) -> Ranking:
    first = entries[0].run
    columns = _columns(entries)
    figures = board_figures(len(first.class_names))
    attacked = [each for entry in entries for each in entry.counts.values() if not each.is_clean]
    eps = _eps_text(attacked)
    images = sum(_sizes(entries[0].counts))
    title = f"{first.dataset}, {images} images"
    title += f" ({first.selection})" if first.selection not in ("", "all") else ""
    title += f", ε = {eps}" if eps else ", no attack"

    def board(rows: Sequence[Row]) -> Board:
        return Board(
            title=title,
            dataset=first.dataset,
            images=images,
            eps=eps,
            worst=figures[LOWEST].heading,
            worst_figure=figures[LOWEST].key,
            columns=tuple(column for column, _ in columns),
            rows=_in_order(_ranked(rows, columns), columns),
            reported=(),
            source="",
            notes=(),
            tables=(),
        )

    methods = _methods(entries)
    rows = [_row(entry.name, (entry,), columns, entries, figures) for entry in entries]
    means = [_row(name, those, columns, entries, figures) for name, those in methods.items()]
    networks = board(rows)
    return Ranking(
        title,
        board(means) if means else None,
        networks,
        {entry.name: href(str(entry.run.place.network)) for entry in entries},
        _notes(entries, methods, figures[LOWEST]),
        _lowest_classes([next(e for e in entries if e.name == r.name) for r in networks.rows],
                        columns, entries),
        constants_of_columns(networks.columns),
    )  # fmt: skip


def _eps_text(attacked: Sequence[ClassCounts]) -> str:
    if not attacked:
        return ""
    texts = sorted(
        {t for each in attacked if isinstance(t := each.constants.get("eps_text"), str) and t}
    )
    if texts:
        return texts[0]
    eps = attacked[0].eps
    return "unknown" if eps is None else f"{eps:.6g}"


def _columns(entries: Sequence[Entry]) -> list[tuple[Column, list[int]]]:
    """Columns, and the entries in each by place: an attack has as many as its constants differ."""
    measured = sorted({attack for entry in entries for attack in entry.counts})
    order = [a for a in TITLES if a in measured] + [a for a in measured if a not in TITLES]
    columns = []
    for attack in order:
        met = {i: e.counts[attack].constants for i, e in enumerate(entries) if attack in e.counts}
        if attack == "clean":  # nothing that its record says can make a difference
            met = {i: {"family": "clean"} for i in met}
        found = variants(met)
        for constants, members in found:
            own = apart(constants, [other for other, _ in found])
            key, title = (
                f"{name} ({own})" if own else name for name in (attack, TITLES.get(attack, attack))
            )
            columns.append((Column(key, attack, title, constants), members))
    return columns


def _methods(entries: Sequence[Entry]) -> dict[str, tuple[Entry, ...]]:
    """Networks that differ in the training seed alone, where there are enough of them.

    A method is a folder with one recipe, one teacher and the seeds below it.
    """
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for entry in entries:
        run = entry.run
        key = (run.place.method, run.training.constants, run.training.teacher_sha256)
        if run.training.seed is not None:
            groups.setdefault(key, []).append(entry)
    found: dict[str, tuple[Entry, ...]] = {}
    for (name, *_), those in groups.items():
        seeds = {entry.run.training.seed for entry in those}
        if len(seeds) == len(those) >= FEWEST_SEEDS and name not in found:
            found[name] = tuple(those)
    return found


def _row(
    name: str,
    those: Sequence[Entry],
    columns: Sequence[tuple[Column, list[int]]],
    entries: Sequence[Entry],
    figures: Mapping[str, Figure],
) -> Row:
    """One network, or a mean over all of a method; a figure that one of them lacks is not given."""
    scores = {}
    for column, members in columns:
        inside = {id(entries[i]) for i in members}
        if all(id(entry) in inside for entry in those):
            scores[column.key] = _scores([e.counts[column.attack] for e in those], figures)
    marks = _marks(those) + ((f"{len(those)} seeds",) if len(those) > 1 else ())
    return Row(name, marks, len(those), scores)


def _marks(those: Sequence[Entry]) -> tuple[str, ...]:
    marks = ["!"] if any(entry.run.flags for entry in those) else []
    if any(each.open_ends for entry in those for each in entry.counts.values()):
        marks.append("audited")
    if any(entry.run.imported for entry in those):
        marks.append("imported")
    if any(entry.run.training.real_images for entry in those):
        marks.append("real images")
    return tuple(marks)


def _scores(counts: Sequence[ClassCounts], figures: Mapping[str, Figure]) -> dict[str, Score]:
    """Figures of one network with their intervals over images, or of several over seeds."""
    scores = {}
    for key, figure in figures.items():
        printer = PRINTERS[figure.unit]
        values = [each.value(figure) for each in counts]
        if figure.limit:
            known = [value for value in values if value is not None]
            scores[key] = Score(printer(min(known) if len(known) == len(values) else None))
        elif len(counts) > 1:
            scores[key] = _mean(values, printer)
        else:
            ends = counts[0].interval(figure) or (None, None)
            scores[key] = Score(printer(values[0]), low=printer(ends[0]), high=printer(ends[1]))
    return scores


def _mean(
    values: Sequence[float | None], printer: Callable[[float | None], FormattedValue]
) -> Score:
    mean = seed_mean(values)
    if mean.value is None or mean.half95 is None:
        return Score(printer(mean.value))
    value, half = stable(mean.value), stable(mean.half95)
    return Score(
        printer(value),
        low=printer(stable(value - half)),
        high=printer(stable(value + half)),
        half=printer(half),
    )


def _ranked(rows: Sequence[Row], columns: Sequence[tuple[Column, list[int]]]) -> list[Row]:
    """Mark the best and the second of each figure that has an interval, and what overlaps the best.

    Outcomes may not be published, so nothing is paired here. Two intervals that are apart are a
    difference; two that overlap may still be one, which `ferd-eval compare` can tell.
    """
    marked = [{key: dict(of) for key, of in row.scores.items()} for row in rows]
    for column, _ in columns:
        for figure, spec in board_figures().items():
            found = [
                (scores[column.key], scores[column.key][figure])
                for scores in marked
                if column.key in scores
            ]
            sure = [(of, score) for of, score in found if score.low.value is not None]
            if len(sure) < 2:
                continue
            sign = -1 if spec.more_is_better else 1
            sure.sort(key=lambda item: sign * (item[1].figure.value or 0.0))
            printed = list(dict.fromkeys(score.figure.text for _, score in sure))
            places = dict(zip(printed, (Place.BEST, Place.SECOND), strict=False))
            best = sure[0][1]
            for of, score in sure:
                of[figure] = replace(
                    score,
                    place=places.get(score.figure.text, Place.NONE),
                    tied=None if score is best else _overlap(score, best),
                )
    return [replace(row, scores=scores) for row, scores in zip(rows, marked, strict=True)]


def _overlap(one: Score, other: Score) -> bool:
    ends = (one.low.value, one.high.value, other.low.value, other.high.value)
    low, high, other_low, other_high = (0.0 if end is None else end for end in ends)
    return low <= other_high and other_low <= high


def _in_order(rows: Sequence[Row], columns: Sequence[tuple[Column, list[int]]]) -> tuple[Row, ...]:
    """By the lowest classes under the last column that most rows have; ties by name."""
    times = {c.key: sum(c.key in row.scores for row in rows) for c, _ in columns}
    decisive = [c for c, _ in columns if times[c.key] == max(times.values())][-1]

    def place(row: Row) -> tuple[bool, float, str]:
        value = row.score(decisive, LOWEST).figure.value
        return value is None, -(value or 0.0), row.name

    return tuple(sorted(rows, key=place))


def _lowest_classes(
    entries: Sequence[Entry],
    columns: Sequence[tuple[Column, list[int]]],
    of_all: Sequence[Entry],
) -> Table:
    """The lowest class of each sample, and which others may be it."""
    inside = [{id(of_all[i]) for i in members} for _, members in columns]
    return Table(
        "Which class is lowest",
        ("Network", *(column.title for column, _ in columns)),
        tuple(
            (
                entry.name,
                *(
                    _lowest(entry.counts[column.attack]) if id(entry) in those else NOTHING
                    for (column, _), those in zip(columns, inside, strict=True)
                ),
            )
            for entry in entries
        ),
        "The lowest of the sample; in brackets the others that cannot be excluded, with 95 % "
        "confidence.",
    )


def _lowest(counts: ClassCounts) -> str:
    """Names, many of them counted."""
    lowest = ", ".join(counts.lowest[:3]) + (" …" if len(counts.lowest) > 3 else "")
    if counts.possibly_worst is None:
        return f"{lowest} (part of the attack is open)"
    others = [name for name in counts.possibly_worst if name not in counts.lowest]
    if not others:
        return lowest
    return f"{lowest} ({', '.join(others) if len(others) <= 3 else f'{len(others)} others'})"


def _notes(
    entries: Sequence[Entry], methods: Mapping[str, Sequence[Entry]], worst: Figure
) -> tuple[str, ...]:
    """What a reader must know, the most needed first."""
    lowest = worst.heading.lower()
    truly = "class" if worst is WORST_CLASS else "tenth of the classes"
    notes = []
    if methods:
        counts = sorted({len(those) for those in methods.values()})
        notes.append(
            f"Methods: mean over {' or '.join(map(str, counts))} training seeds ± half the 95 % t "
            "interval over seeds. Two or fewer seeds are no row there."
        )
    notes += [
        f"Networks: the intervals (95 %) are for other images like these; that of the {lowest} is "
        f"of the {truly} that truly is lowest. A network is a checkpoint, not a method.",
        "Accuracy in per cent. Best bold, second underlined, by the printed figure. ≈: the "
        "interval overlaps that of the best, so these figures alone do not tell them apart; "
        "ferd-eval compare on the runs themselves, paired by image, may.",
        f"The {lowest} is picked after the fact and tends to look worse than it is. NSD, standard "
        "deviation over classes ÷ their mean, falls whenever the mean rises.",
        "Floor: with 95 % confidence every class is right at least this often under the attack; "
        "of several seeds, every class of each of their networks.",
    ]
    marks = {mark for entry in entries for mark in _marks((entry,))}
    if "!" in marks:
        notes.append("! marks networks whose attacks are in doubt; the signs are listed below.")
    if "audited" in marks:
        notes.append("Audited: part of the attack saw a sample only; the figure may be too high.")
    if "imported" in marks:
        notes.append("Imported: another tool made the predictions; its attack is not recorded.")
    if "real images" in marks:
        notes.append("Real images: learned from a data set's own images, not data-free.")
    return tuple(notes)
