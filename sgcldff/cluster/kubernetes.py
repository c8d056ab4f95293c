"""Clusters of pods that the Dask operator starts on Kubernetes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dask.utils import parse_bytes

from sgcldff.cluster.bounded_map import GPU
from sgcldff.cluster.config import KubernetesSpec
from sgcldff.cluster.dask_settings import DASHBOARD, SCHEDULER_SETTINGS, environment, variable
from sgcldff.core.errors import ServiceError


@contextmanager
def kubernetes_cluster(spec: KubernetesSpec, cluster_class: Callable[..., Any]) -> Iterator[Any]:
    """Let the operator start a cluster, and delete it after the block.

    Parameters
    ----------
    cluster_class
        `dask_kubernetes.operator.KubeCluster`.

    Raises
    ------
    ServiceError
        If Kubernetes does not start it.
    """
    try:
        pods = cluster_class(custom_cluster_spec=dask_cluster(spec), namespace=spec.namespace, quiet=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise ServiceError(f"Kubernetes did not start the cluster {spec.namespace}/{spec.name}: {error}") from error
    with pods as cluster:
        if spec.max_workers is not None:
            cluster.adapt(minimum=spec.workers, maximum=spec.max_workers)
        yield cluster


def dask_cluster(spec: KubernetesSpec) -> dict[str, Any]:
    """Return the `DaskCluster` resource for a spec."""
    return {
        "apiVersion": "kubernetes.dask.org/v1",
        "kind": "DaskCluster",
        "metadata": {"name": spec.name},
        "spec": {"worker": _worker_pods(spec), "scheduler": _scheduler_pod(spec)},
    }


def _worker_pods(spec: KubernetesSpec) -> dict[str, Any]:
    memory = str(parse_bytes(spec.memory))
    offer = ["--resources", f"{GPU}=1"] if spec.gpu else []
    limits = {"cpu": str(spec.cores), "memory": memory} | ({"nvidia.com/gpu": "1"} if spec.gpu else {})
    command = ["dask", "worker", "--name", "$(DASK_WORKER_NAME)", "--nthreads", "1", "--memory-limit", memory]
    volumes = {f"volume-{number}": (folder, claim) for number, (folder, claim) in enumerate(spec.volumes.items())}
    container = {
        "name": "worker",
        "image": spec.image,
        "args": [*command, "--dashboard-address", DASHBOARD, *offer],
        "env": [{"name": name, "value": value} for name, value in (environment() | dict(spec.env)).items()],
        "resources": {"limits": limits, "requests": limits},
        "volumeMounts": [{"name": name, "mountPath": folder} for name, (folder, _) in volumes.items()],
    }
    claims = [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for name, (_, claim) in volumes.items()]
    return {"replicas": spec.workers, "spec": {"containers": [container], "volumes": claims}}


def _scheduler_pod(spec: KubernetesSpec) -> dict[str, Any]:
    ports = {"tcp-comm": 8786, "http-dashboard": 8787}
    settings = {f"DASK_{variable(name)}": str(value) for name, value in SCHEDULER_SETTINGS.items()}
    container = {
        "name": "scheduler",
        "image": spec.image,
        "args": ["dask", "scheduler", "--host", "0.0.0.0"],  # noqa: S104 - of its pod, which the workers' pods reach
        "env": [{"name": name, "value": value} for name, value in settings.items()],
        "ports": [{"name": name, "containerPort": port, "protocol": "TCP"} for name, port in ports.items()],
        "readinessProbe": {"httpGet": {"port": "http-dashboard", "path": "/health"}, "periodSeconds": 1},
        "livenessProbe": {"httpGet": {"port": "http-dashboard", "path": "/health"}, "initialDelaySeconds": 15},
    }
    service = {
        "type": "ClusterIP",
        "selector": {"dask.org/cluster-name": spec.name, "dask.org/component": "scheduler"},
        "ports": [{"name": name, "protocol": "TCP", "port": port, "targetPort": name} for name, port in ports.items()],
    }
    return {"spec": {"containers": [container]}, "service": service}
