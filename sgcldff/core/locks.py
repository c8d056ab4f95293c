"""A lock between processes of one machine; the kernel releases it when its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from sgcldff.core.errors import ServiceError

POLL_S = 0.02


@contextmanager
def locked(path: str | Path, patience_s: float = 60.0) -> Iterator[None]:
    """Hold a lock file, which is created if needed and stays.

    Raises
    ------
    ServiceError
        If another process holds it for longer than `patience_s` seconds.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(path, timeout=patience_s, poll_interval=POLL_S).acquire()
    except Timeout:
        raise ServiceError(
            f"{path}: another process has held this lock for {patience_s:g} s; end it, then retry"
        ) from None
    with held:
        yield
