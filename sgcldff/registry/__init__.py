"""The model registry: runs, versions and aliases in MLflow. The only room that talks to MLflow."""

import os

os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from sgcldff.model_folder import TRAINED_ON
from sgcldff.registry.choosing import Choice, choose
from sgcldff.registry.packaging import CODE_DIGEST_TAG, CODE_TAG, code_tags
from sgcldff.registry.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry, Version

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "CODE_DIGEST_TAG",
    "CODE_TAG",
    "PREVIOUS",
    "TRAINED_ON",
    "Choice",
    "Registry",
    "Version",
    "choose",
    "code_tags",
]
