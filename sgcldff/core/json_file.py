"""JSON files that show whether they are intact: one field is a checksum of all others."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sgcldff.core.atomic import atomic_write
from sgcldff.core.boundary import reading
from sgcldff.core.errors import StoreError

CHECKSUM = "sgcldff.sha256"
"""Name of the field."""


def write_json(path: str | Path, content: Mapping[str, Any], indent: int | None = 2) -> Path:
    """Write JSON with its checksum; the file appears whole or not at all."""
    sealed = {**content, CHECKSUM: _checksum(content)}
    with atomic_write(path) as draft:
        draft.write_text(json.dumps(sealed, indent=indent, ensure_ascii=False) + "\n", encoding="utf-8")
    return Path(path)


def read_json(path: str | Path, remedy: str) -> dict[str, Any]:
    """Read what `write_json` wrote; a file of an earlier version, without a checksum, is accepted.

    Parameters
    ----------
    remedy
        What to do about a damaged file, for the message.

    Raises
    ------
    MissingInputError
        If there is no such file.
    StoreError
        If it is damaged.
    """
    with reading(path, "damaged", remedy, StoreError, missing=remedy):
        content: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        sealed = content.pop(CHECKSUM, None)
    if sealed not in (None, _checksum(content)) or any(is_damaged_name(name) for name in content):
        raise StoreError(f"{path}: damaged (it does not match its checksum); {remedy}")
    return content


def is_damaged_name(name: str) -> bool:
    """Return whether a name is that of the checksum but for one character: a flipped bit would unseal the file."""
    return len(name) == len(CHECKSUM) and sum(a != b for a, b in zip(name, CHECKSUM, strict=True)) == 1


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
