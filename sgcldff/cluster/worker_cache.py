"""Objects that are loaded once per worker process."""

import threading
from collections.abc import Callable
from typing import Any

from distributed import Client, WorkerPlugin, get_worker

from sgcldff.cluster.scheduler import scheduler_errors
from sgcldff.core.errors import InputError


class _LoadOnce(WorkerPlugin):
    """Keeps a loader on every worker, including later ones, and calls it when a task first needs the object."""

    idempotent = True

    def __init__(self, name: str, loader: Callable[[], Any]) -> None:
        self.name = name
        self.loader = loader

    def setup(self, worker: Any) -> None:
        self.lock = threading.Lock()

    def get(self) -> Any:
        with self.lock:
            if not hasattr(self, "value"):
                self.value = self.loader()
            return self.value


def load_once(client: Client, name: str, loader: Callable[[], Any]) -> None:
    """Register a loader that is called once in each worker process in which a task calls `loaded(name)`.

    The loader, not the object, is sent to the workers, including workers that join or restart later.

    Parameters
    ----------
    name
        Name of the object, such as a digest. A name that the scheduler already knows keeps its loader.

    Raises
    ------
    ServiceError
        If the scheduler is gone.
    """
    with scheduler_errors(client):
        client.register_plugin(_LoadOnce(name, loader), name=name)


def loaded(name: str) -> Any:
    """Return, inside a task, the object that the loader `name` created in this worker process.

    Raises
    ------
    InputError
        If nothing was registered under `name`.
    """
    plugin = get_worker().plugins.get(name)
    if not isinstance(plugin, _LoadOnce):
        raise InputError(f"no loader {name!r} on this worker: call load_once(client, {name!r}, loader) first")
    return plugin.get()
