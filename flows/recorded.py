"""Flows whose runs on a Prefect server are named after what they work on, and do not stay Running once they are over.

Prefect itself ends a flow run that is interrupted, but not its task runs, and nothing that dies with its process. So
every run leaves a note of its process, and the next run on this machine ends those whose processes are gone.
"""

import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

import psutil
from prefect import Flow, flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, TaskRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_HOME
from prefect.states import Crashed

from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.locations import named
from sgcldff.core.logs import log_events
from sgcldff.data.adapters import Source

P = ParamSpec("P")
R = TypeVar("R")

UNDER_WAY = TaskRunFilter.model_validate({"state": {"type": {"any_": [StateType.RUNNING, StateType.PENDING]}}})


def recorded_flow(name: str, subject: str) -> Callable[[Callable[P, R]], Flow[P, R]]:
    """Make a function a flow.

    Parameters
    ----------
    subject
        The parameter after which runs are named: slides, data sets, a model or a folder.
    """

    def run_name() -> str:
        from prefect.runtime import flow_run

        value = flow_run.parameters[subject]
        things = value if isinstance(value, list | tuple) else [value]
        return f"{name} {named([thing.folder if isinstance(thing, Source) else str(thing) for thing in things])}"

    return flow(
        name=name,
        flow_run_name=run_name,
        on_running=[note],
        on_completion=[forget],
        on_failure=[end],
        on_crashed=[end],
        on_cancellation=[end],
    )


def note(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Note the process of a run, let its own events into the run's log, and end runs that were killed earlier."""
    log_events()
    with get_client(sync_client=True) as client:
        for path in _note(flow_run.id).parent.glob("*.json"):
            with suppress(FileNotFoundError, ObjectNotFound):  # another run was faster, or it is on another server
                _end_if_lost(client, path)
    process = psutil.Process()
    facts = {"host": platform.node(), "pid": process.pid, "started": process.create_time()}
    write_json(_note(flow_run.id), facts)


def forget(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Remove the note of a run that is over."""
    _note(flow_run.id).unlink(missing_ok=True)


def end(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """End what is left of a run that did not complete."""
    with get_client(sync_client=True) as client:
        _end_tasks(client, flow_run.id)
    forget(flow, flow_run, state)


def _note(run: UUID) -> Path:
    return Path(PREFECT_HOME.value()) / "runs" / f"{run}.json"


def _end_if_lost(client: SyncPrefectClient, path: Path) -> None:
    facts = read_json(path, "remove it")
    if facts["host"] != platform.node():
        return
    with suppress(psutil.NoSuchProcess):
        if psutil.Process(facts["pid"]).create_time() == facts["started"]:
            return
    run = client.read_flow_run(UUID(path.stem))
    if run.state is not None and not run.state.is_final():
        client.set_flow_run_state(run.id, Crashed(message="Its process was killed."), force=True)
    _end_tasks(client, run.id)
    path.unlink()


def _end_tasks(client: SyncPrefectClient, run: UUID) -> None:
    of_run = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
    for task in client.read_task_runs(flow_run_filter=of_run, task_run_filter=UNDER_WAY):
        client.set_task_run_state(task.id, Crashed(message="The flow run ended before it."), force=True)
