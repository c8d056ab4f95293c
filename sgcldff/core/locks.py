"""A lock between processes of one machine; the kernel frees it when its holder dies."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from sgcldff.core.errors import ServiceError

POLL_S = 0.02


@contextmanager
def locked(path: str | Path, patience_s: float = 60.0) -> Iterator[None]:
    """Hold a lock file, which is made if needed and stays.

    Raises
    ------
    ServiceError
        If another process holds it for longer than `patience_s` seconds.
    """
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a") as file:
        deadline = time.monotonic() + patience_s
        while not _try(file):
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{place}: another process has held this lock for {patience_s:g} s; end it, then retry"
                )
            time.sleep(POLL_S)
        yield


def _try(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
