"""kill -9 of a worker, of the flow and of the scheduler: real processes, and results like those of a quiet run."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import psutil
import pytest
from prefect.settings import PREFECT_API_URL

from flows.infer import infer
from flows.settings import read_settings
from tasks.compute import Compute
from tests.terminal import COMMAND

SETTINGS = """
[infer]
tile_px = 64
shard_px = 128
engine = "torch"
[infer.gate]
enabled = false
"""
TIMES = "summary.json"
"""Tells how long a run took, and is the only file that may differ."""


@contextmanager
def dask(*command):
    """Run one of Dask's commands."""
    running = subprocess.Popen([sys.executable, "-m", "distributed.cli." + command[0], *command[1:]])
    try:
        yield running
    finally:
        for process in (
            [*psutil.Process(running.pid).children(recursive=True), running] if running.poll() is None else []
        ):
            process.kill()
        running.wait()


@contextmanager
def cluster(port):
    """Run a scheduler and a worker under a nanny, which replaces it when it dies."""
    address = f"tcp://127.0.0.1:{port}"
    quiet = ("--dashboard-address", "127.0.0.1:0")
    with dask("dask_scheduler", "--host", "127.0.0.1", "--port", str(port), *quiet) as scheduler:
        given = ("--host", "127.0.0.1", "--nthreads", "1", "--nworkers", "1", *quiet)
        with dask("dask_worker", address, *given) as nanny:
            yield address, scheduler, nanny


def tree(folder):
    """Hash every file of a slide's results."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != TIMES)
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def start(lab, slide, tmp_path):
    """Give the function that starts the command on a cluster."""
    settings = tmp_path / "settings.toml"
    settings.write_text(SETTINGS)

    def start(address, out):
        given = ("-o", str(out), "-w", lab.workspace, "--settings", str(settings), "--cluster", address)
        environment = os.environ | {"PREFECT_API_URL": PREFECT_API_URL.value()}
        return subprocess.Popen(
            [COMMAND, "infer", slide.slide, *given], env=environment, stderr=subprocess.PIPE, text=True
        )

    return start


def parts(out):
    """Give what is committed, with the times of writing."""
    found = [path for path in out.glob("small/shards/**/*-*.*") if not path.name.startswith(("written", "."))]
    return {path.name: path.stat().st_mtime_ns for path in found}


def wait_for(count, out, running):
    """Wait until so many passes over shards are committed."""
    for _ in range(6000):
        if len(parts(out)) >= count or running.poll() is not None:
            break
        time.sleep(0.05)
    assert running.poll() is None, running.communicate()[1]


def test_whatever_is_killed_the_result_is_that_of_a_quiet_run(lab, slide, start, unused_port, tmp_path):
    quiet, out = tmp_path / "quiet", tmp_path / "out"
    settings = read_settings(tmp_path / "settings.toml")
    infer([str(slide.slide)], str(quiet), lab.workspace, "models:/sgcldff@champion", None, Compute(workers=0), settings)
    total = len(parts(quiet))
    assert total == 2 * 36

    with cluster(unused_port()) as (address, scheduler, nanny):
        command = start(address, out)
        wait_for(4, out, command)
        (worker,) = (
            child
            for child in psutil.Process(nanny.pid).children(recursive=True)
            if "spawn_main" in "".join(child.cmdline())
        )
        worker.kill()
        wait_for(12, out, command)
        command.send_signal(signal.SIGKILL)
        command.communicate()
        first = parts(out)
        assert 12 <= len(first) < total

        command = start(address, out)
        wait_for(len(first) + 6, out, command)
        scheduler.kill()
        _, told = command.communicate(timeout=300)
    assert command.returncode == 5, told
    assert "scheduler" in told.splitlines()[-1]
    second = parts(out)
    assert first.items() <= second.items()
    assert len(second) < total

    with cluster(unused_port()) as (address, *_):
        command = start(address, out)
        _, told = command.communicate(timeout=300)
    assert command.returncode == 0, told
    assert second.items() <= parts(out).items()
    assert tree(out / "small") == tree(quiet / "small")
