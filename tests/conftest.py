"""The environment of all tests: homes of their own, no servers, no telemetry, no network."""

import os
import shutil
import tempfile

from flows.environment import ALWAYS, QUIET, set_defaults

SERVERS = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "SGCLDFF_WORKSPACE")


def pytest_configure(config):
    """Set the environment before any test module imports Prefect or MLflow."""
    home = tempfile.mkdtemp(prefix="sgcldff-tests-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    for name in SERVERS:
        os.environ.pop(name, None)
    os.environ["PREFECT_HOME"] = home
    os.environ["XDG_CACHE_HOME"] = f"{home}/cache"
    os.environ["COLUMNS"] = "200"
    set_defaults(ALWAYS | QUIET)
