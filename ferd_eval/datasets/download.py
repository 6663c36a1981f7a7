"""Fetching of public data sets, by torchvision's own downloaders."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path

from ferd_eval.datasets.dataset_info import DatasetInfo, Split
from ferd_eval.errors import UserError


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
