"""The model registry: runs, versions and aliases in MLflow. No other package imports MLflow.

MLflow takes seconds to import, so the names that need it are loaded on first use: a model that is not registered is
found without it.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sgcldff.models.checkpoint import TRAINED_ON
from sgcldff.registry.default_model import ChosenModel, choose_model

if TYPE_CHECKING:
    from sgcldff.registry.packaging import CODE_DIGEST_TAG, CODE_TAG, code_tags
    from sgcldff.registry.tracking import DataSet, Runs
    from sgcldff.registry.version_files import EVALUATION
    from sgcldff.registry.versions import CHALLENGER, CHAMPION, ORIGINAL_TAG, PREVIOUS, Registry, Version

__all__ = [
    "CHALLENGER",
    "CHAMPION",
    "CODE_DIGEST_TAG",
    "CODE_TAG",
    "EVALUATION",
    "ORIGINAL_TAG",
    "PREVIOUS",
    "TRAINED_ON",
    "ChosenModel",
    "DataSet",
    "Registry",
    "Runs",
    "Version",
    "choose_model",
    "code_tags",
]

MLFLOW_DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
"""Environment variables that MLflow reads when it is imported, unless they are set."""
MODULES = dict.fromkeys(("CODE_DIGEST_TAG", "CODE_TAG", "code_tags"), "packaging")
MODULES |= {"DataSet": "tracking", "Runs": "tracking", "EVALUATION": "version_files"}
"""Modules of the lazy names; `versions` by default."""


def __getattr__(name: str) -> Any:
    """Load a name whose module imports MLflow, after setting MLflow's defaults."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for variable, value in MLFLOW_DEFAULTS.items():
        os.environ.setdefault(variable, value)
    return getattr(import_module(f"{__name__}.{MODULES.get(name, 'versions')}"), name)
