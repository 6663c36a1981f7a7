"""Where data sets are looked for, and the message when they are missing."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from ferd_eval.datasets.info import DatasetInfo, Layout, PublicDataset, Split
from ferd_eval.errors import UserError, message_of

ENVIRONMENT = "FERD_DATA"


@dataclass(frozen=True)
class DataFolder:
    """The one folder below which data sets are looked for, and who named it."""

    path: Path
    named_by: str

    @classmethod
    def choose(cls, data_dir: Path | str | None) -> DataFolder:
        """Take ``--data-dir``, else the environment's ``FERD_DATA``, else ``./data``."""
        if data_dir is not None:
            return cls(Path(data_dir).expanduser(), "--data-dir")
        if os.environ.get(ENVIRONMENT):
            return cls(Path(os.environ[ENVIRONMENT]).expanduser(), ENVIRONMENT)
        return cls(Path("data"), f"the default, as neither --data-dir nor {ENVIRONMENT} is given")

    def places(self, info: PublicDataset) -> Iterator[tuple[Path, Layout]]:
        """Every folder in which the data set may lie, with its layout, in the order of looking."""
        for root in (self.path, self.path / info.name):
            for layout in info.layouts:
                for subfolder in layout.subfolders:
                    yield root / subfolder, layout

    def find(self, info: PublicDataset, split: Split) -> tuple[Path, Layout] | None:
        """The first folder that holds files of the split, and their layout."""
        return next((at for at in self.places(info) if at[1].holds(at[0], split)), None)

    def missing(
        self, info: PublicDataset, split: Split, public: Sequence[PublicDataset]
    ) -> UserError:
        """Say what was looked for, where, what lies there instead, and what to type.

        `public` holds all sets that might lie there instead, this one too.
        """
        names = " or ".join(
            dict.fromkeys(_first_and_last(layout.files(split)) for layout in info.layouts)
        )
        if self.path.is_dir():
            places = ", ".join(dict.fromkeys(str(place) for place, _ in self.places(info)))
            looked = f"looked for {names} in {places}"
        else:
            looked = f"folder {self.path.absolute()} ({self.named_by}) does not exist"
        return UserError(
            f"no {info.name} {split} files: {looked}. "
            f"{self._found_instead(info, split, public)}{_how_to_get(info)}"
        )

    def _found_instead(
        self, info: PublicDataset, split: Split, public: Sequence[PublicDataset]
    ) -> str:
        other_split: Split = "train" if split == "test" else "test"
        if found := self.find(info, other_split):
            return (
                f"{found[0]} has only the {other_split} files: put the {split} ones beside them. "
            )
        for root in (self.path, self.path / info.name):
            for archive in info.archives:
                if (root / archive).is_file():
                    return f"{root / archive} is there but packed: unpack it in {root}. "
        others: dict[Path, list[str]] = {}
        for other in public:
            if other.name != info.name and (found := self.find(other, split)):
                others.setdefault(found[0], []).append(other.name)
        if not others:
            return ""
        place, names = next(iter(others.items()))
        return f"{place} holds {' or '.join(names)}: is --dataset {names[0]} meant? "


def _how_to_get(info: DatasetInfo) -> str:
    if info.downloader:
        return "Point --data-dir DIR at the files, or add --download."
    return f"Point --data-dir DIR at the files, or get {info.url} and unpack it into DIR."


def _first_and_last(files: Sequence[str]) -> str:
    return files[0] if len(files) <= 2 else f"{files[0]} to {files[-1]}"


def download_dataset(info: DatasetInfo, folder: Path, split: Split) -> None:
    """Fetch a data set into ``folder``, in the layout torchvision gives it.

    torchvision checks the MD5 of what it fetched before it unpacks anything. UserError: the set has
    no downloader, torchvision is missing, or the fetching failed.
    """
    if not info.downloader:
        raise UserError(
            f"--download cannot fetch {info.name}: get {info.url or 'its files'} by hand, "
            f"unpack it into {folder}, and run again."
        )
    try:
        import torchvision.datasets as source
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"--download needs torchvision, which does not import here ({message_of(error)}): "
            f"install a torchvision that matches your torch, or unpack {info.url} into {folder}."
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # torchvision prints; what this tool puts on standard output is its report.
        with redirect_stdout(sys.stderr):
            which = {"split": split} if info.download_by_split else {"train": split == "train"}
            getattr(source, info.downloader)(root=str(folder), download=True, **which)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise UserError(
            f"could not download {info.name} into {folder} ({message_of(error)}): check the "
            f"connection and the folder, or unpack {info.url} there by hand."
        ) from error
