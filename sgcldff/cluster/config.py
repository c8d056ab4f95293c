"""Specification of a cluster: this machine, a scheduler's address, or a cluster file.

A cluster file is TOML. Its `kind` is `local`, `slurm`, `kubernetes` or `cuda`; the other keys are the fields of the
corresponding spec:

    kind = "slurm"
    cores = 8
    memory = "32 GB"
    interface = "ib0"
    max_jobs = 20
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval
from dask.utils import parse_bytes

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError
from sgcldff.core.settings import Count, require
from sgcldff.core.validation import Spec, validated

Devices = tuple[str, ...]
Seconds = Annotated[float, Interval(gt=0, le=1e7)]


@dataclass(frozen=True)
class SchedulerSpec(Spec):
    """A running scheduler, with the workers that it has."""

    address: str
    """Address such as `tcp://host:8786`, or `tls://host:8786` with certificates in Dask's settings."""
    patience_s: Seconds = 60.0
    """How long the first worker may take to join, s."""
    security: Any = field(default=None, repr=False, compare=False)
    """`distributed.Security` with the certificates of a cluster that this process started."""


@dataclass(frozen=True)
class LocalSpec(Spec):
    """Processes on this machine, with all ports on 127.0.0.1 and certificates that only they have."""

    workers: Count | None = None
    """Worker processes; None: one per core."""
    threads: Count = 1
    """Tasks that a worker runs at once."""
    memory: str | None = None
    """Memory limit at which a worker is terminated and its task retried, such as "4 GB"; None: an equal share each."""
    gpus: Annotated[int, Interval(ge=0, le=1024)] | None = None
    """Number of GPUs; the first workers get one each. None: all visible GPUs."""
    patience_s: Seconds = 60.0
    """How long the first worker may take to join, s."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_bytes(self.memory)


@dataclass(frozen=True)
class CudaSpec(Spec):
    """A worker for each GPU of this machine, placed by dask-cuda."""

    workers: Count | None = None
    """Worker processes; None: one per GPU."""
    devices: str | None = None
    """GPUs to use, as in CUDA_VISIBLE_DEVICES: "0,1"; None: all."""
    memory: str | None = None
    """Main memory limit at which a worker is terminated, such as "16 GB"; None: an equal share each."""
    patience_s: Seconds = 120.0
    """How long the first worker may take to join, s."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_bytes(self.memory)


@dataclass(frozen=True)
class SlurmSpec(Spec):
    """Slurm jobs with workers, while the scheduler runs beside the command."""

    cores: Count
    """Cores per job."""
    memory: str
    """Memory per job, shared equally by its workers, such as "32 GB"."""
    interface: str
    """Network interface on which scheduler and workers listen, such as "ib0"; only the cluster should reach it."""
    processes: Count | None = None
    """Workers per job, each with one task at a time; None: one per core, or one in all if `gres` is set."""
    jobs: Count = 1
    """Number of jobs to keep running; a job that ends is submitted again."""
    max_jobs: Count | None = None
    """Largest number of jobs while there is work for them; None: `jobs`."""
    queue: str | None = None
    """Partition."""
    account: str | None = None
    walltime: str = "04:00:00"
    """Time limit after which Slurm terminates a job; its tasks run again elsewhere."""
    gres: str | None = None
    """Slurm resource that gives a job one GPU, such as "gpu:1" or "gpu:a100:1"."""
    directives: tuple[str, ...] = ()
    """Further options of sbatch, such as "--constraint=avx512"."""
    prologue: tuple[str, ...] = ()
    """Shell commands that a job runs first, such as "module load cuda"."""
    python: str | None = None
    """Python of the workers; None: the one that runs the command."""
    log_folder: str | None = None
    """Folder for the output of the jobs; None: Slurm's default."""
    patience_s: Seconds = 3600.0
    """How long the first job may wait in the queue, s."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_range("jobs", self.jobs, self.max_jobs)
        fits = self.processes is None or 1 <= self.processes <= self.cores
        require(fits, f"processes is {self.processes}: must be 1 to {self.cores}, the number of cores")
        single = self.gres is None or self.processes in (None, 1)
        require(single, f"processes is {self.processes} with gres {self.gres!r}: a job with a GPU has one worker")
        _require_bytes(self.memory)

    @property
    def workers_per_job(self) -> int:
        """Workers per job."""
        return self.processes or (1 if self.gres else self.cores)


@dataclass(frozen=True)
class KubernetesSpec(Spec):
    """Pods that the Dask operator starts on Kubernetes: one for the scheduler and one per worker."""

    image: str
    """Image of scheduler and workers, with the same versions of this package, Dask and Python as here."""
    name: str = "sgcldff"
    """Name of the DaskCluster resource."""
    namespace: str = "default"
    workers: Count = 1
    max_workers: Count | None = None
    """Largest number of workers while there is work for them; None: `workers`."""
    cores: Count = 1
    """Cores per worker."""
    memory: str = "4 GiB"
    """Memory limit at which a worker is terminated."""
    gpu: bool = False
    """Whether a worker has a GPU (`nvidia.com/gpu`)."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the workers."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Mount path on the workers -> name of a persistent volume claim."""
    patience_s: Seconds = 1800.0
    """How long the first worker may take to join, s."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_range("workers", self.workers, self.max_workers)
        _require_bytes(self.memory)


