"""Slurm's commands are played by scripts that run jobs as processes of this machine: workers really join."""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from sgcldff.cluster import SlurmSpec, connect, gpu_share, map_bounded, slurm, threads
from sgcldff.core.errors import InputError, ServiceError

pytestmark = pytest.mark.slow

SBATCH = """
import subprocess
script = sys.stdin.read() if "--test-only" in sys.argv else pathlib.Path(sys.argv[-1]).read_text()
if "-p nowhere" in script:
    sys.exit("sbatch: error: invalid partition specified: nowhere")
if "--test-only" in sys.argv:
    sys.exit()
number = len(list(jobs.glob("*.sh"))) + 1
path = jobs / f"{number}.sh"
path.write_text(script)
log = (jobs / f"{number}.log").open("w")
job = subprocess.Popen(["bash", path], start_new_session=True, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
(jobs / f"{number}.running").write_text(str(job.pid))
print(f"Submitted batch job {number}")
"""
SCANCEL = """
import os, signal
running = jobs / f"{sys.argv[-1]}.running"
os.killpg(int(running.read_text()), signal.SIGTERM)
running.rename(running.with_suffix(".cancelled"))
"""
ONE = SlurmSpec(cores=1, memory="1 GB", interface="lo", patience_s=60)


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """Put the commands of a one-machine Slurm on the path; gives the folder of its jobs."""
    folder, commands = tmp_path / "jobs", tmp_path / "bin"
    for made in (folder, commands):
        made.mkdir()
    for name, body in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        script = commands / name
        script.write_text(f"#!{sys.executable}\nimport pathlib, sys\njobs = pathlib.Path({str(folder)!r})\n{body}")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    yield folder
    for left in folder.glob("*.running"):
        with suppress(ProcessLookupError):
            os.killpg(int(left.read_text()), signal.SIGKILL)


def states(jobs: Path, state: str) -> set[str]:
    return {path.stem for path in jobs.glob(f"*.{state}")}


def wait_for(happened) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline, "it did not happen within 60 s"
        time.sleep(0.2)


def test_a_job_joins_computes_and_is_cancelled(jobs):
    with connect(ONE) as client:
        pids = {pid for _, pid in map_bounded(client, lambda _: os.getpgid(0), range(4))}
        assert pids == {int((jobs / "1.running").read_text())}
        assert client.scheduler.address.startswith("tls://127.0.0.1:")
        assert gpu_share(client) == {}
    assert (states(jobs, "sh"), states(jobs, "running"), states(jobs, "cancelled")) == ({"1"}, set(), {"1"})


def test_a_job_matches_the_spec_and_offers_its_gpu(jobs):
    spec = SlurmSpec(
        4, "2 GB", "lo", queue="fast", account="lab", gres="gpu:a100:1", directives=("--nice",), walltime="00:10:00",
        prologue=("export HELLO=there",), log_folder=str(jobs),
    )  # fmt: skip
    with connect(spec) as client:
        need = gpu_share(client)
        [(_, seen)] = map_bounded(client, lambda name: os.environ[name], ["HELLO"], resources=need)
        assert (need, seen, threads(client)) == ({"GPU": 1}, "there", 1)
    script = (jobs / "1.sh").read_text()
    for line in ("-p fast", "-A lab", "--cpus-per-task=4", "-t 00:10:00", "--gres=gpu:a100:1", "--nice"):
        assert f"#SBATCH {line}\n" in script


def test_a_job_that_ends_early_is_replaced_and_its_task_run_again(jobs, monkeypatch):
    monkeypatch.setattr(slurm, "REPLACEMENT_GRACE_S", 2.0)

    def work(number):
        if number == 2 and not (jobs / "ended").exists():
            (jobs / "ended").touch()
            os.killpg(0, signal.SIGKILL)
        return number

    with connect(ONE) as client:
        assert dict(map_bounded(client, work, range(6))) == {number: number for number in range(6)}
        assert states(jobs, "sh") == {"1", "2"}
    wait_for(lambda: states(jobs, "cancelled") >= {"2"})


def test_a_job_that_slurm_refuses_is_an_error_at_once(jobs):
    spec = SlurmSpec(1, "1 GB", "lo", queue="nowhere")
    with pytest.raises(ServiceError, match="invalid partition specified: nowhere"), connect(spec):
        pass
    assert states(jobs, "sh") == set()


def test_a_machine_without_slurm_is_an_error(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(InputError, match="there is no sbatch"), connect(ONE):
        pass


def test_a_missing_network_interface_is_an_error(jobs):
    with (
        pytest.raises(InputError, match="'ib7' is not a valid network interface"),
        connect(SlurmSpec(1, "1 GB", "ib7")),
    ):
        pass
