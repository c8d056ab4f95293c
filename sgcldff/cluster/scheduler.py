"""Requests to a scheduler, which may be gone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client

from sgcldff.core.errors import ServiceError

GONE = "the Dask scheduler is gone or dropped a task: start it again and repeat the command"


@contextmanager
def scheduler_errors(client: Client) -> Iterator[None]:
    """Replace the various errors of a client whose scheduler is gone, such as `AttributeError`, by one.

    Raises
    ------
    ServiceError
        If the scheduler is gone.
    """
    try:
        yield
    except (OSError, RuntimeError, AttributeError) as error:
        if client.status == "running":
            raise
        raise ServiceError(GONE) from error


def workers_of(client: Client) -> list[dict[str, Any]]:
    """Return the descriptions of a scheduler's workers.

    Raises
    ------
    ServiceError
        If the scheduler is gone.
    """
    with scheduler_errors(client):
        info = client.scheduler_info(n_workers=-1)
    if "workers" not in info:  # the client does not report a scheduler that did not answer
        raise ServiceError(GONE)
    return list(info["workers"].values())
