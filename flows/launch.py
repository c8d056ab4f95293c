"""Runs of flows with or without a Prefect server."""

from typing import ParamSpec, TypeVar

from prefect import Flow

from flows.environment import server_configured

P = ParamSpec("P")
R = TypeVar("R")


def launch(flow: Flow[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a flow on the configured server or, if there is none, run its stages directly in this process.

    For work of seconds or minutes: starting a temporary server would take longer than some of it.
    """
    return flow(*args, **kwargs) if server_configured() else flow.fn(*args, **kwargs)
