"""Files that appear complete or not at all, and outlast a loss of power once they have appeared."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

DRAFT = ".partial"
"""Ending of the names of unfinished files."""


@contextmanager
def atomic_write(path: str | Path, *, durable: bool = True) -> Iterator[Path]:
    """Yield a path beside `path` for a file or folder, which replaces `path` if the block ends without an error.

    Every writer has a draft of its own: of several at once, the last one wins. A folder cannot replace another one.

    Parameters
    ----------
    durable
        Whether the file outlasts a loss of power; without it nobody waits for the disk.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{uuid4().hex}{DRAFT}")
    try:
        yield draft
        for written in (draft, *draft.rglob("*")) if durable else ():
            sync(written)
        draft.replace(path)
        if durable:
            sync(path.parent)
    finally:
        if draft.is_dir():
            shutil.rmtree(draft)
        draft.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
