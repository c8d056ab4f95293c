"""A laboratory on real servers: what `make deploy` deploys, and a night in which models are trained and slides read."""

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

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
    postgres_programs,
    prefect_server,
    prefect_worker,
    web,
)
from tests.small import SMALL_NET

QUICK = {
    "net": SMALL_NET,
    "train": {"epochs": 1, "batch_size": 8},
    "evaluate": {"resamples": 100},
}
"""One epoch: what is tested is what happens around it."""
PATIENCE_S = 420
PROMOTE, CHAIN = "promote/after-retraining", "retrain/nightly"
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
        answer = web.post(f"{self.environment['PREFECT_API_URL']}/flow_runs/filter", json=asked)
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

    def run(self, deployment: str, **parameters: object) -> str:
        """Run a deployment, such as `retrain/nightly`, and give the name of its final state."""
        server = self.environment["PREFECT_API_URL"]
        found = web.get(f"{server}/deployments/name/{deployment}").raise_for_status().json()
        place, asked = f"{server}/deployments/{found['id']}/create_flow_run", {"parameters": parameters}
        created = web.post(place, json=asked).raise_for_status().json()
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            run = web.get(f"{server}/flow_runs/{created['id']}").raise_for_status().json()
            if run["end_time"]:
                assert run["state_type"] == "COMPLETED", run["state"]["message"]
                return str(run["state_name"])
            time.sleep(0.5)
        raise AssertionError(f"{deployment} did not end: {run}")

    def alias(self, name: str) -> str:
        """Give the version that an alias names."""
        place = f"{self.environment['MLFLOW_TRACKING_URI']}/api/2.0/mlflow/registered-models/alias"
        answer = web.get(place, params={"name": "sgcldff", "alias": name})
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
        addresses = ("", "")  # SQLite
        if postgres_programs() is not None:
            databases = servers.enter_context(postgres())
            addresses = databases.create("prefect", FOR_PREFECT), databases.create("mlflow")
        known = servers.enter_context(prefect_server(folder / "prefect", addresses[0]))
        known |= servers.enter_context(mlflow_server(folder / "mlflow", addresses[1]))
        deploy(known)
        servers.enter_context(prefect_worker(folder / "worker.log", known, root=root))
        yield Laboratory(root, known)


@pytest.fixture(scope="module")
def deployed(laboratory) -> dict[str, Any]:
    """Give the deployments as the server shows them."""
    found, flows = (
        web.post(f"{laboratory.environment['PREFECT_API_URL']}/{kind}/filter", json={}).json()
        for kind in ("deployments", "flows")
    )
    names = {flow["id"]: flow["name"] for flow in flows}
    return {f"{names[item['flow_id']]}/{item['name']}": item for item in found}


def test_every_flow_is_deployed_to_the_work_pool(deployed):
    assert {name.partition("/")[0] for name in deployed} == {
        "prepare", "retrain", "promote", "approve", "reject", "rollback", "evaluate", "infer", "read-landing",
        "benchmark", "review-make", "review-read", "review-apply", "calibrate",
    }  # fmt: skip
    assert {item["work_pool_name"] for item in deployed.values()} == {"sgcldff"}


def test_retraining_runs_every_night_and_never_twice_at_once(deployed):
    nightly = deployed[CHAIN]
    (schedule,) = nightly["schedules"]
    assert schedule["active"]
    assert schedule["schedule"]["cron"] == "0 1 * * *"
    assert nightly["global_concurrency_limit"]["limit"] == 1
    assert nightly["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


def test_landed_slides_are_read_every_ten_minutes_and_never_twice_at_once(deployed):
    landing = deployed["read-landing/landing"]
    (schedule,) = landing["schedules"]
    assert schedule["active"]
    assert schedule["schedule"]["interval"] == 600
    assert landing["global_concurrency_limit"]["limit"] == 1
    assert landing["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


def test_parameters_are_typed_and_explained(deployed):
    for name, item in deployed.items():
        schema = item["parameter_openapi_schema"]
        assert item["enforce_parameter_schema"]
        assert set(item["parameters"]) <= set(schema["properties"]), name
        unexplained = [key for key, value in schema["properties"].items() if not value.get("description")]
        assert not unexplained, f"{name}: {unexplained}"
    assert deployed["infer/slides"]["parameter_openapi_schema"]["properties"]["slides"]["type"] == "array"
    assert "TrainSpec" in deployed[CHAIN]["parameter_openapi_schema"]["definitions"]


def test_promotion_waits_for_the_end_of_a_retraining(deployed, laboratory):
    automations = web.post(f"{laboratory.environment['PREFECT_API_URL']}/automations/filter", json={}).json()
    (automation,) = automations
    assert automation["enabled"]
    assert automation["trigger"]["expect"] == ["prefect.flow-run.Completed"]
    assert automation["trigger"]["match_related"]["prefect.resource.name"] == CHAIN.partition("/")[2]
    assert automation["actions"][0]["deployment_id"] == deployed[PROMOTE]["id"]


def test_no_path_of_the_deploying_machine_is_stored(deployed):
    assert str(ROOT) not in json.dumps([(item["pull_steps"], item["parameters"]) for item in deployed.values()])


def put(slide: Path, place: Path) -> None:
    """Copy a slide, as if it had been written an hour ago."""
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(slide, place)
    os.utime(place, (time.time() - 3600,) * 2)


def test_a_night(laboratory, slide):
    write_dataset(laboratory.root / "landing", 40, 6, seed=1)
    assert laboratory.run(CHAIN, settings=QUICK) == "Completed"
    (promotion,) = laboratory.ended("after-retraining", 1)
    assert promotion["state_name"] == "Completed", promotion["state"]["message"]
    assert laboratory.alias("champion") == "1"

    put(slide.slide, laboratory.root / "landing-slides" / "smear.tiff")
    landed = {"settings": {"infer": {"engine": "torch"}}}
    laboratory.run("read-landing/landing", **landed)
    cells = pq.read_table(laboratory.root / "results" / "smear" / "cells.parquet")
    assert set(cells["model_version"].to_pylist()) <= {"1"}
    told = json.loads((laboratory.root / "results" / "smear" / "summary.json").read_text())
    assert (told["reason"], told["model"]["version"]) == ("", "1")

    assert laboratory.run(CHAIN, settings=QUICK) == "Nothing to do"
    assert laboratory.run("read-landing/landing", **landed) == "Nothing new"
    assert len(laboratory.runs("after-retraining")) == 1
