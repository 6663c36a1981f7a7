"""Where data sets are looked for, and what to say when they are not there."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from ferd_eval.datasets.info import DatasetInfo, Layout, Split
from ferd_eval.errors import UserError

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

    def places(self, name: str, layouts: Sequence[Layout]) -> list[Path]:
        """Every folder in which data set ``name`` may lie, each once, in the order of looking."""
        return list(
            dict.fromkeys(
                root / subfolder
                for root in (self.path, self.path / name)
                for layout in layouts
                for subfolder in layout.subfolders
            )
        )

    def find(
        self, name: str, layouts: Sequence[Layout], split: Split
    ) -> tuple[Path, Layout] | None:
        """Return the first folder that holds files of the split, and their layout."""
        for root in (self.path, self.path / name):
            for layout in layouts:
                for subfolder in layout.subfolders:
                    if layout.holds(root / subfolder, split):
                        return root / subfolder, layout
        return None

    def missing(
        self,
        info: DatasetInfo,
        split: Split,
        known: Mapping[str, Sequence[Layout]],
        archives: Sequence[str],
    ) -> UserError:
        """Say what was looked for, where, what lies there instead, and what to type.

        Args:
            info: the set that is missing.
            split: the split that is missing.
            known: the layouts of every public set, this one's too, by name.
            archives: file names of the set as it is before unpacking.
        """
        layouts = known[info.name]
        names = " or ".join(
            dict.fromkeys(_first_and_last(layout.files(split)) for layout in layouts)
        )
        if self.path.is_dir():
            places = ", ".join(str(place) for place in self.places(info.name, layouts))
            looked = f"looked for {names} in {places}"
        else:
            looked = f"folder {self.path.absolute()} ({self.named_by}) does not exist"
        return UserError(
            f"no {info.name} {split} files: {looked}. "
            f"{self._found_instead(info, split, known, archives)}{_how_to_get(info)}"
        )

    def _found_instead(
        self,
        info: DatasetInfo,
        split: Split,
        known: Mapping[str, Sequence[Layout]],
        archives: Sequence[str],
    ) -> str:
        other_split: Split = "train" if split == "test" else "test"
        if found := self.find(info.name, known[info.name], other_split):
            return (
                f"{found[0]} has only the {other_split} files: put the {split} ones beside them. "
            )
        for root in (self.path, self.path / info.name):
            for archive in archives:
                if (root / archive).is_file():
                    return f"{root / archive} is there but packed: unpack it in {root}. "
        others: dict[Path, list[str]] = {}
        for other, layouts in known.items():
            if other != info.name and (found := self.find(other, layouts, split)):
                others.setdefault(found[0], []).append(other)
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

    torchvision checks the MD5 of what it fetched before it unpacks anything.

    Raises:
        UserError: the set has no downloader, torchvision is missing, or the fetching failed.
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
            f"--download needs torchvision, which does not import here ({_one_line(error)}): "
            f"install a torchvision that matches your torch, or unpack {info.url} into {folder}."
        ) from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # torchvision prints; what this tool puts on standard output is its report.
        with redirect_stdout(sys.stderr):
            getattr(source, info.downloader)(
                root=str(folder), train=split == "train", download=True
            )
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise UserError(
            f"could not download {info.name} into {folder} ({_one_line(error)}): check the "
            f"connection and the folder, or unpack {info.url} there by hand."
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
