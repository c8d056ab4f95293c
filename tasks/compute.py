"""Where the work of a stage is spread over processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sgcldff.cluster import Client, connect, gpus_here


@dataclass(frozen=True)
class Compute:
    """Where shards are computed."""

    cluster: str | None = None
    """A scheduler's address, or a cluster file (TOML); None starts a cluster on this machine."""
    workers: int | None = None
    """Workers to start, by default one a GPU, or one a core where there is none; 0 computes in the flow's process."""


@contextmanager
def processes(compute: Compute) -> Iterator[Client | None]:
    """Give a client of the cluster asked for, started if need be for as long as the block runs; None for this process.

    Raises
    ------
    ServiceError, InputError
        As `connect`.
    """
    if compute.workers == 0 and compute.cluster is None:
        yield None
        return
    gpus = len(gpus_here()) if compute.cluster is None else 0
    workers = compute.workers if compute.workers is not None else gpus or None
    with connect(compute.cluster, workers) as client:
        yield client


def address_of(client: Client | None) -> str | None:
    """Give the address under which other clients find the cluster."""
    return str(client.scheduler_info()["address"]) if client else None


def dashboard_of(client: Client | None) -> str | None:
    """Give the address of the cluster's dashboard."""
    return str(client.dashboard_link) if client else None
