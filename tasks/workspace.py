"""Folders of a laboratory's runs."""

import os
from dataclasses import dataclass
from pathlib import Path

from sgcldff.core.locations import sqlite_uri

WORKSPACE = Path("sgcldff-workspace")
"""Folder of the workspace where none is named."""
RECORD_REMEDY = "remove it and run the command again"
"""What to do about a damaged record of what was done: it is done again."""


@dataclass(frozen=True)
class Workspace:
    """Folders below one root; besides these, commands only write to the output that they are given."""

    root: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", str(Path(self.root).expanduser().resolve()))

    @property
    def catalog(self) -> Path:
        """Manifest, quarantine and snapshots."""
        return Path(self.root) / "catalog"

    @property
    def priors(self) -> Path:
        """Prior stores, one per prior spec."""
        return Path(self.root) / "priors"

    @property
    def tracking_uri(self) -> str:
        """MLflow's tracking store: `MLFLOW_TRACKING_URI`, or SQLite in the workspace."""
        return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(Path(self.root) / "mlflow" / "mlflow.db")

    def training(self, key: str) -> Path:
        """Checkpoints and model of the run with that content key."""
        return Path(self.root) / "training" / key

    def evaluation(self, key: str) -> Path:
        """Report and pictures of the evaluation with that content key."""
        return Path(self.root) / "evaluations" / key

    @property
    def landing(self) -> Path:
        """Mirrors of remote folders of training images."""
        return Path(self.root) / "landing"

    def drift(self, key: str) -> Path:
        """Drift report with that content key."""
        return Path(self.root) / "drift" / f"{key}.json"

    @property
    def decision(self) -> Path:
        """The latest decision on a retraining."""
        return Path(self.root) / "drift" / "decision.json"
