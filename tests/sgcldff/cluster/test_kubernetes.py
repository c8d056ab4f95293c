"""The resource that the operator is sent, and what stands around it; no Kubernetes is needed."""

import sys
from types import SimpleNamespace

import pytest
from distributed import LocalCluster

from sgcldff.cluster import KubernetesSpec, connect, gpu_share, map_bounded
from sgcldff.cluster.kubernetes import dask_cluster
from sgcldff.core.errors import ServiceError

SPEC = KubernetesSpec(
    "registry.example.org/sgcldff:1", workers=3, max_workers=7, cores=2, memory="2 GiB", gpu=True, env={"A": "b"},
    volumes={"/data": "slides", "/models": "models"},
)  # fmt: skip


@pytest.fixture
def stand_in(monkeypatch):
    """A stand-in for KubeCluster that records its calls, with one real worker."""
    calls = []

    class KubeCluster(LocalCluster):
        def __init__(self, custom_cluster_spec, namespace, quiet):
            calls.append((custom_cluster_spec, namespace, quiet))
            super().__init__(n_workers=1, threads_per_worker=1, resources={"GPU": 1}, dashboard_address="127.0.0.1:0")

        def adapt(self, minimum, maximum):
            calls.append((minimum, maximum))

        def close(self, timeout=None):
            calls.append("deleted")
            return super().close(timeout)

    monkeypatch.setitem(sys.modules, "dask_kubernetes", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "dask_kubernetes.operator", SimpleNamespace(KubeCluster=KubeCluster))
    return calls


def test_workers_match_the_spec():
    resource = dask_cluster(SPEC)
    (worker,) = resource["spec"]["worker"]["spec"]["containers"]
    args, env = worker["args"], {item["name"]: item["value"] for item in worker["env"]}

    assert (resource["kind"], resource["metadata"]) == ("DaskCluster", {"name": "sgcldff"})
    assert resource["spec"]["worker"]["replicas"] == 3
    assert worker["image"] == SPEC.image
    assert worker["resources"]["limits"] == {"cpu": "2", "memory": str(2 << 30), "nvidia.com/gpu": "1"}
    assert args[args.index("--memory-limit") + 1] == str(2 << 30)
    assert args[args.index("--resources") + 1] == "GPU=1"
    assert args[args.index("--nthreads") + 1] == "1"
    assert (env["A"], env["DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE"]) == ("b", "False")


def test_every_volume_is_mounted_where_the_spec_says():
    pod = dask_cluster(SPEC)["spec"]["worker"]["spec"]
    claims = {volume["name"]: volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"]}
    mounts = {mount["mountPath"]: claims[mount["name"]] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts == SPEC.volumes


def test_the_service_leads_to_the_scheduler_of_this_cluster():
    scheduler = dask_cluster(SPEC)["spec"]["scheduler"]
    opened = {port["name"]: port["containerPort"] for port in scheduler["spec"]["containers"][0]["ports"]}
    assert scheduler["service"]["selector"]["dask.org/cluster-name"] == SPEC.name
    assert {port["targetPort"]: port["port"] for port in scheduler["service"]["ports"]} == opened


def test_a_worker_without_gpu_offers_none():
    (worker,) = dask_cluster(KubernetesSpec("i"))["spec"]["worker"]["spec"]["containers"]
    assert "--resources" not in worker["args"]
    assert "nvidia.com/gpu" not in worker["resources"]["limits"]


def test_the_operator_starts_and_deletes_the_cluster(stand_in):
    with connect(SPEC) as client:
        assert dict(map_bounded(client, abs, [-1], resources=gpu_share(client))) == {-1: 1}
    assert stand_in[:2] == [(dask_cluster(SPEC), "default", True), (3, 7)]
    assert stand_in[-1] == "deleted"


def test_a_missing_kubernetes_is_a_service_error(monkeypatch, stand_in):
    def refuse(**_):
        raise ValueError("Unable to find valid credentials")

    monkeypatch.setattr(sys.modules["dask_kubernetes.operator"], "KubeCluster", refuse)
    with pytest.raises(ServiceError, match="default/sgcldff: Unable to find valid credentials"), connect(SPEC):
        pass
