"""Figures for Prometheus, served on this machine while a command runs, if a port is given.

They count what this process has done: nothing of former runs, whose shards are found finished.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Summary, disable_created_metrics, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from sgcldff.core.errors import InputError
from sgcldff.core.settings import require
from sgcldff.core.tally import Tally
from tasks.progress import Standing

PORT = "SGCLDFF_METRICS_PORT"
"""Environment variable that names the port."""
LOOPBACK = "127.0.0.1"
RANK = "LOCAL_RANK"
"""Set in the processes that a training on several GPUs starts of itself: only the first serves."""

disable_created_metrics()

REGISTRY = CollectorRegistry()
STAGE_S = Summary("sgcldff_stage_duration_seconds", "Time that stages took.", ["stage", "outcome"], registry=REGISTRY)
TILES = Counter("sgcldff_tiles", "Tiles that were read, or skipped by the gate.", ["outcome"], registry=REGISTRY)
CELLS = Counter("sgcldff_cells", "Cells found, by type.", ["type"], registry=REGISTRY)
PASSES = Counter("sgcldff_shard_passes", "Passes over shards; a shard is done after two.", registry=REGISTRY)
WORK_S = Counter(
    "sgcldff_work_seconds", "Time spent on slides by kind of work, summed over workers.", ["work"], registry=REGISTRY
)
EPOCH = Gauge("sgcldff_training_epoch", "Epoch of the training, the first being 0.", registry=REGISTRY)
LOSS = Gauge("sgcldff_training_loss", "Loss of the training, last logged, by term.", ["term"], registry=REGISTRY)
VALIDATION = Gauge(
    "sgcldff_validation_score", "Figures of the validation split after the last epoch.", ["measure"], registry=REGISTRY
)


class Slides(Collector):
    """Slides of a batch by state, asked of the batch when the figures are."""

    def __init__(self, standing: Callable[[], Standing]) -> None:
        self.standing = standing

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Give the slides that are done, set aside, running and waiting."""
        now = self.standing()
        counts = {"done": now.done, "set_aside": now.set_aside, "running": len(now.running)}
        family = GaugeMetricFamily("sgcldff_slides", "Slides of the batch, by state.", labels=["state"])
        for state, count in (counts | {"waiting": now.slides - sum(counts.values())}).items():
            family.add_metric([state], count)
        yield family


@contextmanager
def slides_counted(standing: Callable[[], Standing]) -> Iterator[None]:
    """Tell the slides of a batch while the block runs."""
    slides = Slides(standing)
    REGISTRY.register(slides)
    try:
        yield
    finally:
        REGISTRY.unregister(slides)


def count(tally: Tally) -> None:
    """Count what a pass over a shard has done."""
    PASSES.inc(tally.passes)
    TILES.labels("read").inc(tally.tiles)
    TILES.labels("skipped").inc(tally.skipped)
    for label, number in tally.cells.items():
        CELLS.labels(label).inc(number)
    for work, seconds in tally.seconds.items():
        WORK_S.labels(work).inc(seconds)


def serve_as_asked() -> None:
    """Serve the figures if `SGCLDFF_METRICS_PORT` names a port; again changes nothing.

    Raises
    ------
    InputError
        If the port is taken, or none.
    """
    told = os.environ.get(PORT)
    if told and os.environ.get(RANK, "0") == "0":
        require(told.isdecimal() and 0 < int(told) < 65536, f"{PORT} is {told!r}: give a port, 1 to 65535")
        serve(int(told))


@cache
def serve(port: int) -> None:
    """Serve the figures on a port of this machine until the process ends.

    Raises
    ------
    InputError
        If the port is taken.
    """
    try:
        start_http_server(port, LOOPBACK, REGISTRY)
    except OSError as error:
        raise InputError(
            f"port {port} of {LOOPBACK} cannot be had for the metrics ({error.strerror}): end what listens there, or "
            f"name another with --metrics-port or {PORT}"
        ) from error
