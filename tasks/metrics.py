"""Prometheus metrics, served on this machine while a command runs, if a port is given.

They count the work of this process only, not that of earlier runs.
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
from tasks.progress import BatchStatus

PORT = "SGCLDFF_METRICS_PORT"
"""Environment variable with the port."""
LOOPBACK = "127.0.0.1"
RANK = "LOCAL_RANK"
"""Set in the processes that a training on several GPUs starts: only the first serves metrics."""

disable_created_metrics()  # type: ignore[no-untyped-call]

COLLECTORS = CollectorRegistry()
STAGE_S = Summary("sgcldff_stage_duration_seconds", "Duration of stages.", ["stage", "outcome"], registry=COLLECTORS)
TILE_COUNTER = Counter(
    "sgcldff_tiles", "Tiles that were read, or skipped by the gate.", ["outcome"], registry=COLLECTORS
)
CELL_COUNTER = Counter("sgcldff_cells", "Cells found, by type.", ["type"], registry=COLLECTORS)
PASS_COUNTER = Counter("sgcldff_shard_passes", "Passes over shards; a shard is done after two.", registry=COLLECTORS)
WORK_S = Counter(
    "sgcldff_work_seconds", "Time spent on slides by kind of work, summed over workers.", ["work"], registry=COLLECTORS
)
EPOCH = Gauge("sgcldff_training_epoch", "Epoch of the training, starting from 0.", registry=COLLECTORS)
LOSS = Gauge("sgcldff_training_loss", "Last logged loss of the training, by term.", ["term"], registry=COLLECTORS)
VALIDATION = Gauge(
    "sgcldff_validation_score", "Scores on the validation split after the last epoch.", ["measure"], registry=COLLECTORS
)


class SlideCollector(Collector):
    """Slides of a batch by state, computed on request."""

    def __init__(self, status: Callable[[], BatchStatus]) -> None:
        self.status = status

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the numbers of slides that are done, skipped, running and waiting."""
        now = self.status()
        counts = {"done": now.done, "set_aside": now.skipped, "running": len(now.running)}
        family = GaugeMetricFamily("sgcldff_slides", "Slides of the batch, by state.", labels=["state"])
        for state, count in (counts | {"waiting": now.slides - sum(counts.values())}).items():
            family.add_metric([state], count)
        yield family


@contextmanager
def slides_counted(status: Callable[[], BatchStatus]) -> Iterator[None]:
    """Export the slides of a batch while the block runs."""
    collector = SlideCollector(status)
    COLLECTORS.register(collector)
    try:
        yield
    finally:
        COLLECTORS.unregister(collector)


def count_pass(tally: Tally) -> None:
    """Count the work of a pass over a shard."""
    PASS_COUNTER.inc(tally.passes)
    TILE_COUNTER.labels("read").inc(tally.tiles)
    TILE_COUNTER.labels("skipped").inc(tally.skipped)
    for label, number in tally.cells.items():
        CELL_COUNTER.labels(label).inc(number)
    for work, seconds in tally.seconds.items():
        WORK_S.labels(work).inc(seconds)


def serve_if_configured() -> None:
    """Serve the metrics if `SGCLDFF_METRICS_PORT` is set; idempotent.

    Raises
    ------
    InputError
        If the port is taken or invalid.
    """
    port = os.environ.get(PORT)
    if port and os.environ.get(RANK, "0") == "0":
        require(port.isdecimal() and 0 < int(port) < 65536, f"{PORT} is {port!r}: give a port, 1 to 65535")
        serve(int(port))


@cache
def serve(port: int) -> None:
    """Serve the metrics on a port of this machine until the process ends.

    Raises
    ------
    InputError
        If the port is taken.
    """
    try:
        start_http_server(port, LOOPBACK, COLLECTORS)
    except OSError as error:
        raise InputError(
            f"port {port} of {LOOPBACK} is not available for the metrics ({error.strerror}): end the process that "
            f"listens there, or name another with --metrics-port or {PORT}"
        ) from error
