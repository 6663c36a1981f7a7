"""Records in JSON that tell whether they are as they were written.

A file that is torn is no JSON any more; one with a flipped digit is, and says something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ferd_eval.errors import UserError
from ferd_eval.output import to_json

#: The entry that holds the digest of all others.
SEAL = "seal"


def sealed(record: Mapping[str, Any]) -> bytes:
    """The record as JSON, with its digest at the end."""
    return to_json({**record, SEAL: _digest(record)}).encode()


def unsealed(value: Any, file: Path) -> Any:
    """What `sealed` was given, from what is read of the file; anything without a seal as it is.

    Raises:
        UserError: it is no longer what was sealed.
    """
    if not isinstance(value, dict) or SEAL not in value:
        return value
    record = {key: entry for key, entry in value.items() if key != SEAL}
    if value[SEAL] != _digest(record):
        raise UserError(
            f"{file} is not as it was written: damaged, or edited. Restore it, or remove the "
            f'folder and run the command again; after an edit that was meant, remove its "{SEAL}".'
        )
    return record


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(to_json(record).encode()).hexdigest()
