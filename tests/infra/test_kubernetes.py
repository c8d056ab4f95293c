"""infra/kubernetes: valid by the schemas of Kubernetes and of the Dask operator, whole, and closed."""

import json
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from sgcldff.cluster import KubernetesSpec
from sgcldff.cluster.kubernetes import dask_cluster
from tests.infra.composition import CONFIDENTIAL, SERVICES, WORK_POOLS
from tests.servers import ROOT

FOLDER = ROOT / "infra" / "kubernetes"
DASK = "kubernetes.dask.org/v1"
Resource = dict[str, Any]


def resources() -> list[Resource]:
    """Read all manifests; kustomizations and work pools are no manifests."""
    paths = [path for path in sorted(FOLDER.rglob("*.yaml")) if path.name != "kustomization.yaml"]
    return [item for path in paths for item in yaml.safe_load_all(path.read_text())]


RESOURCES = resources()
POOL = json.loads(WORK_POOLS["kubernetes"].read_text())


def named(item: Resource) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


def pods(item: Resource) -> Iterator[tuple[Resource, dict[str, str]]]:
    """Give the specs and labels of the pods that a resource makes."""
    spec, name = item.get("spec", {}), item["metadata"]["name"]
    if item["apiVersion"] == DASK:
        for part in ("scheduler", "worker"):
            if part in spec:
                labels = {"dask.org/cluster-name": spec.get("cluster", name), "dask.org/component": part}
                yield spec[part]["spec"], labels
    elif "template" in spec:
        yield spec["template"]["spec"], spec["template"]["metadata"].get("labels", {})


def job() -> Resource:
    """Fill the manifest of the work pool with its defaults, as a run without further wishes does."""
    defaults = {name: item.get("default") for name, item in POOL["variables"]["properties"].items()}
    given = defaults | {"name": "run", "labels": {}, "command": ["prefect", "flow-run", "execute"]}

    def fill(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: made for name, part in value.items() if (made := fill(part)) is not None}
        if isinstance(value, list):
            return [fill(part) for part in value]
        whole = re.fullmatch(r"\{\{ (\w+) \}\}", value) if isinstance(value, str) else None
        if whole:
            return given[whole[1]]
        return (
            re.sub(r"\{\{ (\w+) \}\}", lambda match: str(given[match[1]]), value) if isinstance(value, str) else value
        )

    return fill(POOL["job_configuration"]["job_manifest"])


POD_SPECS = [
    pytest.param(pod, labels, id=f"{named(item)}/{labels.get('dask.org/component', '')}")
    for item in RESOURCES
    for pod, labels in pods(item)
] + [pytest.param(job()["spec"]["template"]["spec"], {"prefect.io/flow-run-id": "1"}, id="work-pool")]


@pytest.mark.parametrize("item", [item for item in RESOURCES if item["apiVersion"] != DASK], ids=named)
def test_resources_are_valid(item):
    kubernetes_validate.validate(item, kubernetes_validate.latest_version(), strict=True)


