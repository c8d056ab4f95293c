"""The model registry: runs, versions and aliases in MLflow. The only room that talks to MLflow."""

import os

os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from sgcldff.registry.packaging import TRAINED_ON
from sgcldff.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, Version

__all__ = ["CHALLENGER", "CHAMPION", "PREVIOUS", "TRAINED_ON", "Registry", "Version"]
