"""Dask: a client by address or on this machine, bounded submission, and objects loaded once a worker process.

The only module that imports `dask` or `distributed`.
"""

import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar

import cv2
from distributed import (
    CancelledError,
    Client,
    Future,
    KilledWorker,
    LocalCluster,
    WorkerPlugin,
    as_completed,
    get_worker,
    wait,
)
from distributed.comm import get_address_host_port

from sgcldff.errors import InputError, ServiceError

__all__ = ["Client", "TaskLostError", "connect", "load_once", "loaded", "map_bounded", "threads"]

CONNECT_TIMEOUT_S = 10.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class TaskLostError(ServiceError):
    """A task that took several worker processes down with it, most often for want of memory."""


@contextmanager
def connect(address: str | None = None, workers: int | None = None, threads_per_worker: int = 1) -> Iterator[Client]:
    """Open a Dask client, and a local cluster of processes behind it where no scheduler is named.

    Parameters
    ----------
    address
        A scheduler's address, such as `tcp://host:8786`; None starts a cluster on this machine, whose ports and
        dashboard are on 127.0.0.1 only.
    workers
        Worker processes of a local cluster; None: one a core.

    Raises
    ------
    ServiceError
        If the scheduler does not answer within 10 s.
    InputError
        If `address` is malformed, or `workers` or `threads_per_worker` is below 1.
    """
    if address is not None:
        with _remote(address) as client:
            yield client
        return
    if threads_per_worker < 1 or (workers is not None and workers < 1):
        raise InputError(f"a cluster of {workers} workers with {threads_per_worker} threads: give at least 1 of each")
    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=threads_per_worker,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        client.register_plugin(_SingleThreadedOpenCV())
        yield client


class _SingleThreadedOpenCV(WorkerPlugin):
    """Keeps OpenCV from starting as many threads as there are cores in every worker process."""

    name = "single-threaded-opencv"

    def setup(self, worker: Any) -> None:
        cv2.setNumThreads(1)


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


def threads(client: Client) -> int:
    """Count the tasks that the cluster runs at once; at least 1, also while workers are still to come."""
    return max(1, sum(int(count) for count in client.nthreads().values()))


def map_bounded(
    client: Client, function: Callable[[Item], Result], items: Iterable[Item], in_flight: int
) -> Iterator[tuple[Item, Result | BaseException]]:
    """Run `function` on `items`, never more than `in_flight` of them known to the scheduler.

    Yields
    ------
    tuple
        An item with its result, or with the exception that it ended in, in the order in which they finish. A task
        whose worker dies is run again, and ends in `TaskLostError` when it has taken several workers down.

    Raises
    ------
    ServiceError
        If the scheduler goes away.
    InputError
        If `in_flight` is below 1.
    """
    if in_flight < 1:
        raise InputError(f"in_flight is {in_flight}: give at least 1")
    waiting = iter(items)
    running: dict[Future, Item] = {}
    completed = as_completed()

    def submit(count: int) -> None:
        for item in islice(waiting, count):
            future = client.submit(function, item, pure=False)
            running[future] = item
            completed.add(future)

    try:
        submit(in_flight)
        for future in completed:
            item = running.pop(future)
            outcome = _outcome(future)
            future.release()
            submit(1)
            yield item, outcome
    finally:
        if client.status == "running":
            client.cancel(list(running))


def _outcome(future: Future) -> Any:
    while future.status in ("pending", "lost"):  # its worker died after it had finished: it is computed again
        with suppress(CancelledError):
            wait(future)
    if future.status == "finished":
        return future.result()
    if future.status != "error":
        raise ServiceError("the Dask scheduler is gone or dropped a task: start it again and repeat the command")
    exception = future.exception()
    if isinstance(exception, KilledWorker):
        return TaskLostError(f"{exception}; give workers more memory or fewer threads")
    return exception


class _LoadOnce(WorkerPlugin):
    """Holds a loader on every worker, those that come later included, and loads when a task first asks."""

    def __init__(self, name: str, loader: Callable[[], Any]) -> None:
        self.name = name
        self.loader = loader

    def setup(self, worker: Any) -> None:
        self.lock = threading.Lock()

    def get(self) -> Any:
        with self.lock:
            if not hasattr(self, "value"):
                self.value = self.loader()
            return self.value


def load_once(client: Client, name: str, loader: Callable[[], Any]) -> None:
    """Have `loader` called once in each worker process in which a task asks for `loaded(name)`.

    The loader, not what it loads, travels to the workers; workers that join or are restarted later get it too. Calling
    this again under the same name replaces the loader.
    """
    client.register_plugin(_LoadOnce(name, loader), name=name)


def loaded(name: str) -> Any:
    """Give, inside a task, what the loader registered under `name` made in this worker process.

    Raises
    ------
    InputError
        If nothing was registered under `name`.
    """
    plugin = get_worker().plugins.get(name)
    if not isinstance(plugin, _LoadOnce):
        raise InputError(f"no loader {name!r} on this worker: call load_once(client, {name!r}, loader) first")
    return plugin.get()
