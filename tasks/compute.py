"""Where the work of a stage is spread over processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sgcldff.cluster import Client, connect


@dataclass(frozen=True)
class Compute:
    """Where shards are computed."""

    cluster: str | None = None
    """Address of a running Dask scheduler; None starts a cluster on this machine."""
    workers: int | None = None
    """Processes of the local cluster, by default one a core; 0 computes in the flow's own process."""


@contextmanager
def processes(compute: Compute) -> Iterator[Client | None]:
    """Give a client of the cluster asked for, a local one for as long as the block runs; None for this process."""
    if compute.workers == 0 and compute.cluster is None:
        yield None
        return
    with connect(compute.cluster, compute.workers) as client:
        yield client


def address_of(client: Client | None) -> str | None:
    """Give the address under which other clients find the cluster."""
    return str(client.scheduler_info()["address"]) if client else None
