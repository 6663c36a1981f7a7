"""One network under one evaluation, as a published folder holds it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from ferd_eval.report.published.counts import ClassCounts

_SEED = re.compile(r"seed[-_]?(\d+)", re.IGNORECASE)

#: What a study calls the folder of a teacher's own evaluations.
_TEACHER = "teacher"

#: What it calls the folder of a training run.
_RUN = "run"


@dataclass(frozen=True)
class Place:
    """What the path of a scorecard says; all paths are seen from the folder of reports.

    Attributes:
        file: of the scorecard.
    """

    file: PurePosixPath

    @property
    def report(self) -> str:
        """The published report that it belongs to: the first folder."""
        return self.file.parts[0]

    @property
    def network(self) -> PurePosixPath:
        """The folder of all that belongs to this network."""
        parts = self.file.parent.parts
        seeds = [i for i, part in enumerate(parts) if _SEED.fullmatch(part)]
        if seeds:
            return PurePosixPath(*parts[: seeds[-1] + 1])
        if _TEACHER in parts[1:]:
            return PurePosixPath(*parts[: parts.index(_TEACHER, 1) + 1])
        return self.file.parent

    @property
    def method(self) -> str:
        """The network's folder without its seed: what it shares with those of other seeds."""
        parts = [part for part in self.network.parts if not _SEED.fullmatch(part)]
        return "/".join(parts)

    @property
    def training(self) -> tuple[PurePosixPath, ...]:
        """Where the record of its training, and the network itself, may lie."""
        beside = [self.file.parent.parent / _RUN] if len(self.file.parts) > 2 else []
        return tuple(dict.fromkeys([self.network / _RUN, self.network, *beside]))

    @property
    def evaluation(self) -> str:
        """What is below the network's folder, such as ``full``; empty where nothing is."""
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
    """Which code did something, and when; empty where nobody recorded it.

    Attributes:
        day: ISO date.
        dirty: whether the code had changes beside the commit.
    """

    commit: str = ""
    dirty: bool = False
    day: str = ""

    def __str__(self) -> str:
        state = self.commit[:10] + (" with changes" if self.dirty else "")
        return ", ".join(part for part in (self.day, state) if part) or "–"


@dataclass(frozen=True)
class Training:
    """What the network's own record says of its training; None and empty where nobody did.

    Attributes:
        recipe: how students were taught, in few words.
        constants: digest of the whole recipe but its seed: one method has one.
        real_images: whether it learned from images of a data set.
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
    """A scorecard with what is recorded beside it.

    Attributes:
        key: which network of the file it is; empty where there is one.
        weights: whether the checkpoint itself is published; its digest was then checked.
        flags: signs that the attacks are in doubt, from the run's own checks.
        imported: whether another tool made the predictions.
        outcomes: whether the outcomes are published; the counts were then made again from them.
        readme, page: paths, seen from the folder of reports; empty where there is none.
    """

    place: Place
    dataset: str
    selection: str
    fingerprint: str
    class_names: tuple[str, ...]
    attacks: tuple[ClassCounts, ...]
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
        return max(each.n for each in self.attacks)
