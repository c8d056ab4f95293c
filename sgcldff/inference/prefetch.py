"""Items computed ahead in a thread while earlier ones are used."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import replace
from os import getpid
from platform import node
from time import perf_counter
from typing import TypeVar

from sgcldff.core.tally import Tally

Item = TypeVar("Item")

DEPTH = 2
"""Items that lie ready: one that is taken next, and one more for when making one takes longer than usual."""


def prefetched(items: Iterator[Item]) -> Iterator[Item]:
    """Compute items in a thread, up to `DEPTH` ahead; an error is raised in the place of its item.

    The thread has the context of this one, so that its log says what it is about.
    """
    with ThreadPoolExecutor(1, "prefetched") as thread:
        waiting = deque(thread.submit(copy_context().run, _next, items) for _ in range(DEPTH))
        while drawn := waiting.popleft().result():
            waiting.append(thread.submit(copy_context().run, _next, items))
            yield drawn[0]


def _next(items: Iterator[Item]) -> tuple[Item] | None:
    return next(((item,) for item in items), None)


class Stopwatch:
    """Sums the time of stages, s; every stage is timed in one thread only."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Add the time that a block takes to a stage."""
        began = perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + perf_counter() - began


def timed(work: Callable[[], Tally]) -> Tally:
    """Do a worker's task and add who did it, and the time that it took, to its tally."""
    began = perf_counter()
    done = work()
    return replace(done, busy=perf_counter() - began, workers=this_worker())


def this_worker() -> frozenset[str]:
    """Return the name of this process among the workers."""
    return frozenset({f"{node()}:{getpid()}"})
