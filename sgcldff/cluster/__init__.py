"""Dask: where tasks run, bounded submission, and objects that are loaded once a worker process.

The only package that imports `dask` or `distributed`.
"""

from sgcldff.cluster.connecting import Client, connect, versions_at
from sgcldff.cluster.loading import load_once, loaded
from sgcldff.cluster.mapping import gpu_share, map_bounded, threads
from sgcldff.cluster.specs import (
    ClusterSpec,
    CudaSpec,
    KubernetesSpec,
    LocalSpec,
    SchedulerSpec,
    SlurmSpec,
    cluster_of,
    gpus_here,
)

__all__ = [
    "Client",
    "ClusterSpec",
    "CudaSpec",
    "KubernetesSpec",
    "LocalSpec",
    "SchedulerSpec",
    "SlurmSpec",
    "cluster_of",
    "connect",
    "gpu_share",
    "gpus_here",
    "load_once",
    "loaded",
    "map_bounded",
    "threads",
    "versions_at",
]
