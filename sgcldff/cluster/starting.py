"""Clusters of each kind, started and ended."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import singledispatch
from typing import Any

from dask.system import CPU_COUNT
from dask.utils import parse_bytes
from distributed import Nanny, Scheduler, SpecCluster
from distributed.system import MEMORY_LIMIT

from sgcldff.cluster.mapping import GPU
from sgcldff.cluster.specs import CudaSpec, Devices, KubernetesSpec, LocalSpec, SlurmSpec, gpus_here
from sgcldff.errors import InputError
from sgcldff.specs import require

LOOPBACK = "127.0.0.1"
DASHBOARD = f"{LOOPBACK}:0"

SCHEDULER_SETTINGS: dict[str, object] = {
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.dashboard.tasks.task-stream-length": 10_000,
}
"""A worker is sent one task a thread: what waits is held back, and is not blamed when the worker dies. The dashboard's
memory is bounded."""

WORKER_SETTINGS: dict[str, object] = {
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
}
"""Results are small, so that spilling them frees nothing, and a paused worker would wait for ever for memory that its
model holds. A worker that exceeds its share is ended."""

WORKER_ENVIRONMENT = {"OPENCV_FOR_THREADS_NUM": "1"}
"""Workers are as many as cores: OpenCV is kept from starting as many threads again in each."""

SETTINGS = (
    SCHEDULER_SETTINGS
    | WORKER_SETTINGS
    | {f"distributed.nanny.pre-spawn-environ.{name}": value for name, value in WORKER_ENVIRONMENT.items()}
)
"""Dask's settings for clusters whose scheduler or workers are started from this process."""


def environment() -> dict[str, str]:
    """Give the environment of workers that are started elsewhere, where this process's settings are not known."""
    settings = {f"DASK_{_variable(name)}": str(value) for name, value in WORKER_SETTINGS.items()}
    return settings | WORKER_ENVIRONMENT


def _variable(setting: str) -> str:
    return setting.upper().replace(".", "__").replace("-", "_")


@singledispatch
def started(spec: Any) -> AbstractContextManager[Any]:
    """Start the cluster that a spec describes, and end it with the block.

    Raises
    ------
    InputError
        If a library is missing.
    ServiceError
        If Slurm or Kubernetes refuses.
    """
    raise InputError(f"{spec!r} is no cluster that can be started")


@started.register
def _(spec: LocalSpec) -> AbstractContextManager[Any]:
    total = spec.workers or CPU_COUNT
    devices = _devices(spec)
    scheduler = {"host": LOOPBACK, "port": 0, "dashboard_address": DASHBOARD, "dashboard": True}
    cluster: AbstractContextManager[Any] = SpecCluster(
        workers={
            index: {"cls": Nanny, "options": _local_worker(spec, index, total, devices)} for index in range(total)
        },
        scheduler={"cls": Scheduler, "options": scheduler},
        silence_logs=logging.ERROR,
    )
    return cluster


def _devices(spec: LocalSpec) -> Devices:
    shown = gpus_here()
    wanted = len(shown) if spec.gpus is None else spec.gpus
    require(wanted <= len(shown), f"gpus is {wanted}: this machine shows {len(shown)}")
    return shown[:wanted]


def _local_worker(spec: LocalSpec, index: int, total: int, devices: Devices) -> dict[str, Any]:
    gpu = devices[index : index + 1]
    return {
        "host": LOOPBACK,
        "nthreads": spec.threads,
        "memory_limit": spec.memory or MEMORY_LIMIT // total,
        "resources": {GPU: 1} if gpu else {},
        "env": {"CUDA_VISIBLE_DEVICES": ",".join(gpu)} if devices else {},
        "silence_logs": logging.ERROR,
    }


@started.register
def _(spec: CudaSpec) -> AbstractContextManager[Any]:
    cluster: AbstractContextManager[Any] = _library("dask_cuda", "gpu").LocalCUDACluster(
        CUDA_VISIBLE_DEVICES=spec.devices,
        n_workers=spec.workers,
        threads_per_worker=1,
        memory_limit=spec.memory or "auto",
        host=LOOPBACK,
        dashboard_address=DASHBOARD,
        resources={GPU: 1},
        silence_logs=logging.ERROR,
    )
    return cluster


@started.register
@contextmanager
def _(spec: SlurmSpec) -> Iterator[Any]:
    with _library("dask_jobqueue", "cluster").SLURMCluster(**slurm_options(spec)) as cluster:
        cluster.adapt(minimum_jobs=spec.jobs, maximum_jobs=spec.max_jobs or spec.jobs)
        yield cluster


def slurm_options(spec: SlurmSpec) -> dict[str, Any]:
    """Translate a spec into the arguments of `dask_jobqueue.SLURMCluster`."""
    workers = spec.workers_per_job
    offer = ["--resources", f"{GPU}=1"] if spec.gres else []
    return {
        "cores": workers,
        "job_cpu": spec.cores,
        "processes": workers,
        "memory": spec.memory,
        "queue": spec.queue,
        "account": spec.account,
        "walltime": spec.walltime,
        "interface": spec.interface,
        "python": spec.python,
        "job_name": "sgcldff",
        "log_directory": spec.log_folder,
        "job_extra_directives": [*([f"--gres={spec.gres}"] if spec.gres else []), *spec.directives],
        "job_script_prologue": [*(f"export {key}={value}" for key, value in environment().items()), *spec.prologue],
        "worker_extra_args": ["--dashboard-address", DASHBOARD, *offer],
        "scheduler_options": {"dashboard_address": DASHBOARD},
    }


@started.register
@contextmanager
def _(spec: KubernetesSpec) -> Iterator[Any]:
    operator = _library("dask_kubernetes.operator", "cluster")
    resource = dask_cluster(spec)
    with operator.KubeCluster(custom_cluster_spec=resource, namespace=spec.namespace, quiet=True) as cluster:
        if spec.max_workers is not None:
            cluster.adapt(minimum=spec.workers, maximum=spec.max_workers)
        yield cluster


def dask_cluster(spec: KubernetesSpec) -> dict[str, Any]:
    """Translate a spec into the `DaskCluster` resource that the operator is sent."""
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
    settings = {f"DASK_{_variable(name)}": str(value) for name, value in SCHEDULER_SETTINGS.items()}
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


def _library(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"this kind of cluster needs {module}: pip install 'sgcldff[{extra}]'") from error
