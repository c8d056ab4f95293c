"""The result of a check."""

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """State of what was checked."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """One result."""

    name: str
    state: State
    found: str
    """Description of what was found."""
    remedy: str = ""
    """What to do; empty if nothing."""

    @property
    def server(self) -> bool:
        """Whether it concerns a server."""
        return self.name in ("prefect", "mlflow", "dask")


def ok(name: str, found: str) -> Check:
    """Return a check that found no problem."""
    return Check(name, State.OK, found)


def warning(name: str, found: str, remedy: str) -> Check:
    """Return a check that found a possible problem."""
    return Check(name, State.WARNING, found, remedy)


def failed(name: str, found: str, remedy: str) -> Check:
    """Return a check that found a problem."""
    return Check(name, State.FAILED, found, remedy)
