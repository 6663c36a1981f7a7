"""Choose a recipe's constants by a budget of trials: the work of ``tune``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from ferd_eval.errors import UserError, did_you_mean
from ferd_eval.io.files import write_atomically
from ferd_eval.io.json import to_json
from ferd_eval.io.lock import sole_user
from ferd_eval.runtime.console import show
from ferd_eval.runtime.device import choose_device
from ferd_eval.runtime.progress import ProgressReporter, duration
from ferd_train.config.recipe import to_toml
from ferd_train.distillation.run import (
    ImageSource,
    ShownImages,
    load_shown_images,
    student_run,
    validate_student,
)
from ferd_train.distillation.teacher import FrozenTeacher, TeacherReading
from ferd_train.distillation.teacher_fit import Intention, caution, fitting_teacher
from ferd_train.monitoring.run_progress import watching
from ferd_train.pipeline import warn_of_file
from ferd_train.recipes import find_student_recipe
from ferd_train.recipes.student import StudentRecipe
from ferd_train.study.definition import TeacherSource
from ferd_train.study.process_pool import run_in_processes
from ferd_train.study.status import expected_seconds, time_left
from ferd_train.study.trial import Done, Epoch, Event, Failed, TrialTask
from ferd_train.study.validate import one_thread, placing
from ferd_train.synthesis.methods.real import RealRecipe
from ferd_train.tuning.figures import FIGURES
from ferd_train.tuning.report import Outcome, Ranking
from ferd_train.tuning.space import parse_space
from ferd_train.tuning.trials import Candidate, candidates, words

#: What a search leaves in its folder, beside the trials.
RECORD, BEST = "tune.json", "best.toml"


@dataclass(frozen=True)
class TuneSettings:
    """The options of ``ferd-train tune``."""

    recipe: str
    teacher: str
    out: Path
    vary: Sequence[str] = ()
    trials: int = 16
    seed: int = 0
    by: str = "validation"
    validate: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)
    source: ImageSource = field(default_factory=ImageSource)
    reading: TeacherReading = field(default_factory=TeacherReading)
    device: str = "auto"
    jobs: int = 1
    as_json: bool = False
    dry_run: bool = False


@dataclass(frozen=True)
class _Search:
    """A validated search.

    Attributes:
        base: the recipe without what is only there to judge by.
        facts: of the search, for its record.
    """

    base: StudentRecipe
    trials: Sequence[Candidate]
    repeats: Mapping[int, int]
    about: str
    facts: Mapping[str, Any]


def tune(asked: TuneSettings) -> bool:
    """Run the rest of the trials, rank them, and write the record and the best recipe.

    All input is validated before the first epoch. Failed trials are tried again. Returns whether
    any trial is finished.
    """
    search = _search(asked)
    figure = FIGURES[asked.by]
    left = [each for each in search.trials if not each.state.is_trained()]
    if asked.dry_run:
        print(*_plan(search, left, asked.jobs), sep="\n")
        return True

    def ranking() -> Ranking:
        return Ranking.of(search.trials, figure, search.about, search.repeats)

    def record() -> dict[str, Any]:
        return {**search.facts, **ranking().to_json()}

    def keep_record() -> None:
        write_atomically(asked.out / RECORD, to_json(record()).encode())

    # Only these are written here; each run sweeps its own folder.
    with sole_user(asked.out, below=[each.state.folder.name for each in search.trials]):
        keep_record()
        by_folder = {each.state.folder: each for each in left}
        tasks = [_task(each, asked) for each in left]
        with watching() as reporter:
            progress = _Progress(reporter, left, lambda each: Outcome.read(each, figure))

            def watch(task: TrialTask, event: Event) -> None:
                progress.watch(by_folder[task.folder], event)
                if isinstance(event, Done | Failed):
                    keep_record()

            run_in_processes(tasks, asked.jobs, watch)
        result = ranking()
        if result.best is not None:
            best = search.base.with_changes(result.best.of.drawn)
            write_atomically(asked.out / BEST, to_toml(best).encode())
    for each in result.failed:
        print(f"failed: {each.of.name}: {each.reason}", file=sys.stderr)
    pages = [asked.out / RECORD, *([asked.out / BEST] if result.best else [])]
    show(result.table, record, *pages, as_json=asked.as_json)
    return result.best is not None


def _search(asked: TuneSettings) -> _Search:
    """Load teacher and images, build every student, check every folder; write nothing.

    Raises:
        UserError: something cannot work, or the folder holds another search.
    """
    for name, value, least in (("--trials", asked.trials, 2), ("--jobs", asked.jobs, 1)):
        if value < least:
            raise UserError(f"{name} is {value}; give {least} or more.")
    if asked.by not in FIGURES:
        raise UserError(f"no --by is called {asked.by!r}.{did_you_mean(asked.by, FIGURES)}")
    base = find_student_recipe(asked.recipe).with_changes(asked.changes)
    judged = base
    if asked.validate is not None:
        judged = base.with_changes({"validation.dataset": asked.validate})
    FIGURES[asked.by].require(judged)
    space = parse_space(asked.vary, judged)
    source = TeacherSource("teacher", asked.teacher, asked.reading)
    trials, repeats = candidates(judged, space, asked.seed, asked.trials, source, asked.out)
    teacher = _validate(asked, trials, source, (*asked.changes, *space))
    held_out = (
        f"{judged.validation.per_class} held-out training images of each class of "
        f"{judged.validation.dataset}"
    )
    about = FIGURES[asked.by].about.format(held_out)
    facts = {
        "recipe": asked.recipe,
        "changes": asked.changes,
        "unchanged": judged.to_json(),
        "teacher": teacher.description,
        "space": {name: each.to_json() for name, each in space.items()},
        "seed": asked.seed,
        "asked": asked.trials,
        "by": asked.by,
    }
    return _Search(base, trials, repeats, about, facts)


def _validate(
    asked: TuneSettings,
    trials: Sequence[Candidate],
    source: TeacherSource,
    stated: Sequence[str],
) -> FrozenTeacher:
    images = asked.source
    if asked.dry_run:
        images = replace(images, download=False)
    device = choose_device(asked.device)
    load = cache(source.load)
    usual = find_student_recipe(asked.recipe).arch
    known: dict[object, ShownImages] = {}

    def shown(recipe: StudentRecipe, teacher: FrozenTeacher) -> ShownImages:
        """Loaded once, for most trials see the same."""
        learnt = recipe.synthesis if isinstance(recipe.synthesis, RealRecipe) else None
        key = recipe.image_size, recipe.validation, learnt
        if key not in known:
            known[key] = load_shown_images(recipe, teacher, images)
        return known[key]

    def begin(recipe: StudentRecipe, teacher: FrozenTeacher) -> None:
        validate_student(recipe, teacher, shown(recipe, teacher))

    for each in trials:
        where = f"trial {each.number} ({words(each.drawn)}): " if each.drawn else ""
        with placing(where):
            intention = Intention(asked.recipe, each.recipe, stated)
            teacher = fitting_teacher(intention, load, usual, begin)
            if each.number == 0:
                warn_of_file(teacher)
                if said := caution(intention, teacher):
                    print(f"warning: {said}", file=sys.stderr)
                for doubt in shown(each.recipe, teacher).cautions:
                    print(f"warning: {doubt}", file=sys.stderr)
        if each.state.run.exists():
            with one_thread():
                student_run(
                    each.recipe,
                    teacher,
                    each.state.run,
                    device=device,
                    shown=shown(each.recipe, teacher),
                )
    return teacher


def _task(candidate: Candidate, asked: TuneSettings) -> TrialTask:
    state = candidate.state
    return TrialTask(
        state.trial,
        (),
        state.folder,
        asked.source.data_dir,
        asked.device,
        asked.source.classes,
        asked.source.class_order,
    )


def _plan(search: _Search, left: Sequence[Candidate], jobs: int) -> Iterator[str]:
    for each in search.trials:
        epochs = each.state.training_time().epochs
        standing = "to be trained" if each in left else "done"
        if each in left and epochs:
            standing = f"to be trained from epoch {epochs + 1} of {each.recipe.epochs}"
        failure = each.state.failure()
        before = f" (failed the last time: {failure})" if each in left and failure else ""
        yield f"{each.name}: {each.words}: {standing}{before}"
    for number, first in search.repeats.items():
        yield f"trial {number}: draws the same as trial {first}, so it is not run"
    states = [each.state for each in search.trials]
    if left:
        ahead = time_left(expected_seconds([each.state for each in left], states, ()), jobs)
        yield f"{len(states) - len(left)} of {len(states)} are done; {ahead} with --jobs {jobs}."
    else:
        yield f"all {len(states)} are done."
    yield "Nothing was written. Leave --dry-run out to begin."


class _Progress:
    """Reports epochs, and each trial that ends."""

    def __init__(
        self,
        reporter: ProgressReporter,
        left: Sequence[Candidate],
        read: Callable[[Candidate], Outcome],
    ) -> None:
        self._reporter, self._read = reporter, read
        # Epochs ahead of each trial.
        self._ahead = {
            each.number: each.recipe.epochs - each.state.training_time().epochs for each in left
        }
        done = sum(each.recipe.epochs for each in left) - sum(self._ahead.values())
        reporter.start(f"{len(left)} trials")
        reporter.skip(float(done), self._left)

    @property
    def _left(self) -> float:
        return float(sum(self._ahead.values()))

    def watch(self, candidate: Candidate, event: Event) -> None:
        number = candidate.number
        if isinstance(event, Epoch):
            passed = max(self._ahead[number] - (event.of - event.number), 0)
            self._ahead[number] -= passed
            text = f"{candidate.name}: epoch {event.number}/{event.of}"
            self._reporter.advance(text, float(passed), self._left)
        elif isinstance(event, Done):
            candidate.state.succeed()
            self._ahead[number] = 0
            result = self._read(candidate)
            assert result.figure is not None
            self._reporter.note(
                f"{candidate.name}: {candidate.words}: {result.figure:.1%}, "
                f"{duration(result.seconds)}"
            )
        elif isinstance(event, Failed):
            candidate.state.fail(event.reason)
            self._ahead[number] = 0
            self._reporter.skip(0.0, self._left)
            self._reporter.note(f"{candidate.name}: failed: {event.reason}")
