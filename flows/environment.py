"""Environment of the commands: a Prefect home in the workspace, no telemetry, servers on loopback, a quiet terminal.

Variables that are already set take precedence: with `PREFECT_API_URL` runs report to that Prefect server, with
`MLFLOW_TRACKING_URI` they log to that MLflow server.
"""

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import httpx

from sgcldff.core.disks import require_free_space, require_writable
from sgcldff.core.errors import ServiceError
from sgcldff.core.locations import shown, sqlite_uri, user_cache

if TYPE_CHECKING:
    from prefect import Flow

P = ParamSpec("P")
R = TypeVar("R")

ALWAYS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "sgcldff,tasks,flows",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "GOMP_SPINCOUNT": "10000",
}
"""OpenMP threads that wait for each other soon sleep: on shared cores, longer spinning made trainings 3 to 7 times as
slow (two threads, two cores under load)."""
QUIET = {
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
}
"""Tracebacks of failed runs stay in Prefect's records; the terminal shows one line per error."""
OTHER_DATABASE = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_DRIVER")
"""Other variables by which users set Prefect's database."""
CHATTY = ("py.warnings", "alembic", "distributed", "lightning.pytorch.utilities.rank_zero", "lightning.fabric")


def configure(workspace: Path) -> None:
    """Set defaults in the environment, before Prefect or MLflow is imported.

    Raises
    ------
    InputError
        If the workspace is not writable.
    DiskFullError
        If its disk is full.
    ServiceError
        If the server at `PREFECT_API_URL` does not answer.
    """
    require_writable(workspace)
    home = workspace.expanduser().resolve() / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    require_free_space(home)
    user_cache()
    set_defaults({"PREFECT_HOME": str(home), **ALWAYS})
    set_defaults(database_address(Path(os.environ["PREFECT_HOME"])))
    if server := os.environ.get("PREFECT_API_URL"):
        require_answer(server)


def start_run(workspace: Path, metrics_port: int | None = None) -> None:
    """Do what precedes a recorded run: serve metrics, `configure`, and start a temporary server if none is configured.

    Raises
    ------
    InputError, DiskFullError, ServiceError
        As `configure`; or if the port is taken or the server does not start.
    """
    from flows.server import start_temporary_server

    serve_metrics(metrics_port)
    configure(workspace)
    start_temporary_server()


def database_address(home: Path) -> dict[str, str]:
    """Return the variable that sets Prefect's database, for paths that Prefect itself fails to escape."""
    path = home / "prefect.db"
    escaped = sqlite_uri(path, "aiosqlite")
    needed = not escaped.endswith(str(path)) and not any(map(os.environ.get, OTHER_DATABASE))
    return {"PREFECT_SERVER_DATABASE_CONNECTION_URL": escaped} if needed else {}


def log_to(file: Path | None) -> None:
    """Keep secrets out of all logs and, if a file is given, write events to it as JSON lines.

    Raises
    ------
    InputError
        If the file is not writable.
    """
    from sgcldff.core.logs import LOG_FILE, start_json_log

    if file is not None:
        os.environ[LOG_FILE] = str(file.expanduser().absolute())
    start_json_log()


def serve_metrics(port: int | None) -> None:
    """Serve Prometheus metrics if a port is given.

    Raises
    ------
    InputError
        If the port is taken.
    """
    from tasks.metrics import PORT, serve_if_configured

    if port is not None:
        os.environ[PORT] = str(port)
        serve_if_configured()


def require_answer(server: str) -> None:
    """Raise `ServiceError` unless a Prefect server answers at this address."""
    try:
        httpx.get(f"{server.rstrip('/')}/health", timeout=10)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServiceError(
            f"Prefect at {shown(server)} does not answer ({error}): start it, correct PREFECT_API_URL, or unset it to "
            "run without a server"
        ) from error


def quieten() -> None:
    """Keep the libraries' logs and warnings off the terminal; to be called before they are imported."""
    from sgcldff.core.logs import show_warnings

    show_warnings()
    set_defaults(QUIET)
    logging.captureWarnings(True)
    logging.raiseExceptions = False
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)


def server_configured() -> bool:
    """Whether runs are reported to a Prefect server (`PREFECT_API_URL`)."""
    return bool(os.environ.get("PREFECT_API_URL"))


def launch(flow: "Flow[P, R]", *args: P.args, **kwargs: P.kwargs) -> R:
    """Run a flow on the configured server or, if there is none, run its stages directly in this process.

    For work of seconds or minutes: starting a temporary server would take longer than some of it.
    """
    return flow(*args, **kwargs) if server_configured() else flow.fn(*args, **kwargs)


def set_defaults(values: dict[str, str]) -> None:
    """Set environment variables that are not set."""
    for name, value in values.items():
        os.environ.setdefault(name, value)
