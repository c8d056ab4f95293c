"""Which cluster is meant: none named, a scheduler's address, or a cluster file.

A cluster file is TOML. Its `kind` is `local`, `slurm`, `kubernetes` or `cuda`; the other keys are the fields of that
kind's spec:

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
from typing import Any

from dask.utils import parse_bytes
from pydantic import TypeAdapter, ValidationError

from sgcldff.core.errors import InputError
from sgcldff.core.settings import require

Devices = tuple[str, ...]


@dataclass(frozen=True)
class SchedulerSpec:
    """A scheduler that runs already, with whatever workers it has."""

    address: str
    """Such as `tcp://host:8786`."""
    patience_s: float = 60.0
    """How long the first worker may take to come, s."""


@dataclass(frozen=True)
class LocalSpec:
    """Processes on this machine, with all ports on 127.0.0.1."""

    workers: int | None = None
    """Worker processes; None: one a core."""
    threads: int = 1
    """Tasks that a worker runs at once."""
    memory: str | None = None
    """Memory beyond which a worker is ended and its task tried again, such as "4 GB"; None: an equal share each."""
    gpus: int | None = None
    """GPUs to use; the first workers get one each. None: all that this machine shows."""
    patience_s: float = 60.0
    """How long the first worker may take to come, s."""

    def __post_init__(self) -> None:
        require(self.workers is None or self.workers >= 1, f"workers is {self.workers}: must be at least 1")
        require(self.threads >= 1, f"threads is {self.threads}: must be at least 1")
        require(self.gpus is None or self.gpus >= 0, f"gpus is {self.gpus}: must be at least 0")
        _require_bytes(self.memory)


@dataclass(frozen=True)
class CudaSpec:
    """A worker for each GPU of this machine, placed by dask-cuda."""

    workers: int | None = None
    """Worker processes; None: one a GPU."""
    devices: str | None = None
    """GPUs to use, as in CUDA_VISIBLE_DEVICES: "0,1"; None: all."""
    memory: str | None = None
    """Main memory beyond which a worker is ended, such as "16 GB"; None: an equal share each."""
    patience_s: float = 120.0
    """How long the first worker may take to come, s."""

    def __post_init__(self) -> None:
        require(self.workers is None or self.workers >= 1, f"workers is {self.workers}: must be at least 1")
        _require_bytes(self.memory)


@dataclass(frozen=True)
class SlurmSpec:
    """Jobs that are submitted to Slurm, each with workers, while the scheduler runs beside the command."""

    cores: int
    """Cores of a job."""
    memory: str
    """Memory of a job, shared equally by its workers, such as "32 GB"."""
    interface: str
    """Network interface on which scheduler and workers listen, such as "ib0"; only the cluster should reach it."""
    processes: int | None = None
    """Workers of a job, each with one task at a time; None: one a core, and one where `gres` is given."""
    jobs: int = 1
    """Jobs that are kept running; one that ends is submitted again."""
    max_jobs: int | None = None
    """Up to this many jobs while there is work for them; None: `jobs`."""
    queue: str | None = None
    """Partition."""
    account: str | None = None
    walltime: str = "04:00:00"
    """After this a job is ended by Slurm; its tasks run again elsewhere."""
    gres: str | None = None
    """What a job asks for so that it has one GPU, such as "gpu:1" or "gpu:a100:1"."""
    directives: tuple[str, ...] = ()
    """Further options of sbatch, such as "--constraint=avx512"."""
    prologue: tuple[str, ...] = ()
    """Lines of shell that a job runs first, such as "module load cuda"."""
    python: str | None = None
    """Python of the workers; None: the one that runs the command."""
    log_folder: str | None = None
    """Folder for the output of the jobs; None: where Slurm puts it."""
    patience_s: float = 3600.0
    """How long the first job may wait in the queue, s."""

    def __post_init__(self) -> None:
        require(self.cores >= 1, f"cores is {self.cores}: must be at least 1")
        _require_range("jobs", self.jobs, self.max_jobs)
        share = self.processes is None or 1 <= self.processes <= self.cores
        require(share, f"processes is {self.processes}: give 1 to {self.cores}, the number of cores")
        single = self.gres is None or self.processes in (None, 1)
        require(single, f"processes is {self.processes} with gres {self.gres!r}: a job with a GPU has one worker")
        _require_bytes(self.memory)

    @property
    def workers_per_job(self) -> int:
        """Workers of a job."""
        return self.processes or (1 if self.gres else self.cores)


@dataclass(frozen=True)
class KubernetesSpec:
    """Pods that the Dask operator starts on Kubernetes: one with the scheduler and one a worker."""

    image: str
    """Image of scheduler and workers, with this package, Dask and Python of the same versions as here."""
    name: str = "sgcldff"
    """Name of the DaskCluster resource."""
    namespace: str = "default"
    workers: int = 1
    max_workers: int | None = None
    """Up to this many workers while there is work for them; None: `workers`."""
    cores: int = 1
    """Cores of a worker."""
    memory: str = "4 GiB"
    """Memory beyond which a worker is ended."""
    gpu: bool = False
    """Whether a worker has a GPU (`nvidia.com/gpu`)."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the workers."""
    volumes: Mapping[str, str] = field(default_factory=dict)
    """Names of persistent volume claims by the folder at which the workers see them."""
    patience_s: float = 1800.0
    """How long the first worker may take to come, s."""

    def __post_init__(self) -> None:
        require(self.cores >= 1, f"cores is {self.cores}: must be at least 1")
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
    require(least >= 1, f"{name} is {least}: must be at least 1")
    require(most is None or most >= least, f"max_{name} is {most}: must be at least {name}, which is {least}")


