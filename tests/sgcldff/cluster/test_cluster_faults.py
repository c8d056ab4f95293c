"""What goes wrong on a cluster: too little memory, killed processes, workers and GPUs that are lacking."""

import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from distributed import LocalCluster
from distributed.comm import CommClosedError

from sgcldff.cluster import (
    CudaSpec,
    LocalSpec,
    SchedulerSpec,
    connect,
    gpu_share,
    load_once,
    loaded,
    map_bounded,
    threads,
)
from sgcldff.core.errors import InputError, ServiceError, TaskLostError

pytestmark = pytest.mark.slow


@pytest.fixture
def process():
    """Return what starts parts of a cluster as processes of their own, and ends them."""
    started = []

    def start(command, *options):
        arguments = ["--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0", *options]
        part = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{command}", *arguments], stderr=subprocess.DEVNULL
        )
        started.append(part)
        return part

    yield start
    for part in started:
        part.terminate()
        part.wait(30)


@pytest.fixture
def scheduler(process, tmp_path):
    """Start a scheduler; gives its process and its address."""
    file = tmp_path / "scheduler.json"
    running = process("scheduler", "--port", "0", "--scheduler-file", str(file))
    while not file.exists():
        assert running.poll() is None
        time.sleep(0.05)
    return running, json.loads(file.read_text())["address"]


def test_a_task_that_exceeds_its_memory_is_lost_and_the_others_finish(capfd):
    def work(number):
        hoard = []
        while number == 3:
            hoard.append(np.ones(1 << 20))
            time.sleep(0.02)
        return number

    with connect(LocalSpec(workers=2, memory="400 MB")) as client:
        outcomes = dict(map_bounded(client, work, range(30)))

    lost = outcomes.pop(3)
    assert isinstance(lost, TaskLostError)
    assert "4 workers died" in str(lost)
    assert "more memory" in str(lost)
    assert outcomes == {number: number for number in range(30) if number != 3}
    assert capfd.readouterr() == ("", "")


def test_waiting_tasks_are_not_blamed_for_a_crash():
    def work(number):
        if number == 10:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with connect(workers=1) as client:
        outcomes = dict(map_bounded(client, work, range(1, 21)))

    assert {number for number, outcome in outcomes.items() if isinstance(outcome, TaskLostError)} == {10}


def test_a_scheduler_that_is_killed_ends_the_map(scheduler, process, monkeypatch):
    monkeypatch.setattr("sgcldff.cluster.client.CONNECT_TIMEOUT_S", 3.0)
    running, address = scheduler
    process("worker", address, "--nthreads", "1")
    with connect(address) as client:
        results = map_bounded(client, lambda number: time.sleep(0.1) or number, range(10**6))
        next(results)
        running.kill()
        with pytest.raises(ServiceError, match="scheduler is gone"):
            list(results)
        for ask in (
            lambda: list(map_bounded(client, abs, [1])),
            lambda: load_once(client, "name", int),
            lambda: threads(client),
            lambda: gpu_share(client),
        ):
            with pytest.raises(ServiceError, match="scheduler is gone"):
                ask()


def test_a_killed_worker_is_replaced_by_one_that_joins_later(scheduler, process):
    _, address = scheduler
    first = process("worker", address, "--nthreads", "1", "--no-nanny")
    with connect(address) as client:
        results = map_bounded(client, lambda number: time.sleep(0.02) or os.getpid(), range(60))
        outcomes = [next(results)]
        first.kill()
        second = process("worker", address, "--nthreads", "1", "--no-nanny")
        outcomes += results
    assert sorted(number for number, _ in outcomes) == list(range(60))
    assert {pid for _, pid in outcomes} == {first.pid, second.pid}


def test_a_cluster_that_loses_all_its_workers_is_given_up(scheduler, process):
    _, address = scheduler
    only = process("worker", address, "--nthreads", "1", "--no-nanny")
    with connect(address) as client:
        results = map_bounded(client, lambda number: time.sleep(0.1) or number, range(10**6), patience_s=1)
        next(results)
        only.kill()
        with pytest.raises(ServiceError, match=r"no worker \(workers there: none\)"):
            list(results)


def test_a_scheduler_without_workers_is_an_error(scheduler):
    _, address = scheduler
    with pytest.raises(ServiceError, match=r"no worker joined .* within 1 s"), connect(SchedulerSpec(address, 1.0)):
        pass


def test_more_tasks_are_in_flight_when_workers_join(scheduler, process):
    _, address = scheduler
    process("worker", address, "--nthreads", "1")
    taken = []
    with connect(address) as client:
        results = map_bounded(client, lambda _: time.sleep(0.05), (taken.append(n) or n for n in range(10**6)))
        next(results)
        before = len(taken)
        process("worker", address, "--nthreads", "4")
        for received, _ in enumerate(results, start=2):
            if len(taken) > received + 3 * before:
                break
            assert received < 2000, "the new worker was never used"
        results.close()


def test_gpu_tasks_run_where_a_gpu_is_offered_and_each_gpu_has_one_worker(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    with connect(LocalSpec(workers=3)) as client:
        need = gpu_share(client)
        assert (need, threads(client), threads(client, need)) == ({"GPU": 1}, 3, 2)
        seen = map_bounded(
            client, lambda _: time.sleep(0.01) or os.environ["CUDA_VISIBLE_DEVICES"], range(20), resources=need
        )
        assert {device for _, device in seen} == {"4", "7"}
        assert sorted(client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).values()) == ["", "4", "7"]


