"""Stages: the steps of flows.

Within a flow run a stage is a Prefect task. Elsewhere it is a plain function with the same retries, so that work of
seconds needs no server. In both cases its start, end and duration are logged and counted, with ids of what it works on.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, update_wrapper
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from sgcldff.core.errors import ServiceError, SgcldffError
from sgcldff.core.locations import shown
from sgcldff.core.logs import log_context, start_json_log
from sgcldff.core.records import ModelRef
from tasks.metrics import STAGE_S, serve_if_configured
from tasks.policy import RETRY_DELAYS_S, worth_retrying

if TYPE_CHECKING:
    from prefect import Task
    from prefect.client.schemas.objects import State, TaskRun

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


class Stage(Generic[P, R]):
    """A step of a flow. Make one with `stage`."""

    def __init__(
        self,
        function: Callable[P, R],
        name: str,
        tags: list[str],
        ids: Callable[..., Mapping[str, str]] | None = None,
        subject: Callable[..., str] | None = None,
    ) -> None:
        update_wrapper(self, function)
        self.function, self.name, self.tags, self.ids, self.subject = function, name, tags, ids, subject

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run as a task of the current flow run, or directly if there is none.

        Raises
        ------
        ServiceError
            If Prefect's server fails, whatever became of the work itself.
        """
        if not in_flow_run():
            return self.directly(*args, **kwargs)
        about = f" {self.subject(*args, **kwargs)}" if self.subject else ""
        try:
            return self.task.with_options(task_run_name=lambda: f"{self.name}{about}")(*args, **kwargs)
        except Exception as error:
            if (failure := prefect_failure(error)) is None:
                raise
            raise failure from error

    def attempt(self, *args: P.args, **kwargs: P.kwargs) -> R | Exception:
        """Run and return the result or the error, so that a failing item does not stop a batch."""
        try:
            return self(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  the boundary around one item of a batch
            return error

    def fn(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run once, in this process."""
        start_json_log()
        serve_if_configured()
        ids = self.ids(*args, **kwargs) if self.ids else {}
        with log_context({**run_ids(), "stage": self.name, **ids}), timed_stage(self.name):
            return self.function(*args, **kwargs)

    def directly(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run in this process, with retries after errors that may be temporary."""
        for delay in RETRY_DELAYS_S:
            try:
                return self.fn(*args, **kwargs)
            except OSError as error:
                if not worth_retrying(error):
                    raise
                logger.warning("%s is retried in %.0f s: %s", self.name, delay, error)
            time.sleep(delay)
        return self.fn(*args, **kwargs)

    @cached_property
    def task(self) -> "Task[P, R]":
        """The stage as a Prefect task."""
        from prefect import Task
        from prefect.cache_policies import NO_CACHE

        return Task(
            update_wrapper(lambda *args, **kwargs: self.fn(*args, **kwargs), self.function),
            name=self.name,
            tags=self.tags,
            retries=len(RETRY_DELAYS_S),
            retry_delay_seconds=list(RETRY_DELAYS_S),
            retry_condition_fn=should_retry,
            cache_policy=NO_CACHE,
            persist_result=False,
            log_prints=False,
        )


def stage(
    name: str,
    tags: list[str],
    ids: Callable[..., Mapping[str, str]] | None = None,
    subject: Callable[..., str] | None = None,
) -> Callable[[Callable[P, R]], Stage[P, R]]:
    """Make a function a stage of that name.

    Parameters
    ----------
    tags
        For Prefect's work queues and concurrency limits.
    ids
        Returns ids for the log from the stage's arguments: those of a slide or a model, say.
    subject
        Returns from the arguments what the task's run is named after.
    """
    return lambda function: Stage(function, name, tags, ids, subject)


def should_retry(task: "Task[Any, Any]", run: "TaskRun", state: "State[Any]") -> bool:
    """Return whether Prefect should retry a task."""
    return worth_retrying(state.result(raise_on_failure=False))


def in_flow_run() -> bool:
    """Return whether a flow or task run is in progress; does not import Prefect."""
    return bool(_contexts())


def prefect_failure(error: Exception) -> ServiceError | None:
    """Explain an error that comes from Prefect's client because its server does not answer or fails, or return None."""
    import httpx

    first: BaseException | None = error
    while first is not None and not isinstance(first, httpx.HTTPError):
        first = first.__cause__ or first.__context__
    if first is None or isinstance(error, SgcldffError):
        return None
    return ServiceError(
        f"Prefect's server at {shown(os.environ.get('PREFECT_API_URL', ''))} failed ({error}): what is finished is "
        "kept; run the same command again once it answers"
    )


def run_ids() -> dict[str, str]:
    """Return the ids of the current Prefect runs."""
    ids: dict[str, str] = {}
    for context in _contexts():
        if (flow_run := getattr(context, "flow_run", None)) and context.flow:
            ids |= {"flow": context.flow.name, "run_id": str(flow_run.id)}
        if task_run := getattr(context, "task_run", None):
            ids |= {"run_id": str(task_run.flow_run_id), "task_run_id": str(task_run.id)}
    return ids


def _contexts() -> list[Any]:
    if "prefect" not in sys.modules:
        return []
    from prefect.context import FlowRunContext, TaskRunContext

    return [context for kind in (FlowRunContext, TaskRunContext) if (context := kind.get())]


def model_ids(model: ModelRef) -> dict[str, str]:
    """Return a model's ids for the log."""
    return {"model": model.name, "model_version": model.version, "model_digest": model.digest}


@contextmanager
def timed_stage(stage: str) -> Iterator[None]:
    """Log start, end and duration of a stage, and count the duration."""
    start = time.monotonic()
    logger.info("stage %s begins", stage)

    def end(outcome: str, level: int, reason: str = "", **extra: str) -> None:
        seconds = time.monotonic() - start
        STAGE_S.labels(stage, outcome).observe(seconds)
        fields = {"outcome": outcome, "seconds": round(seconds, 3), **extra}
        logger.log(level, "stage %s %s%s", stage, outcome, reason, extra=fields)

    try:
        yield
    except BaseException as error:
        end("failed", logging.ERROR, f": {error}", error=type(error).__name__)
        raise
    end("done", logging.INFO)
