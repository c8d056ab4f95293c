"""What `--cluster` understands: nothing, an address, a cluster file, and mistakes that are named."""

from pathlib import Path

import pytest

from sgcldff.cluster import (
    CudaSpec,
    KubernetesSpec,
    LocalSpec,
    SchedulerSpec,
    SlurmSpec,
    cluster_of,
    connect,
    gpus_here,
)
from sgcldff.cluster.config import resized
from sgcldff.core.errors import InputError

INFRA = Path(__file__).parents[2] / "infra"
SLURM = 'kind = "slurm"\ncores = 8\nmemory = "32 GB"\ninterface = "ib0"\n'


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "cluster.toml"
        path.write_text(text)
        return str(path)

    return write


def test_nothing_means_this_machine_and_an_address_a_scheduler():
    assert cluster_of(None) == LocalSpec()
    assert cluster_of("tls://node-1:8786") == SchedulerSpec("tls://node-1:8786")


def test_a_file_is_read_into_the_spec_of_its_kind(file):
    assert cluster_of(file('kind = "local"\nworkers = 3\nmemory = "2 GB"')) == LocalSpec(workers=3, memory="2 GB")
    assert cluster_of(file('kind = "cuda"\ndevices = "0,1"')) == CudaSpec(devices="0,1")
    read = cluster_of(file(SLURM + 'max_jobs = 4\nprologue = ["module load cuda"]'))
    assert read == SlurmSpec(8, "32 GB", "ib0", max_jobs=4, prologue=("module load cuda",))
    read = cluster_of(file('kind = "kubernetes"\nimage = "i:1"\n[volumes]\n"/data" = "slides"'))
    assert read == KubernetesSpec("i:1", volumes={"/data": "slides"})


@pytest.mark.parametrize("example", sorted(INFRA.glob("*/cluster.toml")), ids=lambda path: path.parent.name)
def test_the_example_files_are_valid(example):
    kinds = {"slurm": SlurmSpec, "kubernetes": KubernetesSpec, "gpu": CudaSpec}
    assert isinstance(cluster_of(str(example)), kinds[example.parent.name])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "kind is None: must be one of local, slurm, kubernetes, cuda"),
        ('kind = "pbs"', "kind is 'pbs'"),
        ("kind = ", "not TOML"),
        ('kind = "local"\nworker = 3', "unknown worker; a local cluster has"),
        ('kind = "local"\nworkers = "many"', "workers is 'many': must be a valid integer"),
        ('kind = "local"\nworkers = 0', "workers is 0: must be greater than or equal to 1"),
        ('kind = "local"\nmemory = "4 elephants"', "memory is '4 elephants' .*write it as \"4 GB\""),
        ('kind = "local"\nmemory = "4"', "memory is '4': must be at least 64 MiB"),
        ('kind = "slurm"\ncores = 4', "memory: "),
        (SLURM + "processes = 9", "processes is 9: must be 1 to 8"),
        (SLURM + 'gres = "gpu:1"\nprocesses = 2', "a job with a GPU has one worker"),
        (SLURM + "jobs = 3\nmax_jobs = 2", "max_jobs is 2: must be at least jobs, which is 3"),
        ('kind = "kubernetes"\nimage = "i"\ncores = 0', "cores is 0"),
    ],
)
def test_a_mistake_is_named_with_its_file_and_key(file, text, named):
    with pytest.raises(InputError, match=rf"cluster\.toml: .*{named}"):
        cluster_of(file(text))


def test_a_missing_file_is_named():
    with pytest.raises(InputError, match=r"'nowhere\.toml' is neither a file nor a scheduler's address"):
        cluster_of("nowhere.toml")


def test_every_kind_can_be_resized():
    slurm = SlurmSpec(8, "32 GB", "ib0", processes=4, max_jobs=9)
    assert resized(LocalSpec(2), 5) == LocalSpec(5)
    assert resized(CudaSpec(), 2) == CudaSpec(2)
    assert resized(slurm, 9) == SlurmSpec(8, "32 GB", "ib0", processes=4, jobs=3)
    assert resized(KubernetesSpec("i", max_workers=8), 5) == KubernetesSpec("i", workers=5)
    assert resized(SchedulerSpec("tcp://a:1"), 5) == SchedulerSpec("tcp://a:1")
    with pytest.raises(InputError, match="workers is 0"):
        resized(SchedulerSpec("tcp://a:1"), 0)


@pytest.mark.parametrize(("stated", "gpus"), [("2,3", ("2", "3")), ("", ()), ("-1", ()), ("GPU-8f", ("GPU-8f",))])
def test_gpus_are_those_that_the_environment_shows(monkeypatch, stated, gpus):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", stated)
    assert gpus_here() == gpus


@pytest.mark.parametrize(
    ("spec", "module", "extra"),
    [
        (SlurmSpec(1, "1 GB", "lo"), "dask_jobqueue", "cluster"),
        (KubernetesSpec("i"), "dask_kubernetes.operator", "cluster"),
        (CudaSpec(), "dask_cuda", "gpu"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_remedy(monkeypatch, spec, module, extra):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(InputError, match=rf"{module}: pip install 'sgcldff\[{extra}\]'"), connect(spec):
        pass
