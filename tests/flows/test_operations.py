"""A laboratory's night on real servers: images land, a model is trained and promoted, slides land and are read."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pyarrow.parquet as pq
import pytest

from sgcldff.data.synthetic import write_dataset
from tests.servers import (
    FOR_PREFECT,
    ROOT,
    Environment,
    deploy,
    mlflow_server,
    postgres,
    prefect,
    prefect_server,
    prefect_worker,
)

QUICK = {
    "net": {"pretrained": "off"},
    "train": {"epochs": 1, "batch_size": 8},
    "evaluate": {"resamples": 100},
}
"""One epoch: what is tested is what happens around it."""
PATIENCE_S = 420
LABORATORY = ("flows", "tasks", "sgcldff")


class Laboratory(NamedTuple):
    """A checkout with its landing folders, and the servers that it works with."""

    root: Path
    environment: Environment

    def runs(self, deployment: str) -> list[dict[str, Any]]:
        """List the runs of a deployment, oldest first, without those that are to come."""
        asked = {
            "deployments": {"name": {"any_": [deployment]}},
            "flow_runs": {"state": {"type": {"not_any_": ["SCHEDULED"]}}},
            "sort": "START_TIME_ASC",
        }
        answer = httpx.post(f"{self.environment['PREFECT_API_URL']}/flow_runs/filter", json=asked, timeout=30)
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found

    def ended(self, deployment: str, count: int) -> list[dict[str, Any]]:
        """Wait until so many runs of a deployment have ended."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = [run for run in self.runs(deployment) if run["end_time"]]
            if len(found) >= count:
                return found
            time.sleep(0.5)
        raise AssertionError(f"{deployment}: {count} runs did not end: {self.runs(deployment)}")

    def run(self, deployment: str, **parameters: object) -> None:
        """Run a deployment and wait for its end."""
        given = [word for name, value in parameters.items() for word in ("--param", f"{name}={json.dumps(value)}")]
        prefect(self.environment, "deployment", "run", deployment, *given, "--watch")

    def alias(self, name: str) -> str:
        """Give the version that an alias names."""
        place = f"{self.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/registered-models/alias"
        answer = httpx.get(place, params={"name": "sgcldff", "alias": name}, timeout=30)
        return str(answer.raise_for_status().json()["model_version"]["version"])


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory) -> Iterator[Laboratory]:
    """Start PostgreSQL (where it is installed), Prefect with a worker, and MLflow; deploy as `make deploy` does."""
    folder = tmp_path_factory.mktemp("laboratory")
    root = folder / "checkout"
    root.mkdir()
    for room in LABORATORY:
        (root / room).symlink_to(ROOT / room)
    with ExitStack() as servers:
        databases = servers.enter_context(postgres())
        known = servers.enter_context(prefect_server(folder / "prefect", databases.create("prefect", FOR_PREFECT)))
        known |= servers.enter_context(mlflow_server(folder / "mlflow", databases.create("mlflow")))
        deploy(known)
        servers.enter_context(prefect_worker(folder / "worker.log", known, root=root))
        yield Laboratory(root, known)


def put(slide: Path, place: Path) -> None:
    """Copy a slide, as if it had been written an hour ago."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(slide, place)
    os.utime(place, (time.time() - 3600,) * 2)


def test_a_night(laboratory, slide):
    write_dataset(laboratory.root / "landing", 40, 6, seed=1)
    laboratory.run("retrain/nightly", settings=QUICK)
    (promotion,) = laboratory.ended("after-retraining", 1)
    assert promotion["state_name"] == "Completed", promotion["state"]["message"]
    assert laboratory.alias("champion") == "1"

    put(slide.slide, laboratory.root / "landing-slides" / "smear.tiff")
    laboratory.run("read-landing/landing")
    cells = pq.read_table(laboratory.root / "results" / "smear" / "cells.parquet")
    assert set(cells["model_version"].to_pylist()) <= {"1"}
    told = json.loads((laboratory.root / "results" / "smear" / "summary.json").read_text())
    assert (told["reason"], told["model"]["version"]) == ("", "1")

    laboratory.run("retrain/nightly", settings=QUICK)
    assert [run["state_name"] for run in laboratory.ended("nightly", 2)] == ["Completed", "Nothing to do"]
    laboratory.run("read-landing/landing")
    assert laboratory.ended("landing", 2)[-1]["state_name"] == "Nothing new"
    assert len(laboratory.runs("after-retraining")) == 1
