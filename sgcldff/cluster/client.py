"""Clients of clusters; a cluster that was started for a client is closed with it."""

import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import dask
from distributed import Client
from distributed.comm import get_address_host_port

from sgcldff.cluster.config import ClusterSpec, SchedulerSpec, cluster_of, resized
from sgcldff.cluster.dask_settings import SETTINGS
from sgcldff.cluster.launch import restored_environment, start_cluster
from sgcldff.cluster.scheduler import scheduler_errors
from sgcldff.core.errors import InputError, ServiceError

__all__ = ["Client", "connect"]

CONNECT_TIMEOUT_S = 10.0

logger = logging.getLogger(__name__)


@contextmanager
def connect(cluster: str | ClusterSpec | None = None, workers: int | None = None) -> Iterator[Client]:
    """Open a Dask client of a cluster with at least one worker; a cluster started for it is closed after the block.

    The client is not Dask's default: the caller's own Dask arrays are computed where they were before.

    Parameters
    ----------
    cluster
        A spec, or a text for `cluster_of`: None starts processes on this machine.
    workers
        Number of workers to start, instead of the spec's; a running scheduler keeps its workers.

    Raises
    ------
    ServiceError
        If a scheduler does not answer within 10 s, a cluster cannot be started, or no worker joins within the spec's
        patience.
    InputError
        If `cluster` is invalid, a library for its kind is missing, or `workers` is below 1.
    """
    spec = cluster_of(cluster) if cluster is None or isinstance(cluster, str) else cluster
    with _client(spec if workers is None else resized(spec, workers)) as client:
        _await_worker(client, spec)
        yield client


@contextmanager
def _client(spec: ClusterSpec) -> Iterator[Client]:
    if isinstance(spec, SchedulerSpec):
        with _remote(spec) as client:
            yield client
        return
    # not `with Client(...)`, which must be closed in the context that opened it
    with (
        dask.config.set(SETTINGS),
        restored_environment(),
        start_cluster(spec) as cluster,
        closing(Client(cluster, set_as_default=False)) as client,
    ):
        yield client


def _await_worker(client: Client, spec: ClusterSpec) -> None:
    try:
        with scheduler_errors(client):
            client.wait_for_workers(1, spec.patience_s)
    except TimeoutError as error:
        raise ServiceError(
            f"no worker joined the Dask scheduler {client.scheduler.address} within {spec.patience_s:.0f} s: check the "
            "logs of the workers, start some, or increase patience_s in the cluster file"
        ) from error


COMPARED = ("python", "dask", "distributed", "cloudpickle", "msgpack")
"""Packages whose versions must agree between client, scheduler and workers."""


def versions_at(address: str) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return the versions of `COMPARED` of a running cluster.

    Returns
    -------
    tuple
        The client's versions by package; and those of the scheduler and of each worker, by process.

    Raises
    ------
    ServiceError, InputError
        As for `connect`.
    """
    with _remote(SchedulerSpec(address)) as client:
        versions = client.get_versions()
    others = {"scheduler": versions["scheduler"], **versions["workers"]}
    return _compared(versions["client"]), {name: _compared(process) for name, process in others.items() if process}


def _compared(process: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(process["packages"].get(name)) for name in COMPARED}


def _remote(spec: SchedulerSpec) -> Client:
    address = spec.address
    if spec.security is None and not address.startswith("tls://"):
        logger.warning(
            "the Dask scheduler %s does not use TLS: whoever reaches its port can run code as its user; start it with "
            "--tls-ca-file, --tls-cert and --tls-key, or let nobody else reach it",
            address,
        )
    try:
        _check_answer(address)
        return Client(address, timeout=CONNECT_TIMEOUT_S, security=spec.security, set_as_default=False)
    except TypeError as error:
        raise InputError(
            f"the Dask scheduler {address} uses TLS, but no certificates are configured ({error}): set "
            "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, ...__CLIENT__CERT and ...__CLIENT__KEY"
        ) from error
    except ValueError as error:
        raise InputError(f"{address!r} is not a scheduler's address ({error}): write tcp://host:8786") from error
    except OSError as error:
        raise ServiceError(
            f"Dask scheduler {address} did not answer within {CONNECT_TIMEOUT_S:.0f} s ({error}): start it with "
            "`dask scheduler`, correct the address, or leave it out for a cluster on this machine"
        ) from error


def _check_answer(address: str) -> None:
    """Check that a scheduler sends something within the time limit; `Client` waits forever for a silent server."""
    host, port = get_address_host_port(address, strict=True)
    with socket.create_connection((host, port), CONNECT_TIMEOUT_S) as connection:
        if address.startswith("tcp://") and not connection.recv(1):
            raise ConnectionError("the server closed the connection")
