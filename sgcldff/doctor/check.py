"""The result of a check."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sgcldff.core.redaction import redacted

BROKEN = (ImportError, OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError)
"""Errors of libraries that are missing, incompletely installed, or of an unexpected version."""


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
    server: bool = False
    """Whether it concerns a server."""


def ok(name: str, found: str) -> Check:
    """Return a check that found no problem."""
    return Check(name, State.OK, found)


def warning(name: str, found: str, remedy: str) -> Check:
    """Return a check that found a possible problem."""
    return Check(name, State.WARNING, found, remedy)


def failed(name: str, found: str, remedy: str) -> Check:
    """Return a check that found a problem."""
    return Check(name, State.FAILED, found, remedy)


def run_check(name: str, check: Callable[[], Check], remedy: str) -> Check:
    """Run a check; one that raises has failed, with this remedy."""
    try:
        return check()
    except BROKEN as error:
        return failed(name, f"{type(error).__name__}: {redacted(str(error))}", remedy)
