"""The work pools of types docker and kubernetes against the templates that Prefect itself has for these types."""

import json
from importlib.resources import files
from typing import Any

import jsonschema
import pytest
from prefect.utilities.templating import find_placeholders

from tests.infra.composition import WORK_POOLS


def prefects(kind: str) -> dict[str, Any]:
    """Give the template that Prefect's server brings along for workers of a type."""
    views = files("prefect.server.api.collections_data.views")
    known = json.loads((views / "aggregate-worker-metadata.json").read_text())
    return known[f"prefect-{kind}"][kind]["default_base_job_configuration"]


@pytest.fixture(params=WORK_POOLS)
def pool(request) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give our template of a type, and Prefect's."""
    return json.loads(WORK_POOLS[request.param].read_text()), prefects(request.param)


def test_variables_are_those_of_the_worker_with_other_defaults(pool):
    ours, theirs = pool
    assert set(ours["variables"]["properties"]) == set(theirs["variables"]["properties"])
    for name, item in ours["variables"]["properties"].items():
        expected = theirs["variables"]["properties"][name]
        assert {**item, "default": None} == {**expected, "default": None}, name


def test_defaults_are_of_their_types(pool):
    ours, _ = pool
    jsonschema.Draft202012Validator.check_schema(ours["variables"])
    defaults = {name: item["default"] for name, item in ours["variables"]["properties"].items() if "default" in item}
    jsonschema.Draft202012Validator(ours["variables"]).validate(defaults)


def test_the_configuration_has_the_workers_keys_and_known_placeholders(pool):
    ours, theirs = pool
    assert set(ours["job_configuration"]) == set(theirs["job_configuration"])
    names = {item.name for item in find_placeholders(ours["job_configuration"])}
    assert names <= set(ours["variables"]["properties"])
    assert {"command", "env", "image", "name"} <= names


def test_containers_get_the_volume_on_which_deployments_work(pool):
    assert "/lab" in json.dumps(pool[0])


def test_passwords_are_referred_to_and_not_contained(pool):
    text = json.dumps(pool[0])
    assert "MLFLOW_TRACKING_PASSWORD" in text
    assert '"{{ prefect.blocks.secret.mlflow-password }}"' in text or '"secretKeyRef"' in text
