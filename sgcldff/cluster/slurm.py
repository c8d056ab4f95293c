"""Workers in Slurm jobs."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from distributed import Security
from tornado.ioloop import PeriodicCallback

from sgcldff.cluster.bounded_map import GPU
from sgcldff.cluster.config import SlurmSpec
from sgcldff.cluster.dask_settings import DASHBOARD, LOG_LEVEL, TLS, environment
from sgcldff.core.errors import InputError, ServiceError

REPLACEMENT_GRACE_S = 30.0
"""Time without workers after which a job counts as ended, s; a nanny needs some of it to replace a worker."""


@contextmanager
def slurm_cluster(spec: SlurmSpec, cluster_class: Callable[..., Any]) -> Iterator[Any]:
    """Keep jobs with workers running during the block, and cancel them afterwards.

    Parameters
    ----------
    cluster_class
        `dask_jobqueue.SLURMCluster`.

    Raises
    ------
    InputError
        If this machine lacks `sbatch` or the network interface.
    ServiceError
        If Slurm refuses the job.
    """
    try:
        cluster = cluster_class(**slurm_options(spec))
    except (RuntimeError, ValueError) as error:
        raise InputError(f"a cluster in Slurm: {error}; correct the cluster file") from error
    replace = PeriodicCallback(_Replacement(cluster), 1000 * REPLACEMENT_GRACE_S / 10)
    try:
        check_job(cluster.job_script())
        cluster.adapt(minimum_jobs=spec.jobs, maximum_jobs=spec.max_jobs or spec.jobs)
        cluster.loop.add_callback(replace.start)
        yield cluster
    finally:
        cluster.loop.add_callback(replace.stop)
        with suppress(AssertionError):  # Dask's, about a job that Slurm refused later: there is nothing to cancel
            cluster.close()


def check_job(script: str) -> None:
    """Check that Slurm would accept a job, without submitting it."""
    try:
        process = subprocess.run(["sbatch", "--test-only"], input=script, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise InputError("there is no sbatch: start this command on a machine that submits to Slurm") from error
    if process.returncode:
        raise ServiceError(f"Slurm refuses the job: {process.stderr.strip()}; correct the cluster file")


class _Replacement:
    """Removes jobs whose workers are gone (walltime, a lost node), so that adaptive scaling submits new ones."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.seen: dict[str, float] = {}

    async def __call__(self) -> None:
        now = time.monotonic()
        names = [str(worker["name"]) for worker in self.cluster.scheduler_info["workers"].values()]
        for job in list(self.cluster.worker_spec):
            if any(name == job or name.startswith(f"{job}-") for name in names):
                self.seen[job] = now
            elif now > self.seen.get(job, now) + REPLACEMENT_GRACE_S:
                del self.cluster.worker_spec[job], self.seen[job]
                if (ended := self.cluster.workers.pop(job, None)) is not None:
                    await ended.close()


def slurm_options(spec: SlurmSpec) -> dict[str, Any]:
    """Return the arguments of `dask_jobqueue.SLURMCluster` for a spec."""
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
        "protocol": TLS,
        "security": Security.temporary(),
        "shared_temp_directory": str(Path.cwd()),
        "silence_logs": LOG_LEVEL,
    }