def test_the_schema_would_refuse_an_unknown_key():
    item = next(item for item in RESOURCES if named(item) == "Deployment/mlflow")
    wrong = item | {"spec": item["spec"] | {"replica": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize(("pod", "labels"), POD_SPECS)
def test_pods_are_valid(pod, labels):
    whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod", "labels": labels}, "spec": pod}
    kubernetes_validate.validate(whole, kubernetes_validate.latest_version(), strict=True)


def test_the_work_pool_makes_a_valid_job():
    made = job()
    made["metadata"]["generateName"] = "run-"
    kubernetes_validate.validate(made, kubernetes_validate.latest_version(), strict=True)


def test_the_operator_understands_the_clusters_of_dask():
    found = find_spec("dask_kubernetes")
    if found is None:
        pytest.skip("dask-kubernetes is missing, whose schemas these are: pip install 'sgcldff[cluster]'")
    schemas = {}
    for path in Path(found.submodule_search_locations[0]).glob("operator/deployment/helm/*/crds/*.yaml"):
        definition = yaml.safe_load(path.read_text())["spec"]
        schemas[definition["names"]["kind"]] = definition["versions"][0]["schema"]["openAPIV3Schema"]
    started = dask_cluster(KubernetesSpec("registry.example.org/sgcldff:1", gpu=True, volumes={"/data": "slides"}))
    for item in [*RESOURCES, started]:
        if item["apiVersion"] == DASK:
            jsonschema.Draft7Validator(schemas[item["kind"]]).validate(item)


@pytest.mark.parametrize(("pod", "labels"), POD_SPECS)
def test_pods_have_no_more_rights_than_they_need(pod, labels):
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod.get("automountServiceAccountToken") is False or pod["serviceAccountName"] == "job-worker"
    for container in pod["containers"] + pod.get("initContainers", []):
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(("pod", "labels"), POD_SPECS)
def test_no_service_disguises_itself_as_a_setting(pod, labels):
    """Kubernetes would set PREFECT_SERVER_PORT, a setting of Prefect, for the service prefect-server."""
    assert pod["enableServiceLinks"] is False


@pytest.mark.parametrize(("pod", "labels"), POD_SPECS)
def test_containers_are_bounded_probed_and_of_one_version(pod, labels):
    for container in pod["containers"] + pod.get("initContainers", []):
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
        assert container["image"] == "sgcldff" or re.fullmatch(r"[\w./-]+:v?\d[\w.-]+", container["image"])
    if "prefect.io/flow-run-id" not in labels:
        assert all({"readinessProbe", "livenessProbe"} <= set(container) for container in pod["containers"])


@pytest.mark.parametrize(("pod", "labels"), POD_SPECS)
def test_what_pods_mount_exists(pod, labels):
    owner = [item for item in RESOURCES if pod in [made for made, _ in pods(item)]]
    made = {claim["metadata"]["name"] for item in owner for claim in item["spec"].get("volumeClaimTemplates", [])}
    claims = {item["metadata"]["name"] for item in RESOURCES if item["kind"] == "PersistentVolumeClaim"}
    volumes = {volume["name"] for volume in pod.get("volumes", [])} | made
    for volume in pod.get("volumes", []):
        assert volume.get("persistentVolumeClaim", {"claimName": "lab"})["claimName"] in claims
    for container in pod["containers"] + pod.get("initContainers", []):
        assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes


def variables(pod: Resource) -> dict[str, Resource]:
    return {item["name"]: item for container in pod["containers"] for item in container.get("env", [])}


@pytest.mark.parametrize(("pod", "labels"), POD_SPECS)
def test_secrets_are_referred_to_and_not_contained(pod, labels):
    lines = (ROOT / "infra" / ".env.example").read_text().splitlines()
    keys = {line.removesuffix("=") for line in lines if line.endswith("=") and not line.startswith("#")}
    for name, item in variables(pod).items():
        reference = item.get("valueFrom", {}).get("secretKeyRef")
        if reference:
            assert reference["name"] == "sgcldff"
            assert reference["key"] in keys
        elif not re.search(r"_SECRET_(NAME|KEY)$", name):
            assert not CONFIDENTIAL.search(name), name


def test_no_secret_and_no_schedule_is_defined():
    assert not {item["kind"] for item in RESOURCES} & {"Secret", "CronJob"}


@pytest.mark.parametrize("name", ["mlflow", "prefect-server", "worker", "postgres", "s3"])
def test_servers_are_told_the_same_as_in_compose(name):
    (pod,) = [pod for item in RESOURCES if item["metadata"]["name"] == name for pod, _ in pods(item)]
    there, here = SERVICES[name].get("environment", {}), variables(pod)
    own = {"PREFECT_WORKER_WEBSERVER_HOST", "PGDATA"}
    assert set(here) - own == set(there) - own
    literal = {key: item["value"] for key, item in here.items() if "value" in item and key not in own}
    assert literal == {key: there[key] for key in literal}
    container = pod["containers"][0]
    assert container.get("args") == SERVICES[name].get("command")


def test_services_lead_to_pods_and_ports():
    made = [(pod, labels) for item in RESOURCES for pod, labels in pods(item)]
    for item in RESOURCES:
        if item["kind"] != "Service":
            continue
        (pod,) = [pod for pod, labels in made if item["spec"]["selector"].items() <= labels.items()]
        open_ports = {port["containerPort"] for container in pod["containers"] for port in container["ports"]}
        assert {port["port"] for port in item["spec"]["ports"]} <= open_ports, named(item)


def test_policies_name_pods_that_exist():
    labels = {label.get("app.kubernetes.io/name") for item in RESOURCES for _, label in pods(item)}
    text = (FOLDER / "base" / "network.yaml").read_text()
    named_there = re.findall(r"app\.kubernetes\.io/name: ([\w-]+)", text)
    for group in re.findall(r"app\.kubernetes\.io/name, operator: In, values: \[([^]]+)\]", text):
        named_there += group.split(", ")
    assert set(named_there) <= labels
    assert {"postgres", "s3", "mlflow", "prefect-server"} <= set(named_there)


@pytest.mark.parametrize("folder", ["base", "jobs"])
def test_kustomizations_name_every_manifest(folder):
    listed = yaml.safe_load((FOLDER / folder / "kustomization.yaml").read_text())["resources"]
    files = {path.name for path in (FOLDER / folder).glob("*.yaml")} - {"kustomization.yaml"}
    assert {name for name in listed if not name.startswith("..")} == files
    assert all((FOLDER / folder / name).exists() for name in listed)
