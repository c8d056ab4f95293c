"""Dask's settings for the clusters that are started here."""

import logging

LOOPBACK = "127.0.0.1"
DASHBOARD = f"{LOOPBACK}:0"
QUIET = logging.CRITICAL
"""What goes wrong with tasks and workers is told by exceptions; Dask's log would tell it again amid the progress."""

SCHEDULER_SETTINGS: dict[str, object] = {
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.dashboard.tasks.task-stream-length": 10_000,
    "distributed.admin.low-level-log-length": 20,
}
"""A worker is sent one task a thread: what waits is held back, and is not blamed when the worker dies. The dashboard's
memory is bounded, and so is what is logged of every client that ever came: 1,000 events are 0.8 MiB a slide."""

WORKER_SETTINGS: dict[str, object] = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
"""Results are small, so that spilling them frees nothing, and a paused worker would wait for ever for memory that its
model holds. A worker that exceeds its share is ended."""

WORKER_ENVIRONMENT = {"OPENCV_FOR_THREADS_NUM": "1"}
"""Workers are as many as cores: OpenCV is kept from starting as many threads again in each."""

SETTINGS = (
    SCHEDULER_SETTINGS
    | WORKER_SETTINGS
    | {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in WORKER_ENVIRONMENT.items()}
)
"""Dask's settings for clusters whose scheduler or workers are started from this process."""


def environment() -> dict[str, str]:
    """Return the environment of workers that are started elsewhere, where this process's settings are not known."""
    settings = {f"DASK_{variable(name)}": str(value) for name, value in WORKER_SETTINGS.items()}
    return settings | WORKER_ENVIRONMENT


def variable(setting: str) -> str:
    """Name the environment variable of a setting."""
    return setting.upper().replace(".", "__").replace("-", "_")
