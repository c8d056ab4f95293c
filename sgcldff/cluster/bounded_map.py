"""A parallel map that submits only a limited number of items to the scheduler at a time."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import count, islice
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from distributed import CancelledError, Client, Future, KilledWorker
from distributed.protocol.pickle import dumps, loads

from sgcldff.cluster.scheduler import GONE, scheduler_errors, workers_of
from sgcldff.core.errors import InputError, ServiceError, TaskLostError

REFRESH_S = 1.0
"""Interval at which the capacity of the cluster is updated, s."""

IN_FLIGHT_PER_THREAD = 3
"""Submitted tasks per running task: enough to keep workers busy while the caller handles a result. With more than 2 the
scheduler holds back waiting tasks, so that a worker that dies only affects those that it was running."""

GPU = "GPU"
"""Name of the resource that workers with a GPU offer, as in `dask worker --resources GPU=1`."""

T = TypeVar("T")
R = TypeVar("R")


def threads(client: Client, resources: Mapping[str, float] | None = None) -> int:
    """Return how many tasks that need `resources` the cluster runs at once; at least 1, even without workers yet."""
    return max(1, _capacity(client, resources))


def gpu_share(client: Client) -> dict[str, float]:
    """Return the resources that a task on a GPU needs: one GPU if any worker offers one, otherwise nothing."""
    return {GPU: 1.0} if any(GPU in offer for offer in _offers(client)) else {}


def _offers(client: Client) -> list[dict[str, float]]:
    return [worker["resources"] for worker in workers_of(client)]


def _capacity(client: Client, resources: Mapping[str, float] | None) -> int:
    if not resources:
        with scheduler_errors(client):
            return sum(int(number) for number in client.nthreads().values())

    def fits(worker: Mapping[str, Any]) -> int:
        offered = worker["resources"]
        shares = (int(offered.get(name, 0) // amount) for name, amount in resources.items())
        return min(int(worker["nthreads"]), *shares)

    return sum(fits(worker) for worker in workers_of(client))


def map_bounded(
    client: Client,
    function: Callable[[T], R],
    items: Iterable[T],
    in_flight: int | None = None,
    resources: Mapping[str, float] | None = None,
    patience_s: float = 60.0,
) -> Iterator[tuple[T, R | BaseException]]:
    """Run `function` on `items`, with at most `in_flight` of them submitted to the scheduler at a time.

    Parameters
    ----------
    in_flight
        None: a few more than the cluster runs at once, following workers that join or leave.
    resources
        What a worker must offer for each task, such as `{"GPU": 1}`.
    patience_s
        How long there may be no worker that can run the tasks, s.

    Yields
    ------
    tuple
        An item with its result, or with its exception, in order of completion. A task whose worker dies is run again,
        and ends in `TaskLostError` once it has crashed several workers.

    Raises
    ------
    ServiceError
        If the scheduler is gone, or no worker can run the tasks.
    InputError
        If `in_flight` is below 1.
    """
    if in_flight is not None and in_flight < 1:
        raise InputError(f"in_flight is {in_flight}: must be at least 1")
    waiting = iter(items)
    capacity = _Capacity(client, resources, patience_s)
    tasks = _Tasks(client, function, resources)
    try:
        while True:
            free = (in_flight or IN_FLIGHT_PER_THREAD * capacity.threads()) - len(tasks.running)
            tasks.submit(list(islice(waiting, max(0, free))))
            if not tasks.running:
                return
            capacity.check()
            if (finished := tasks.next()) is not None:
                yield finished
    finally:
        tasks.cancel()


class _Capacity:
    """The number of tasks that the cluster runs at once, updated regularly."""

    def __init__(self, client: Client, resources: Mapping[str, float] | None, patience_s: float) -> None:
        self.client = client
        self.resources = resources
        self.patience_s = patience_s
        self.slots = 0
        self.refreshed = -REFRESH_S
        self.last_available = time.monotonic()

    def threads(self) -> int:
        self.refresh()
        return max(1, self.slots)

    def refresh(self) -> None:
        if time.monotonic() < self.refreshed + REFRESH_S:
            return
        self.refreshed = time.monotonic()
        self.slots = _capacity(self.client, self.resources)
        if self.slots:
            self.last_available = self.refreshed

    def check(self) -> None:
        self.refresh()
        if self.slots == 0 and time.monotonic() > self.last_available + self.patience_s:
            needed = f" that offers {dict(self.resources)}" if self.resources else ""
            raise ServiceError(
                f"for {self.patience_s:.0f} s the Dask cluster had no worker{needed} (workers there: "
                f"{_offers(self.client) or 'none'}): start such workers, for example with `dask worker --resources "
                "GPU=1`"
            )


class _Tasks(Generic[T, R]):
    """Tasks submitted to the scheduler."""

    def __init__(self, client: Client, function: Callable[[T], R], resources: Mapping[str, float] | None) -> None:
        self.client = client
        self.function = dumps(function)
        self.resources = dict(resources or {})
        group = f"{getattr(function, '__name__', 'task')}-{uuid.uuid4().hex}"
        self.keys = ((group, number) for number in count())
        self.running: dict[Future, T] = {}
        self.finished: SimpleQueue[Future] = SimpleQueue()

    def submit(self, items: list[T]) -> None:
        if not items:
            return
        if self.client.status != "running":
            raise ServiceError(GONE)
        keys = list(islice(self.keys, len(items)))
        call, pickled = partial(_unpickle_and_call, self.function), [dumps(item) for item in items]
        futures = self.client.map(call, pickled, key=keys, resources=self.resources or None, pure=False)
        for future, item in zip(futures, items, strict=True):
            self.running[future] = item
            future.add_done_callback(self.finished.put)

    def next(self) -> tuple[T, R | BaseException] | None:
        try:
            future = self.finished.get(timeout=REFRESH_S)
        except Empty:
            return None
        item = self.running.pop(future)
        outcome = _outcome(future)
        future.release()
        return item, outcome

    def cancel(self) -> None:
        if self.client.status == "running":
            self.client.cancel(list(self.running))


def _unpickle_and_call(function: bytes, item: bytes) -> Any:
    """Run a task on a worker; it stays pickled until then, so that the scheduler need not import its modules."""
    return loads(function)(loads(item))


def _outcome(future: Future) -> Any:
    while future.status in ("pending", "lost"):  # its worker died after finishing it: it is computed again
        with suppress(CancelledError):
            future.exception()
    if future.status == "finished":
        try:
            return future.result()
        except OSError as error:  # not the task's own: its result was on the way
            raise ServiceError(GONE) from error
    if future.status != "error":
        raise ServiceError(GONE)
    exception = future.exception()
    if isinstance(exception, KilledWorker):
        died = exception.allowed_failures + 1
        return TaskLostError(
            f"{died} workers died while they ran the task, most often for lack of memory: give each worker more "
            "memory, by fewer workers or in the cluster file"
        )
    return exception
