"""Deploys `prefect.yaml` to a real Prefect server, and runs a deployment in a real worker."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from sgcldff.catalog import Catalog
from sgcldff.synthetic import write_dataset

ROOT = Path(__file__).parents[2]
PREFECT = Path(sys.executable).with_name("prefect")
PROMOTE, CHAIN = "promote/after-retraining", "retrain/nightly"


def prefect(environment: dict[str, str], *arguments: str) -> str:
    """Run Prefect's command line in the repository."""
    done = subprocess.run(
        [PREFECT, "--no-prompt", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def await_answer(api: str, server: subprocess.Popen) -> None:
    """Wait until a server is up."""
    for _ in range(600):
        assert server.poll() is None, "the server ended"
        try:
            httpx.get(f"{api}/health", timeout=5).raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.2)
    raise AssertionError(f"no server at {api}")


@pytest.fixture(scope="module")
def environment(tmp_path_factory, unused_port):
    """Start a Prefect server on loopback; gives the environment of its clients."""
    port = unused_port()
    home, api = tmp_path_factory.mktemp("prefect"), f"http://127.0.0.1:{port}/api"
    env = os.environ | {"PREFECT_HOME": str(home), "PREFECT_API_URL": api}
    command = [PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui", "--analytics-off"]
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            await_answer(api, server)
            yield env
        finally:
            server.terminate()
            server.wait(30)


@pytest.fixture(scope="module")
def deployed(environment):
    """Deploy as `make deploy` does; gives the deployments as the server shows them."""
    prefect(environment, "work-pool", "create", "--type", "process", "--overwrite", "sgcldff")
    prefect(environment, "deploy", "--all")
    found = httpx.post(f"{environment['PREFECT_API_URL']}/deployments/filter", json={}, timeout=30).json()
    flows = httpx.post(f"{environment['PREFECT_API_URL']}/flows/filter", json={}, timeout=30).json()
    names = {flow["id"]: flow["name"] for flow in flows}
    return {f"{names[item['flow_id']]}/{item['name']}": item for item in found}


def test_every_flow_is_deployed_to_the_work_pool(deployed):
    assert {name.partition("/")[0] for name in deployed} == {
        "prepare", "retrain", "promote", "rollback", "evaluate", "infer", "benchmark",
        "review-make", "review-read", "review-apply",
    }  # fmt: skip
    assert {item["work_pool_name"] for item in deployed.values()} == {"sgcldff"}


def test_retraining_runs_every_night_and_never_twice_at_once(deployed):
    nightly = deployed[CHAIN]
    (schedule,) = nightly["schedules"]
    assert schedule["active"]
    assert schedule["schedule"]["cron"] == "0 1 * * *"
    assert nightly["global_concurrency_limit"]["limit"] == 1
    assert nightly["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"


def test_parameters_are_typed_and_explained(deployed):
    for name, item in deployed.items():
        schema = item["parameter_openapi_schema"]
        assert item["enforce_parameter_schema"]
        assert set(item["parameters"]) <= set(schema["properties"]), name
        unexplained = [key for key, value in schema["properties"].items() if not value.get("description")]
        assert not unexplained, f"{name}: {unexplained}"
    assert deployed["infer/slides"]["parameter_openapi_schema"]["properties"]["slides"]["type"] == "array"
    assert "TrainSpec" in deployed[CHAIN]["parameter_openapi_schema"]["definitions"]


def test_promotion_waits_for_the_end_of_a_retraining(deployed, environment):
    automations = httpx.post(f"{environment['PREFECT_API_URL']}/automations/filter", json={}, timeout=30).json()
    (automation,) = automations
    assert automation["enabled"]
    assert automation["trigger"]["expect"] == ["prefect.flow-run.Completed"]
    assert automation["trigger"]["match_related"]["prefect.resource.name"] == CHAIN.partition("/")[2]
    assert automation["actions"][0]["deployment_id"] == deployed[PROMOTE]["id"]


def test_no_path_of_the_deploying_machine_is_stored(deployed):
    assert str(ROOT) not in json.dumps([(item["pull_steps"], item["parameters"]) for item in deployed.values()])


def test_a_worker_runs_a_deployment(deployed, environment, tmp_path):
    data, workspace = write_dataset(tmp_path / "data", 6, 0, seed=3), tmp_path / "workspace"
    sources = json.dumps([{"adapter": "table", "folder": str(data)}])
    with (tmp_path / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [PREFECT, "worker", "start", "--pool", "sgcldff", "--type", "process"],
            cwd=tmp_path, env=environment | {"SGCLDFF_ROOT": str(ROOT)}, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            given = ["--param", f"sources={sources}", "--param", f"workspace={workspace}"]
            prefect(environment, "deployment", "run", "prepare/prepare", *given, "--watch")
        finally:
            worker.kill()
            worker.wait()
    assert len(Catalog.open(workspace / "catalog").samples) == 6
