"""``SHA256SUMS`` of a run's folder: the digests of its files as they were when they were written.

The format is that of GNU coreutils, so ``sha256sum -c SHA256SUMS`` checks a folder without us. It
is removed before files of the folder are written and made anew after the last: a run that was
killed in between has none, never a wrong one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from ferd_eval._version import __version__
from ferd_eval.errors import UserError, listed
from ferd_eval.io.files import file_sha256, write_atomically
from ferd_eval.results.manifest import RECORD, code_state
from ferd_eval.results.outcomes import SUMS
from ferd_eval.results.run_folder import OWN_FILES

_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")

#: Longest list that is read: that of a thousand attacks with saved images.
_MOST_BYTES = 1_000_000


def writer() -> str:
    """What writes files here: ``ferd-eval 0.1.0``, with the commit in a checkout."""
    code = code_state() or {}
    commit = f" {code['commit']}{' with changes' if code['dirty'] else ''}" if code else ""
    return f"ferd-eval {__version__}{commit}"


@dataclass(frozen=True)
class Sums:
    """A ``SHA256SUMS``.

    Attributes:
        writer: what wrote the files, "" where it does not say.
        by_name: file, as seen from the folder → SHA-256.
    """

    writer: str
    by_name: Mapping[str, str]

    @classmethod
    def read(cls, folder: Path) -> Sums | None:
        """That of a folder, None where there is none.

        Raises:
            UserError: it cannot be read as one, or names a file outside the folder.
        """
        file = folder / SUMS
        again = f"Write it again with ferd-eval report {folder}."
        try:
            if not file.exists():
                return None
            with file.open("rb") as stream:
                lines = stream.read(_MOST_BYTES).decode().splitlines()
        except (OSError, UnicodeDecodeError) as reason:
            raise UserError(f"{file} cannot be read: {reason}. {again}") from reason
        said = [line.removeprefix("# ") for line in lines[:1] if line.startswith("# ")]
        by_name = {}
        for line in lines[len(said) :]:
            found = _LINE.fullmatch(line)
            if found is None or not _is_own(found[2]):
                raise UserError(f"{file}: {line[:80]!r} is no line of digests of a run. {again}")
            by_name[found[2]] = found[1]
        return cls("".join(said), by_name)

    def altered(self, folder: Path) -> dict[str, str | None]:
        """Files that are others now: name → SHA-256 found, None where the file is missing."""
        found = {name: _sha256(folder / name) for name in self.by_name}
        return {name: digest for name, digest in found.items() if digest != self.by_name[name]}


def digests(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """File of a run, as seen from its folder → SHA-256, in the order of their names.

    Those in `known` are not read again: saved images may be large.
    """
    names = [each.name for each in folder.glob("*")]
    names += [f"adversarial/{each.name}" for each in (folder / "adversarial").glob("*")]
    mine = sorted(name for name in names if _is_own(name) and (folder / name).is_file())
    return {name: known.get(name) or file_sha256(folder / name) for name in mine}


def write_sums(folder: Path, known: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write ``SHA256SUMS`` over the files of a run, or of a report over several.

    Args:
        known: digests worked out a moment ago of files that have not changed since.

    Raises:
        UserError: it cannot be written.
    """
    found = digests(folder, known)
    lines = [f"# {writer()}", *(f"{digest}  {name}" for name, digest in found.items())]
    write_atomically(folder / SUMS, ("\n".join(lines) + "\n").encode())


def require_unaltered(folder: Path) -> None:
    """Refuse a run, one of whose files was edited after it was written.

    A folder without ``SHA256SUMS``, of an earlier version, passes; so does a file that is missing,
    and saved images are left to ``ferd-eval verify``.

    Raises:
        UserError: names the files.
    """
    sums = Sums.read(folder)
    if sums is None:
        return
    beside = {name: digest for name, digest in sums.by_name.items() if "/" not in name}
    found = Sums(sums.writer, beside).altered(folder)
    if edited := [name for name, digest in found.items() if digest is not None]:
        raise UserError(
            f"{folder}: {listed(edited)} changed after {SUMS} was written. See ferd-eval verify "
            f"{folder}; ferd-eval report {folder} writes the reports again from the outcomes."
        )


def _is_own(name: str) -> bool:
    """Whether a run writes files of this name; no other folder can be reached by it."""
    return bool(
        name == RECORD
        or re.fullmatch(r"adversarial/[^/\\\n.][^/\\\n]*\.npz", name)
        or ("." in name and not name.startswith(SUMS) and OWN_FILES.fullmatch(name))
    )


def _sha256(file: Path) -> str | None:
    try:
        return file_sha256(file)
    except FileNotFoundError:
        return None
    except OSError as reason:
        raise UserError(f"{file} cannot be read: {reason.strerror}. Mend that first.") from reason