def test_a_gpu_that_nobody_offers_is_an_error():
    with connect(workers=1) as client:
        assert gpu_share(client) == {}
        with pytest.raises(ServiceError, match=r"no worker that offers \{'GPU': 1\}"):
            list(map_bounded(client, abs, [1], resources={"GPU": 1}, patience_s=0.5))
        assert dict(map_bounded(client, abs, [-1])) == {-1: 1}


def test_more_gpus_than_there_are_is_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(InputError, match="gpus is 2: this machine shows 1"), connect(LocalSpec(gpus=2)):
        pass


def test_unused_gpus_are_hidden(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with connect(LocalSpec(workers=1, gpus=0)) as client:
        assert gpu_share(client) == {}
        assert set(client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]).values()) == {""}


def test_dask_cuda_gets_the_options_of_the_spec(monkeypatch):
    """Stand in for LocalCUDACluster, which needs GPUs."""
    devices = []

    class LocalCUDACluster(LocalCluster):
        def __init__(self, CUDA_VISIBLE_DEVICES, **options):  # noqa: N803
            devices.append(CUDA_VISIBLE_DEVICES)
            super().__init__(**options)

    monkeypatch.setitem(sys.modules, "dask_cuda", SimpleNamespace(LocalCUDACluster=LocalCUDACluster))
    with connect(CudaSpec(devices="0,1", memory="1 GB"), workers=1) as client:
        assert (devices, gpu_share(client), threads(client)) == (["0,1"], {"GPU": 1}, 1)
        assert client.scheduler.address.startswith("tls://127.0.0.1:")


def test_workers_compute_with_one_thread_each(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with connect(workers=1) as client:
        assert set(client.run(cv2.getNumThreads).values()) == {1}
        assert set(client.run(lambda: os.environ["OMP_NUM_THREADS"]).values()) == {"1"}
    assert "OMP_NUM_THREADS" not in os.environ, "this process keeps its own threads"


def load(place, size):
    with (place / "loads").open("a") as file:
        file.write(f"{os.getpid()}\n")
    return bytes(size)


def use(name, number):
    time.sleep(0.02)
    return os.getpid(), len(loaded(name))


def test_each_worker_loads_the_model_once_and_it_is_never_sent(tmp_path):
    loader, size = partial(load, tmp_path, 1 << 20), 1 << 20
    assert len(pickle.dumps(loader)) < 1000
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        connect(cluster.scheduler_address) as client,
    ):
        load_once(client, "model", loader)
        first = list(map_bounded(client, partial(use, "model"), range(5)))
        cluster.scale(2)
        client.wait_for_workers(2, 60)
        load_once(client, "model", loader)
        late = list(map_bounded(client, partial(use, "model"), range(40)))
        client.restart()
        restarted = list(map_bounded(client, partial(use, "model"), range(40)))
        sizes = {size for _, (_, size) in (*first, *late, *restarted)}
        pids = {pid for _, (pid, _) in (*first, *late, *restarted)}

    assert sizes == {size}
    assert len(pids) == 4
    assert sorted((tmp_path / "loads").read_text().split()) == sorted(map(str, pids))


def test_a_scheduler_imports_nothing_that_its_tasks_need(scheduler, process, tmp_path, monkeypatch):
    """Stand in for a model's libraries: a module that only the workers are given."""
    _, address = scheduler
    (tmp_path / "only_here.py").write_text("class Plan:\n    number = 7\n\n\ndef read(plan):\n    return plan.number\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    module = importlib.import_module("only_here")
    process("worker", address, "--nthreads", "1")
    with connect(address) as client:
        [(_, number)] = map_bounded(client, module.read, [module.Plan()])
        assert number == 7
        assert not client.run_on_scheduler(lambda: "only_here" in __import__("sys").modules)


INTERRUPTED = """
import os, signal, sys, time
from sgcldff.cluster import LocalSpec, connect, map_bounded

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # programs that a shell starts with & ignore Ctrl-C
    try:
        with connect(LocalSpec(workers=2)) as client:
            for _, done in map_bounded(client, time.sleep, [0, 60, 60]):
                os.killpg(0, signal.SIGINT)
    except KeyboardInterrupt:
        print("stopped")
"""


def test_ctrl_c_for_all_processes_of_a_command_is_a_matter_of_the_first(tmp_path):
    (tmp_path / "script.py").write_text(INTERRUPTED)
    command = [sys.executable, tmp_path / "script.py"]
    ended = subprocess.run(command, capture_output=True, text=True, start_new_session=True, timeout=300)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "stopped\n", "")


def test_a_scheduler_that_dies_while_it_sends_a_result_is_a_service_that_is_gone(monkeypatch):
    with connect(LocalSpec(workers=1)) as client:
        monkeypatch.setattr("distributed.Future.result", lambda future: (_ for _ in ()).throw(CommClosedError("reset")))
        with pytest.raises(ServiceError, match="scheduler is gone"):
            list(map_bounded(client, abs, [1]))
