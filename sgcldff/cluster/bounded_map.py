"""A function over items that are never all known to the scheduler."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from itertools import count, islice
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from distributed import CancelledError, Client, Future, KilledWorker, wait
from distributed.protocol.pickle import dumps, loads

from sgcldff.cluster.scheduler import GONE, asking, workers_of
from sgcldff.core.errors import InputError, ServiceError, TaskLostError

REFRESH_S = 1.0
"""The cluster is asked this often how much it can run at once."""

IN_FLIGHT_PER_THREAD = 3
"""Tasks known to the scheduler for each that runs: enough to bridge what the caller does between two results. With more
than 2 the scheduler holds back those that wait, so that a worker that dies takes only what it was running with it."""

GPU = "GPU"
"""Name of the resource that workers with a GPU offer, as in `dask worker --resources GPU=1`."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def threads(client: Client, resources: Mapping[str, float] | None = None) -> int:
    """Count the tasks with these needs that the cluster runs at once; at least 1, also while workers are to come."""
    return max(1, _room(client, resources))


def gpu_share(client: Client) -> dict[str, float]:
    """Return the resources that a task on a GPU needs: one GPU where a worker offers any, otherwise nothing."""
    return {GPU: 1.0} if any(GPU in offer for offer in _offers(client)) else {}


def _offers(client: Client) -> list[dict[str, float]]:
    return [worker["resources"] for worker in workers_of(client)]


def _room(client: Client, resources: Mapping[str, float] | None) -> int:
    if resources:
        return sum(min(worker["nthreads"], _times(worker["resources"], resources)) for worker in workers_of(client))
    with asking(client):
        return sum(int(number) for number in client.nthreads().values())


def _times(offer: Mapping[str, float], need: Mapping[str, float]) -> int:
    return min(int(offer.get(name, 0) // amount) for name, amount in need.items())


def map_bounded(
    client: Client,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    in_flight: int | None = None,
    resources: Mapping[str, float] | None = None,
    patience_s: float = 60.0,
) -> Iterator[tuple[Item, Result | BaseException]]:
    """Run `function` on `items`, never more than `in_flight` of them known to the scheduler.

    Parameters
    ----------
    in_flight
        None: a few more than the cluster runs at once, also when workers join or leave.
    resources
        What a worker has to offer for each task, such as `{"GPU": 1}`.
    patience_s
        How long there may be no worker that could run the tasks, s.

    Yields
    ------
    tuple
        An item with its result, or with the exception that it ended in, in the order in which they finish. A task
        whose worker dies is run again, and ends in `TaskLostError` when it has taken several workers down.

    Raises
    ------
    ServiceError
        If the scheduler goes away, or no worker can run the tasks.
    InputError
        If `in_flight` is below 1.
    """
    if in_flight is not None and in_flight < 1:
        raise InputError(f"in_flight is {in_flight}: must be at least 1")
    waiting = iter(items)
    room = _Room(client, resources, patience_s)
    tasks = _Tasks(client, function, resources)
    try:
        while True:
            free = (in_flight or IN_FLIGHT_PER_THREAD * room.threads()) - len(tasks.running)
            tasks.submit(list(islice(waiting, max(0, free))))
            if not tasks.running:
                return
            room.check()
            if (ended := tasks.next()) is not None:
                yield ended
    finally:
        tasks.cancel()


class _Room:
    """What the cluster runs at once, as it was lately."""

    def __init__(self, client: Client, resources: Mapping[str, float] | None, patience_s: float) -> None:
        self.client = client
        self.resources = resources
        self.patience_s = patience_s
        self.known = 0
        self.asked = -REFRESH_S
        self.last_seen = time.monotonic()

    def threads(self) -> int:
        self.refresh()
        return max(1, self.known)

    def refresh(self) -> None:
        if time.monotonic() < self.asked + REFRESH_S:
            return
        self.asked = time.monotonic()
        self.known = _room(self.client, self.resources)
        if self.known:
            self.last_seen = self.asked

    def check(self) -> None:
        self.refresh()
        if self.known == 0 and time.monotonic() > self.last_seen + self.patience_s:
            needed = f" that offers {dict(self.resources)}" if self.resources else ""
            raise ServiceError(
                f"for {self.patience_s:.0f} s the Dask cluster had no worker{needed} (workers there: "
                f"{_offers(self.client) or 'none'}): start such workers, as with `dask worker --resources GPU=1`"
            )


class _Tasks(Generic[Item, Result]):
    """Tasks known to the scheduler."""

    def __init__(
        self, client: Client, function: Callable[[Item], Result], resources: Mapping[str, float] | None
    ) -> None:
        self.client = client
        self.function = dumps(function)
        self.resources = dict(resources or {})
        group = f"{getattr(function, '__name__', 'task')}-{uuid.uuid4().hex}"
        self.keys = ((group, number) for number in count())
        self.running: dict[Future, Item] = {}
        self.finished: SimpleQueue[Future] = SimpleQueue()

    def submit(self, items: list[Item]) -> None:
        if not items:
            return
        if self.client.status != "running":
            raise ServiceError(GONE)
        keys = list(islice(self.keys, len(items)))
        call, sealed = partial(_unseal, self.function), [dumps(item) for item in items]
        futures = self.client.map(call, sealed, key=keys, resources=self.resources or None, pure=False)
        for future, item in zip(futures, items, strict=True):
            self.running[future] = item
            future.add_done_callback(self.finished.put)

    def next(self) -> tuple[Item, Result | BaseException] | None:
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


def _unseal(function: bytes, item: bytes) -> Any:
    """Run a task on a worker; until there its parts are sealed, lest the scheduler import all that they need."""
    return loads(function)(loads(item))


def _outcome(future: Future) -> Any:
    while future.status in ("pending", "lost"):  # its worker died after it had finished: it is computed again
        with suppress(CancelledError):
            wait(future)
    if future.status == "finished":
        return future.result()
    if future.status != "error":
        raise ServiceError(GONE)
    exception = future.exception()
    if isinstance(exception, KilledWorker):
        died = exception.allowed_failures + 1
        return TaskLostError(
            f"{died} workers died while they ran the task, most often for want of memory: give each worker more "
            "memory, by fewer workers or in the cluster file"
        )
    return exception
