"""Environment of embedded runs: a Prefect home of our own, no telemetry, servers on loopback.

Whatever is set outside wins: `PREFECT_API_URL` makes runs report to a real Prefect server, `MLFLOW_TRACKING_URI` makes
them log to a real MLflow server.
"""

import os
from pathlib import Path


def configure(workspace: Path) -> None:
    """Set the defaults; call it before Prefect or MLflow is imported."""
    home = workspace.expanduser().resolve() / "prefect"
    home.mkdir(parents=True, exist_ok=True)
    defaults = {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "DO_NOT_TRACK": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
