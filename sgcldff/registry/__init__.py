"""The model registry: runs, versions and aliases in MLflow. The only room that talks to MLflow.

MLflow takes seconds to import and to open, so that what needs it is loaded when it is first asked for: a model that is
in no registry is found without.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from sgcldff.models.checkpoint import TRAINED_ON
from sgcldff.registry.default_model import Choice, choose

if TYPE_CHECKING:
    from sgcldff.registry.packaging import CODE_DIGEST_TAG, CODE_TAG, code_tags
    from sgcldff.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Registry, Version

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

for _name, _value in {
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}.items():
    os.environ.setdefault(_name, _value)  # MLflow reads them when it is imported

LAZY = {"CODE_DIGEST_TAG": "packaging", "CODE_TAG": "packaging", "code_tags": "packaging"}
"""Names that are not in the module `versions`."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{LAZY.get(name, 'versions')}"), name)
