"""Retries, caching and tags of all tasks, in one place.

Results are cached by content, on disk, by the stages themselves: a catalog knows its files, a prior store its images, a
training run and an evaluation lie in a folder named after the digests of all that went into them, and slides are
resumed shard by shard. Prefect's own result cache is off: it would hash paths, and remember results whose files are
gone.
"""

from typing import Any

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from sgcldff.cluster import TaskLostError
from sgcldff.disks import ran_out
from sgcldff.errors import ServiceError, SgcldffError


def worth_retrying(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Tell whether trying again can help: bad input stays bad, a server may come back."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, ServiceError | OSError) and not _final(error)


def _final(error: BaseException) -> bool:
    """Tell errors that come again: of bad input, full disks, and tasks that have taken several workers down already."""
    lost = isinstance(error, TaskLostError)
    return lost or ran_out(error) or (isinstance(error, SgcldffError) and not isinstance(error, ServiceError))


STAGE: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": [2, 20],
    "retry_condition_fn": worth_retrying,
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "log_prints": False,
}
"""Keyword arguments of `prefect.task` for every stage."""

DATA, MODEL, SLIDES = ["data"], ["model"], ["slides"]
"""Tags by which work queues and concurrency limits tell tasks apart."""
