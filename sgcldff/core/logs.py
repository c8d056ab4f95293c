"""Logs for machines: a line of JSON an event, with the run, the slide and the model that it is about.

What an event is about is kept in a context variable: a thread or a task that copies the context takes it along, and
what travels to another process takes `ids_in_force()` with it.
"""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from sgcldff.core.errors import InputError
from sgcldff.core.redaction import redact_logs, redacted

LOG_FILE = "SGCLDFF_LOG"
"""Environment variable that names the file; processes that are started here inherit it and write to the same file."""
ROOMS = ("sgcldff", "tasks", "flows")
"""Loggers whose `INFO` is told; of the libraries only warnings are."""

_IDS: ContextVar[Mapping[str, str]] = ContextVar("ids", default=MappingProxyType({}))


@contextmanager
def about(ids: Mapping[str, str]) -> Iterator[None]:
    """Say what the events of a block are about, beside what holds outside of it: `run_id`, `slide_id`, ..."""
    token = _IDS.set({**_IDS.get(), **ids})
    try:
        yield
    finally:
        _IDS.reset(token)


def ids_in_force() -> dict[str, str]:
    """Give what events are about now."""
    return dict(_IDS.get())


class Ids(logging.Filter):
    """Puts what an event is about into its record; what the event itself says goes first."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let our own records pass, and the libraries' warnings."""
        if record.levelno < logging.WARNING and record.name.partition(".")[0] not in ROOMS:
            return False
        for name, value in _IDS.get().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class Lines(JsonFormatter):
    """Formats a record as a line: time (UTC), level, logger, message, process, ids, and what else it says."""

    def __init__(self) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s %(process)d %(threadName)s",
            rename_fields={"levelname": "level", "name": "logger", "threadName": "thread"},
            timestamp="time",
        )

    def formatException(self, ei: Any) -> str:  # noqa: N802  a name of the library
        """Write a traceback without secrets."""
        return redacted(logging.Formatter.formatException(self, ei))


class JsonLog(logging.FileHandler):
    """Appends events to a file; several processes may share it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.setFormatter(Lines())
        self.addFilter(Ids())


class Terminal(logging.Handler):
    """Shows warnings, one line each; errors end the command, which shows them itself."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(lambda record: record.levelno == logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Write to what is standard error now: a progress bar may stand in for it."""
        sys.stderr.write(f"sgcldff: {redacted(record.getMessage())}\n")


def show_warnings() -> None:
    """Show this package's warnings on the terminal, whatever becomes of those of the libraries."""
    for room in ROOMS:
        if not any(isinstance(handler, Terminal) for handler in logging.getLogger(room).handlers):
            logging.getLogger(room).addHandler(Terminal())


def start_json_log() -> None:
    """Write events to the file that `SGCLDFF_LOG` names, if it names one.

    Call it again where a library may have replaced the handlers, as Prefect does when it starts.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    redact_logs()
    place, root = os.environ.get(LOG_FILE), logging.getLogger()
    if not place or any(isinstance(handler, JsonLog) for handler in root.handlers):
        return
    root.addHandler(_opened(Path(place)))
    for room in ROOMS:
        logging.getLogger(room).setLevel(logging.INFO)


def _opened(path: Path) -> JsonLog:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return JsonLog(path)
    except OSError as error:
        raise InputError(
            f"{path}: no log can be written there ({error.strerror}); name another file with --log-json or {LOG_FILE}"
        ) from error
