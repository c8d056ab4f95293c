"""Worker processes that share the work of a stage."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sgcldff.cluster import Client, SchedulerSpec


@dataclass(frozen=True)
class Compute:
    """Where shards are computed."""

    cluster: str | None = None
    """A scheduler's address, or a cluster file (TOML); None starts a cluster on this machine."""
    workers: int | None = None
    """Workers to start: by default one per GPU, or one per core without GPUs, and none for work of seconds; 0 computes
    in the flow's process."""


class Workers:
    """Workers of a batch: those of a cluster, or processes on this machine that are started on demand."""

    def __init__(self, compute: Compute, *, here: bool, announce: Callable[[str], None] | None = None) -> None:
        self._compute, self._announce = compute, announce
        self._opened, self._lock = ExitStack(), Lock()
        self._client: Client | None = None
        self.here = compute.cluster is None and (compute.workers == 0 or (compute.workers is None and here))
        """Whether this process computes."""
        self.elsewhere = compute.cluster is not None
        """Whether the workers may be on other machines."""

    def client(self) -> "Client":
        """Return a client of the workers, which are started on the first call.

        Raises
        ------
        ServiceError, InputError
            As `sgcldff.cluster.connect`.
        """
        from sgcldff.cluster import SchedulerSpec, connect, gpus_here

        with self._lock:
            if self._client is None:
                gpus = len(gpus_here()) if self._compute.cluster is None else 0
                workers = self._compute.workers if self._compute.workers is not None else gpus or None
                self._client = self._opened.enter_context(connect(self._compute.cluster, workers))
                self._scheduler = SchedulerSpec(self._client.scheduler.address, security=self._client.security)
                if self._announce is not None:
                    self._announce(str(self._client.dashboard_link))
            return self._client

    def scheduler(self) -> "SchedulerSpec":
        """Return how other clients find the workers, even while they do not answer.

        Raises
        ------
        ServiceError, InputError
            As `client`.
        """
        self.client()
        return self._scheduler

    def close(self) -> None:
        """Stop the workers that were started."""
        self._opened.close()


@contextmanager
def workers(compute: Compute, *, here: bool, announce: Callable[[str], None] | None = None) -> Iterator[Workers]:
    """Provide the workers of a batch while the block runs.

    Parameters
    ----------
    here
        Compute in this process unless workers or a cluster are requested, since the work is not worth their start.
    announce
        Called with the address of the dashboard once there are workers.

    Raises
    ------
    ServiceError, InputError
        If the requested cluster is not available.
    """
    pool = Workers(compute, here=here, announce=announce)
    try:
        if compute.cluster is not None:
            pool.client()
        yield pool
    finally:
        pool.close()
