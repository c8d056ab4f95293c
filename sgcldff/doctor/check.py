"""What a check says."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from sgcldff.core.redaction import redacted

BROKEN = (ImportError, OSError, RuntimeError, ValueError, KeyError, AttributeError, TypeError)
"""What libraries raise that are missing, half installed, or of another version than expected."""


class State(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    state: State
    found: str
    """What is there."""
    remedy: str = ""
    """What to do; empty where nothing is to be done."""
    server: bool = False
    """Whether it is about a server."""


def ok(name: str, found: str) -> Check:
    """Say that all is well."""
    return Check(name, State.OK, found)


def warning(name: str, found: str, remedy: str) -> Check:
    """Say what may go wrong."""
    return Check(name, State.WARNING, found, remedy)


def failed(name: str, found: str, remedy: str) -> Check:
    """Say what will not work."""
    return Check(name, State.FAILED, found, remedy)


def tried(name: str, look: Callable[[], Check], remedy: str) -> Check:
    """Look; an environment in which not even that works is a finding as well.

    Parameters
    ----------
    remedy
        What to do if looking itself fails.
    """
    try:
        return look()
    except BROKEN as error:
        return failed(name, f"{type(error).__name__}: {redacted(str(error))}", remedy)