ClusterSpec = SchedulerSpec | LocalSpec | CudaSpec | SlurmSpec | KubernetesSpec

KINDS: dict[str, type[ClusterSpec]] = {
    "local": LocalSpec,
    "slurm": SlurmSpec,
    "kubernetes": KubernetesSpec,
    "cuda": CudaSpec,
}


def _require_range(name: str, least: int, most: int | None) -> None:
    require(most is None or most >= least, f"max_{name} is {most}: must be at least {name}, which is {least}")


def _require_bytes(memory: str | None) -> None:
    try:
        require(memory is None or parse_bytes(memory) >= 2**26, f"memory is {memory!r}: must be at least 64 MiB")
    except ValueError as error:
        raise InputError(f'memory is {memory!r} ({error}): write it as "4 GB"') from error


def cluster_of(text: str | None) -> ClusterSpec:
    """Return the spec of a cluster given on the command line.

    Parameters
    ----------
    text
        None for this machine, the address of a scheduler (`tcp://host:8786`), or the path of a cluster file.

    Raises
    ------
    InputError
        If `text` is none of these, or the file is invalid; the message names the file and the key.
    """
    if text is None:
        return LocalSpec()
    if "://" in text:
        return SchedulerSpec(text)
    if not Path(text).is_file():
        raise InputError(
            f"cluster {text!r} is neither a file nor a scheduler's address: write an address as tcp://host:8786"
        )
    return _read_cluster_file(Path(text))


def _read_cluster_file(path: Path) -> ClusterSpec:
    with reading(path, "not TOML", "see the examples in infra"):
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    kind = settings.pop("kind", None)
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{path}: kind is {kind!r}: must be one of {', '.join(KINDS)}")
    known = {item.name for item in fields(KINDS[kind])}
    if unknown := sorted(set(settings) - known):
        raise InputError(f"{path}: unknown {', '.join(unknown)}; a {kind} cluster has {', '.join(sorted(known))}")
    return validated(KINDS[kind], settings, str(path))


def resized(spec: ClusterSpec, workers: int) -> ClusterSpec:
    """Return the spec with another number of workers; a running scheduler keeps its workers.

    Raises
    ------
    InputError
        If `workers` is below 1.
    """
    require(workers >= 1, f"workers is {workers}: must be at least 1")
    if isinstance(spec, SchedulerSpec):
        return spec
    if isinstance(spec, SlurmSpec):
        return replace(spec, jobs=-(-workers // spec.workers_per_job), max_jobs=None)
    if isinstance(spec, KubernetesSpec):
        return replace(spec, workers=workers, max_workers=None)
    return replace(spec, workers=workers)


def gpus_here() -> Devices:
    """Return the visible GPUs of this machine, named as in CUDA_VISIBLE_DEVICES, without using a driver."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name for name in visible.split(",") if name.strip() not in ("", "-1"))
    return tuple(str(index) for index in range(len(list(Path("/dev").glob("nvidia[0-9]*")))))
