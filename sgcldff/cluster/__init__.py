"""Dask clusters, bounded submission of tasks, and objects that are loaded once per worker process.

The only package that imports `dask` or `distributed`.
"""

from sgcldff.cluster.bounded_map import gpu_share, map_bounded, threads
from sgcldff.cluster.client import Client, connect, versions_at
from sgcldff.cluster.config import (
    ClusterSpec,
    CudaSpec,
    KubernetesSpec,
    LocalSpec,
    SchedulerSpec,
    SlurmSpec,
    cluster_of,
    gpus_here,
)
from sgcldff.cluster.worker_cache import load_once, loaded

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