def _require_bytes(memory: str | None) -> None:
    try:
        require(memory is None or parse_bytes(memory) >= 2**26, f"memory is {memory!r}: must be at least 64 MiB")
    except ValueError as error:
        raise InputError(f'memory is {memory!r} ({error}): write it as "4 GB"') from error


def cluster_of(text: str | None) -> ClusterSpec:
    """Tell which cluster a word of the command line means.

    Parameters
    ----------
    text
        None for this machine, the address of a scheduler (`tcp://host:8786`), or the path of a cluster file.

    Raises
    ------
    InputError
        If `text` is neither, or the file is not understood; the message names the file and the key.
    """
    if text is None:
        return LocalSpec()
    if "://" in text:
        return SchedulerSpec(text)
    if not Path(text).is_file():
        raise InputError(
            f"cluster {text!r} is neither a file nor a scheduler's address: write an address as tcp://host:8786"
        )
    return _read(Path(text))


def _read(path: Path) -> ClusterSpec:
    try:
        stated = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML ({error})") from error
    kind = stated.pop("kind", None)
    if kind not in KINDS:
        raise InputError(f"{path}: kind is {kind!r}: must be one of {', '.join(KINDS)}")
    known = {item.name for item in fields(KINDS[kind])}
    if unknown := sorted(set(stated) - known):
        raise InputError(f"{path}: unknown {', '.join(unknown)}; a {kind} cluster has {', '.join(sorted(known))}")
    return _validated(path, KINDS[kind], stated)


def _validated(path: Path, kind: type[ClusterSpec], stated: dict[str, Any]) -> ClusterSpec:
    try:
        return TypeAdapter(kind).validate_python(stated)
    except ValidationError as error:
        lines = [": ".join([*map(str, item["loc"]), item["msg"]]) for item in error.errors()]
        raise InputError(f"{path}: {'; '.join(lines)}") from error


def resized(spec: ClusterSpec, workers: int) -> ClusterSpec:
    """Ask for another number of workers; a scheduler that runs already keeps those that it has.

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
    """Name the GPUs that this machine shows, as CUDA_VISIBLE_DEVICES names them; looks at no driver."""
    stated = os.environ.get("CUDA_VISIBLE_DEVICES")
    if stated is not None:
        return tuple(name for name in stated.split(",") if name.strip() not in ("", "-1"))
    return tuple(str(index) for index in range(len(list(Path("/dev").glob("nvidia[0-9]*")))))
