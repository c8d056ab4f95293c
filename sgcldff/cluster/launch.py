"""Starting and closing of clusters of each kind."""

import importlib
import os
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import singledispatch
from multiprocessing import resource_tracker
from typing import Any

import dask
from dask.system import CPU_COUNT
from distributed import Nanny, Scheduler, Security, SpecCluster
from distributed.system import MEMORY_LIMIT
from distributed.utils import LoopRunner
from tornado.ioloop import IOLoop

from sgcldff.cluster.bounded_map import GPU
from sgcldff.cluster.config import CudaSpec, Devices, KubernetesSpec, LocalSpec, SlurmSpec, gpus_here
from sgcldff.cluster.dask_settings import DASHBOARD, LOG_LEVEL, LOOPBACK, TLS
from sgcldff.cluster.kubernetes import kubernetes_cluster
from sgcldff.cluster.slurm import slurm_cluster
from sgcldff.core.errors import InputError
from sgcldff.core.settings import require


@singledispatch
def start_cluster(spec: Any) -> AbstractContextManager[Any]:
    """Start the cluster that a spec describes, and close it after the block.

    Raises
    ------
    InputError
        If a library is missing.
    ServiceError
        If Slurm or Kubernetes refuses.
    """
    raise InputError(f"{spec!r} is not a cluster that can be started")


@start_cluster.register
@contextmanager
def _(spec: LocalSpec) -> Iterator[Any]:
    total, visible = spec.workers or CPU_COUNT, gpus_here()
    count = len(visible) if spec.gpus is None else spec.gpus
    require(count <= len(visible), f"gpus is {count}: this machine shows {len(visible)}")
    devices = visible[:count]
    tls = {"protocol": TLS, "security": Security.temporary()}
    scheduler = {"host": LOOPBACK, "port": 0, "dashboard_address": DASHBOARD, "dashboard": True, **tls}
    options = [_local_worker(spec, index, total, devices) | tls for index in range(total)]
    with (
        uninterrupted_loop() as loop,
        SpecCluster(
            workers={index: {"cls": Nanny, "options": one} for index, one in enumerate(options)},
            scheduler={"cls": Scheduler, "options": scheduler},
            security=tls["security"],
            loop=loop,
            silence_logs=LOG_LEVEL,
        ) as cluster,
    ):
        yield cluster


@contextmanager
def restored_environment() -> Iterator[None]:
    """Undo what a nanny sets for its workers in this process: programs started later would have only one thread."""
    names = (*dask.config.get("distributed.nanny.pre-spawn-environ"), "PYTHONHASHSEED", "__DASK_PARENT_PID")
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def uninterrupted_loop() -> Iterator[IOLoop]:
    """Run an event loop in a thread that does not receive Ctrl-C, nor do the processes that it starts.

    A terminal sends it to all of them: each would print a traceback, although this process ends its workers itself.
    """
    runner = LoopRunner()
    resource_tracker.ensure_running()  # would let Ctrl-C through to the worker whose thread starts it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        runner.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        yield runner.loop
    finally:
        runner.stop()


def _local_worker(spec: LocalSpec, index: int, total: int, devices: Devices) -> dict[str, Any]:
    gpu = devices[index : index + 1]
    return {
        "host": LOOPBACK,
        "nthreads": spec.threads,
        "memory_limit": spec.memory or MEMORY_LIMIT // total,
        "resources": {GPU: 1} if gpu else {},
        "env": {"CUDA_VISIBLE_DEVICES": ",".join(gpu)} if gpus_here() else {},
        "silence_logs": LOG_LEVEL,
    }


@start_cluster.register
def _(spec: CudaSpec) -> AbstractContextManager[Any]:
    cluster: AbstractContextManager[Any] = _library("dask_cuda", "gpu").LocalCUDACluster(
        CUDA_VISIBLE_DEVICES=spec.devices,
        n_workers=spec.workers,
        threads_per_worker=1,
        memory_limit=spec.memory or "auto",
        host=LOOPBACK,
        dashboard_address=DASHBOARD,
        resources={GPU: 1},
        protocol=TLS,
        security=Security.temporary(),
        silence_logs=LOG_LEVEL,
    )
    return cluster


@start_cluster.register
def _(spec: SlurmSpec) -> AbstractContextManager[Any]:
    return slurm_cluster(spec, _library("dask_jobqueue", "cluster").SLURMCluster)


@start_cluster.register
def _(spec: KubernetesSpec) -> AbstractContextManager[Any]:
    return kubernetes_cluster(spec, _library("dask_kubernetes.operator", "cluster").KubeCluster)


def _library(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"this kind of cluster needs {module}: pip install 'sgcldff[{extra}]'") from error
