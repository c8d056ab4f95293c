"""Objects that are loaded once in every worker process."""

import threading
from collections.abc import Callable
from typing import Any

from distributed import Client, WorkerPlugin, get_worker

from sgcldff.cluster.scheduler import asking
from sgcldff.core.errors import InputError


class _LoadOnce(WorkerPlugin):
    """Holds a loader on every worker, those that come later included, and loads when a task first asks."""

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
    """Have `loader` called once in each worker process in which a task asks for `loaded(name)`.

    The loader, not what it loads, travels to the workers; workers that join or are restarted later get it too.

    Parameters
    ----------
    name
        Names what is loaded, by a digest for instance. A scheduler that knows the name keeps the loader that it has.

    Raises
    ------
    ServiceError
        If the scheduler is gone.
    """
    with asking(client):
        client.register_plugin(_LoadOnce(name, loader), name=name)


def loaded(name: str) -> Any:
    """Give, inside a task, what the loader registered under `name` made in this worker process.

    Raises
    ------
    InputError
        If nothing was registered under `name`.
    """
    plugin = get_worker().plugins.get(name)
    if not isinstance(plugin, _LoadOnce):
        raise InputError(f"no loader {name!r} on this worker: call load_once(client, {name!r}, loader) first")
    return plugin.get()
