"""One evaluation of one network, as a published folder holds it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from ferd_eval.report.published.counts import PublishedAttack

_SEED = re.compile(r"seed[-_]?(\d+)", re.IGNORECASE)

#: A study's folders of a teacher's own evaluations, and of a training run.
_TEACHER, _RUN = "teacher", "run"


@dataclass(frozen=True)
class Place:
    """The path of a scorecard and what it says; all paths are relative to the folder of reports.

    Attributes:
        file: of the scorecard.
    """

    file: PurePosixPath

    @property
    def report(self) -> str:
        """Its published report: the first folder."""
        return self.file.parts[0]

    @property
    def network(self) -> PurePosixPath:
        """The network's folder."""
        parts = self.file.parent.parts
        seeds = [i for i, part in enumerate(parts) if _SEED.fullmatch(part)]
        if seeds:
            return PurePosixPath(*parts[: seeds[-1] + 1])
        if _TEACHER in parts[1:]:
            return PurePosixPath(*parts[: parts.index(_TEACHER, 1) + 1])
        return self.file.parent

    @property
    def method(self) -> str:
        """The network's folder without the seed, shared by its other seeds."""
        return "/".join(part for part in self.network.parts if not _SEED.fullmatch(part))

    @property
    def training(self) -> tuple[PurePosixPath, ...]:
        """Folders where its training record and the network itself may lie."""
        beside = [self.file.parent.parent / _RUN] if len(self.file.parts) > 2 else []
        return tuple(dict.fromkeys([self.network / _RUN, self.network, *beside]))

    @property
    def evaluation(self) -> str:
        """Path below the network's folder, such as ``full``; may be empty."""
        below = self.file.parent.relative_to(self.network).parts
        named = self.file.name.removesuffix("scorecard.json").rstrip("-")
        return "/".join([*below, *([named] if named else [])])

    @property
    def seed(self) -> int | None:
        """By the path; None where it does not say."""
        named = [found[1] for part in self.network.parts if (found := _SEED.fullmatch(part))]
        return int(named[-1]) if named else None


@dataclass(frozen=True)
class CodeState:
    """Commit and day; empty where not recorded.

    Attributes:
        day: ISO date.
        dirty: whether the code had uncommitted changes.
    """

    commit: str = ""
    dirty: bool = False
    day: str = ""

    @property
    def full(self) -> str:
        """The whole commit, and whether there were changes."""
        return self.commit + ("+changes" if self.dirty else "")

    def __str__(self) -> str:
        state = self.commit[:10] + (" with changes" if self.dirty else "")
        return ", ".join(part for part in (self.day, state) if part) or "–"


@dataclass(frozen=True)
class Training:
    """The network's training; None and empty where not recorded.

    Attributes:
        recipe: the method in few words.
        constants: digest of the recipe without its seed.
        real_images: whether it learned from a data set's images.
    """

    seed: int | None = None
    recipe: str = ""
    constants: str = ""
    teacher: str = ""
    teacher_sha256: str = ""
    real_images: bool = False
    code: CodeState = CodeState()


@dataclass(frozen=True, eq=False)
class PublishedRun:
    """A scorecard with the records beside it.

    Attributes:
        key: of the network in its file; empty where the file holds one.
        weights: whether the checkpoint is published, with this digest.
        flags: signs that the attacks are in doubt, from the run's own checks.
        imported: whether another tool made the predictions.
        outcomes: whether the outcomes are published, with these counts.
        readme, page: paths relative to the folder of reports; empty where there is none.
    """

    place: Place
    dataset: str
    selection: str
    fingerprint: str
    class_names: tuple[str, ...]
    attacks: tuple[PublishedAttack, ...]
    sha256: str
    key: str
    architecture: str
    version: str
    training: Training
    scored: CodeState
    flags: tuple[str, ...]
    imported: bool
    weights: bool
    outcomes: bool
    readme: str
    page: str

    @property
    def images(self) -> int:
        """That were scored."""
        return max(each.scores.n for each in self.attacks)
