"""Structured logs: one JSON object per event, with the run, the slide and the model that it concerns.

These identifiers are kept in a context variable: a thread or task that copies the context inherits them, and work sent
to another process takes `current_log_context()` along.
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
"""Environment variable that names the log file; child processes inherit it and write to the same file."""
OWN_LOGGERS = ("sgcldff", "tasks", "flows")
"""Loggers whose `INFO` is written; of the libraries, only warnings are."""

_CONTEXT: ContextVar[Mapping[str, str]] = ContextVar("log_context", default=MappingProxyType({}))


@contextmanager
def log_context(ids: Mapping[str, str]) -> Iterator[None]:
    """Attach identifiers (`run_id`, `slide_id`, ...) to all events in a block, on top of those already in force."""
    token = _CONTEXT.set({**_CONTEXT.get(), **ids})
    try:
        yield
    finally:
        _CONTEXT.reset(token)


def current_log_context() -> dict[str, str]:
    """Return the identifiers in force."""
    return dict(_CONTEXT.get())


class ContextFilter(logging.Filter):
    """Adds the identifiers in force to a record; the record's own fields take precedence."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass our own records, and warnings of the libraries."""
        if record.levelno < logging.WARNING and record.name.partition(".")[0] not in OWN_LOGGERS:
            return False
        for name, value in _CONTEXT.get().items():
            if not hasattr(record, name):
                setattr(record, name, value)
        return True


class JsonLineFormatter(JsonFormatter):
    """Formats a record as one line: time (UTC), level, logger, message, process, identifiers and extra fields."""

    def __init__(self) -> None:
        super().__init__(
            "%(levelname)s %(name)s %(message)s %(process)d %(threadName)s",
            rename_fields={"levelname": "level", "name": "logger", "threadName": "thread"},
            timestamp="time",
        )

    def formatException(self, ei: Any) -> str:  # noqa: N802  the library's name
        """Return a traceback without secrets."""
        return redacted(logging.Formatter.formatException(self, ei))


class JsonLog(logging.FileHandler):
    """Appends events to a file, which several processes may share."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8")
        self.setFormatter(JsonLineFormatter())
        self.addFilter(ContextFilter())


class TerminalHandler(logging.Handler):
    """Shows warnings, one line each; errors end the command, which shows them itself."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.addFilter(lambda record: record.levelno == logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Write to the current standard error, which a progress bar may have replaced."""
        sys.stderr.write(f"sgcldff: {redacted(record.getMessage())}\n")


def show_warnings() -> None:
    """Show this package's own warnings on the terminal."""
    for name in OWN_LOGGERS:
        if not any(isinstance(handler, TerminalHandler) for handler in logging.getLogger(name).handlers):
            logging.getLogger(name).addHandler(TerminalHandler())


def start_json_log() -> None:
    """Write events to the file named by `SGCLDFF_LOG`, if it is set.

    Call it again where a library may have replaced the handlers, as Prefect does at start-up.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    redact_logs()
    name, root = os.environ.get(LOG_FILE), logging.getLogger()
    if not name or any(isinstance(handler, JsonLog) for handler in root.handlers):
        return
    path = Path(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        root.addHandler(JsonLog(path))
    except OSError as error:
        raise InputError(
            f"{path}: no log can be written there ({error.strerror}); name another file with --log-json or {LOG_FILE}"
        ) from error
    log_events()


def log_events() -> None:
    """Let this package's own events reach the handlers of its loggers, not only its warnings."""
    for name in OWN_LOGGERS:
        logging.getLogger(name).setLevel(logging.INFO)
