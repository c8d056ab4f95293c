"""Dask settings of the clusters that this package starts."""

import logging

LOOPBACK = "127.0.0.1"
DASHBOARD = f"{LOOPBACK}:0"
TLS = "tls://"
"""Protocol of the clusters that this package starts: without it, any user who reaches a port could run code."""
LOG_LEVEL = logging.CRITICAL
"""Failures of tasks and workers are reported by exceptions; Dask's log would repeat them amid the progress display."""

SCHEDULER_SETTINGS: dict[str, object] = {
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.dashboard.tasks.task-stream-length": 10_000,
    "distributed.admin.low-level-log-length": 20,
}
"""A worker gets one task per thread: waiting tasks are held back, and are not blamed if the worker dies. The memory of
the dashboard and of the event log of every past client is bounded: 1,000 events would take 0.8 MiB per slide."""

WORKER_SETTINGS: dict[str, object] = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
"""Results are small, so spilling them frees nothing, and a paused worker would wait forever for memory that its model
occupies. A worker that exceeds its limit is terminated."""

WORKER_ENVIRONMENT = {"OPENCV_FOR_THREADS_NUM": "1"}
"""There is one worker per core, so OpenCV must not start threads in each."""

SETTINGS = (
    SCHEDULER_SETTINGS
    | WORKER_SETTINGS
    | {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in WORKER_ENVIRONMENT.items()}
)
"""Dask settings for clusters whose scheduler or workers are started from this process."""


def environment() -> dict[str, str]:
    """Return environment variables with the settings for workers that are started elsewhere."""
    settings = {f"DASK_{variable(name)}": str(value) for name, value in WORKER_SETTINGS.items()}
    return settings | WORKER_ENVIRONMENT


def variable(setting: str) -> str:
    """Return the name of a setting as an environment variable, without the prefix `DASK_`."""
    return setting.upper().replace(".", "__").replace("-", "_")
