"""With or without Prefect: how a command runs what it is about."""

from typing import ParamSpec, TypeVar

from prefect import Flow

from flows.environment import server_configured

P = ParamSpec("P")
R = TypeVar("R")


def launch(flow: Flow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a flow: as a run of the configured server or, where none is, its stages one after the other in this process.

    For work of seconds or minutes: a temporary server would take longer to start than some of it takes.
    """
    return flow(*args, **kwargs) if server_configured() else flow.fn(*args, **kwargs)
