"""Stages: what flows are made of.

Within a flow run a stage is a task of Prefect. Anywhere else it is its plain function, retried alike, so that work of
seconds needs no server. Either way it logs its start and end, says what they are about, and counts its duration.
"""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from functools import cached_property, update_wrapper
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from sgcldff.core.logs import log_context, start_json_log
from sgcldff.core.records import ModelRef
from tasks.metrics import STAGE_S, serve_as_asked
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
        self, function: Callable[P, R], name: str, tags: list[str], ids: Callable[..., Mapping[str, str]] | None
    ) -> None:
        update_wrapper(self, function)
        self.function, self.name, self.tags, self.ids = function, name, tags, ids

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run as a task of the flow run under way, or, where there is none, here."""
        return self.task(*args, **kwargs) if in_flow_run() else self.directly(*args, **kwargs)

    def attempt(self, *args: P.args, **kwargs: P.kwargs) -> R | Exception:
        """Run, and give an error in place of a result: the rest of a batch goes on, whatever is wrong with one item."""
        try:
            return self(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  the boundary around one item of a batch
            return error

    def fn(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run once, here."""
        start_json_log()
        serve_as_asked()
        known = self.ids(*args, **kwargs) if self.ids else {}
        with log_context({**run_ids(), "stage": self.name, **known}), Timed(self.name):
            return self.function(*args, **kwargs)

    def directly(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run here, and again after a while where that may help."""
        for delay in RETRY_DELAYS_S:
            try:
                return self.fn(*args, **kwargs)
            except OSError as error:
                if not worth_retrying(error):
                    raise
                logger.warning("%s is tried again in %.0f s: %s", self.name, delay, error)
            time.sleep(delay)
        return self.fn(*args, **kwargs)

    @cached_property
    def task(self) -> "Task[P, R]":
        """The same as a task of Prefect."""
        from prefect import Task
        from prefect.cache_policies import NO_CACHE

        return Task(
            update_wrapper(lambda *args, **kwargs: self.fn(*args, **kwargs), self.function),
            name=self.name,
            tags=self.tags,
            retries=len(RETRY_DELAYS_S),
            retry_delay_seconds=list(RETRY_DELAYS_S),
            retry_condition_fn=retried,
            cache_policy=NO_CACHE,
            persist_result=False,
            log_prints=False,
        )


def stage(
    name: str, tags: list[str], ids: Callable[..., Mapping[str, str]] | None = None
) -> Callable[[Callable[P, R]], Stage[P, R]]:
    """Decorate a function as a stage of that name.

    Parameters
    ----------
    tags
        For Prefect's work queues and concurrency limits.
    ids
        Tells of the stage's arguments what it is about, beside the run: a slide, a model.
    """
    return lambda function: Stage(function, name, tags, ids)


def retried(task: "Task[Any, Any]", run: "TaskRun", state: "State[Any]") -> bool:
    """Tell Prefect whether to try a task again."""
    return worth_retrying(state.result(raise_on_failure=False))


def in_flow_run() -> bool:
    """Whether this is called within a run of a flow, or of a task of one. Prefect is not imported to find out."""
    return bool(_contexts())


def run_ids() -> dict[str, str]:
    """Name the runs of Prefect within which this is called."""
    ids = {}
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
