"""A client of the cluster that was asked for, which is ended with it if it was started for it."""

import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import dask
from distributed import Client
from distributed.comm import get_address_host_port

from sgcldff.cluster.config import ClusterSpec, SchedulerSpec, cluster_of, resized
from sgcldff.cluster.dask_settings import SETTINGS
from sgcldff.cluster.launch import started
from sgcldff.cluster.scheduler import asking
from sgcldff.core.errors import InputError, ServiceError

__all__ = ["Client", "connect"]

CONNECT_TIMEOUT_S = 10.0


@contextmanager
def connect(cluster: str | ClusterSpec | None = None, workers: int | None = None) -> Iterator[Client]:
    """Open a Dask client of a cluster that has at least one worker; what was started for it ends with the block.

    Parameters
    ----------
    cluster
        What `cluster_of` understands, or what it gave: None starts processes on this machine.
    workers
        Workers to start, in place of the spec's; a scheduler that runs already keeps those that it has.

    Raises
    ------
    ServiceError
        If a scheduler does not answer within 10 s, a cluster cannot be started, or no worker comes within the spec's
        patience.
    InputError
        If `cluster` is not understood, a library for its kind is missing, or `workers` is below 1.
    """
    spec = cluster_of(cluster) if cluster is None or isinstance(cluster, str) else cluster
    with _client(spec if workers is None else resized(spec, workers)) as client:
        _await_worker(client, spec)
        yield client


@contextmanager
def _client(spec: ClusterSpec) -> Iterator[Client]:
    if isinstance(spec, SchedulerSpec):
        with _remote(spec.address) as client:
            yield client
        return
    # not `with Client(...)`: it could not be closed in another context than the one that opened it
    with dask.config.set(SETTINGS), started(spec) as cluster, closing(Client(cluster)) as client:
        yield client


def _await_worker(client: Client, spec: ClusterSpec) -> None:
    try:
        with asking(client):
            client.wait_for_workers(1, spec.patience_s)
    except TimeoutError as error:
        raise ServiceError(
            f"no worker joined the Dask scheduler {client.scheduler.address} within {spec.patience_s:.0f} s: look "
            "into the logs of the workers, start some, or raise patience_s in the cluster file"
        ) from error


COMPARED = ("python", "dask", "distributed", "cloudpickle", "msgpack")
"""What has to be of the same version in client, scheduler and workers."""


def versions_at(address: str) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Ask a scheduler that runs for the versions of what all have to have alike.

    Returns
    -------
    tuple
        The client's versions by package; and those of the scheduler and of each worker, by who has them.

    Raises
    ------
    ServiceError, InputError
        As `connect`.
    """
    with _remote(address) as client:
        told = client.get_versions()
    others = {"scheduler": told["scheduler"], **told["workers"]}
    return _compared(told["client"]), {who: _compared(known) for who, known in others.items() if known}


def _compared(told: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(told["packages"].get(name)) for name in COMPARED}


def _remote(address: str) -> Client:
    try:
        _greet(address)
        return Client(address, timeout=CONNECT_TIMEOUT_S)
    except ValueError as error:
        raise InputError(f"{address!r} is no scheduler's address ({error}): write it as tcp://host:8786") from error
    except OSError as error:
        raise ServiceError(
            f"Dask scheduler {address} did not answer within {CONNECT_TIMEOUT_S:.0f} s ({error}): start it with "
            "`dask scheduler`, correct the address, or leave it out for a cluster on this machine"
        ) from error


def _greet(address: str) -> None:
    """See that a scheduler speaks first, within a bound: `Client` waits for ever for a server that says nothing."""
    host, port = get_address_host_port(address, strict=True)
    with socket.create_connection((host, port), CONNECT_TIMEOUT_S) as connection:
        if address.startswith("tcp://") and not connection.recv(1):
            raise ConnectionError("the server closed the connection")
