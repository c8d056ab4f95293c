"""What is asked of a scheduler, which may be gone when it is asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from distributed import Client

from sgcldff.core.errors import ServiceError

GONE = "the Dask scheduler is gone or dropped a task: start it again and repeat the command"


@contextmanager
def asking(client: Client) -> Iterator[None]:
    """Return one error for all that a client raises once its scheduler is gone, an `AttributeError` for instance.

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
    """Describe the workers that a scheduler has.

    Raises
    ------
    ServiceError
        If the scheduler is gone.
    """
    with asking(client):
        info = client.scheduler_info(n_workers=-1)
    if "workers" not in info:  # the client keeps silent about a scheduler that did not answer
        raise ServiceError(GONE)
    return list(info["workers"].values())
