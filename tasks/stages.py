"""What every stage tells of itself: its start and end in the log, what they are about, and its duration as a metric."""

import functools
import logging
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import ParamSpec, TypeVar

from prefect.context import FlowRunContext, TaskRunContext

from sgcldff.logs import about, start_json_log
from sgcldff.records import ModelRef
from tasks.metrics import STAGE_S, serve_as_asked

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def observed(ids: Callable[P, Mapping[str, str]] | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate what becomes a Prefect task, below `@task`.

    Parameters
    ----------
    ids
        Tells of the task's arguments what the stage is about, beside the run: a slide, a model.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            start_json_log()
            serve_as_asked()
            task = TaskRunContext.get()
            name = task.task.name if task else function.__name__
            with about({**run_ids(), "stage": name, **(ids(*args, **kwargs) if ids else {})}), Timed(name):
                return function(*args, **kwargs)

        return run

    return decorate


def run_ids() -> dict[str, str]:
    """Name the runs of Prefect within which this is called."""
    flow, task = FlowRunContext.get(), TaskRunContext.get()
    named = {"flow": flow.flow.name, "run_id": str(flow.flow_run.id)} if flow and flow.flow and flow.flow_run else {}
    return named | ({"run_id": str(task.task_run.flow_run_id), "task_run_id": str(task.task_run.id)} if task else {})


def model_ids(model: ModelRef) -> dict[str, str]:
    """Name a model."""
    return {"model": model.name, "model_version": model.version, "model_digest": model.digest}


class Timed:
    """Logs how a stage begins and how it ends, and after how long; counts the time."""

    def __init__(self, stage: str) -> None:
        self.stage = stage

    def __enter__(self) -> None:
        self.began = time.monotonic()
        logger.info("stage %s begins", self.stage)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds, outcome = time.monotonic() - self.began, "done" if kind is None else "failed"
        STAGE_S.labels(self.stage, outcome).observe(seconds)
        told = {"outcome": outcome, "seconds": round(seconds, 3)} | ({"error": kind.__name__} if kind else {})
        reason = f": {error}" if error else ""
        logger.log(logging.ERROR if error else logging.INFO, "stage %s %s%s", self.stage, outcome, reason, extra=told)
