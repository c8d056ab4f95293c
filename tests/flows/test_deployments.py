"""Deploys `prefect.yaml` to a real Prefect server, and runs a deployment in a real worker."""

import json

import httpx
import pytest

from sgcldff.data.catalog import Catalog
from sgcldff.data.synthetic import write_dataset
from tests.servers import ROOT, deploy, prefect, prefect_server, prefect_worker

PROMOTE, CHAIN = "promote/after-retraining", "retrain/nightly"


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Start a Prefect server; gives the environment of its clients."""
    with prefect_server(tmp_path_factory.mktemp("prefect")) as variables:
        yield variables


@pytest.fixture(scope="module")
def deployed(environment):
    """Deploy as `make deploy` does; gives the deployments as the server shows them."""
    deploy(environment)
    found = httpx.post(f"{environment['PREFECT_API_URL']}/deployments/filter", json={}, timeout=30).json()
    flows = httpx.post(f"{environment['PREFECT_API_URL']}/flows/filter", json={}, timeout=30).json()
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
    given = ["--param", f"sources={sources}", "--param", f"workspace={workspace}"]
    with prefect_worker(tmp_path / "worker.log", environment):
        prefect(environment, "deployment", "run", "prepare/prepare", *given, "--watch")
    assert len(Catalog.open(workspace / "catalog").samples) == 6
