"""A real local cluster: results, failures, workers that die, and objects that are loaded once a process."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import dask
import pytest

from sgcldff.cluster import SchedulerSpec, connect, load_once, loaded, map_bounded, threads
from sgcldff.core.errors import InputError, ServiceError, TaskLostError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client():
    with connect(workers=2) as client:
        yield client


def test_map_yields_every_item_with_its_own_outcome(client):
    def halve(number):
        if number % 2:
            raise ValueError(f"{number} is odd")
        return number // 2

    outcomes = dict(map_bounded(client, halve, range(10), in_flight=3))

    assert {number: outcome for number, outcome in outcomes.items() if number % 2 == 0} == {
        number: number // 2 for number in range(0, 10, 2)
    }
    assert {str(outcomes[number]) for number in range(1, 10, 2)} == {f"{n} is odd" for n in range(1, 10, 2)}


def test_map_draws_no_more_items_than_may_be_in_flight(client):
    taken = []
    items = (taken.append(number) or number for number in range(10**9))
    results = map_bounded(client, lambda number: number, items, in_flight=4)

    for received in range(1, 21):
        next(results)
        assert len(taken) <= received + 4
    results.close()

    assert len(client.futures) == 0


def test_dashboard_and_scheduler_are_on_loopback_only(client):
    assert client.scheduler.address.startswith("tls://127.0.0.1:")
    assert client.dashboard_link.startswith("http://127.0.0.1:")
    assert threads(client) == 2


def test_the_callers_own_dask_graphs_are_computed_in_this_process(client):
    assert dask.delayed(os.getpid)().compute() == os.getpid()


ATTACK = """
import os, sys
from distributed import Client, Security
attempts = ("tcp", None), ("tls", Security.temporary())
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for protocol, security in attempts:
    try:
        with Client(f"{protocol}://{sys.argv[1]}", timeout=3, security=security) as client:
            print("code ran as user", client.submit(os.getuid).result(timeout=10))
    except (OSError, RuntimeError) as error:
        print("refused:", type(error).__name__)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_of_the_machine_cannot_run_code(client):
    place = client.scheduler.address.partition("://")[2]
    attack = subprocess.run([sys.executable, "-c", ATTACK, place], capture_output=True, text=True, cwd="/")
    assert re.fullmatch(r"(refused: \w+\n){2}", attack.stdout), attack.stdout + attack.stderr


def test_a_scheduler_without_certificates_is_warned_of(caplog):
    with pytest.raises(ServiceError), connect("tcp://127.0.0.1:9"):
        pass
    assert "does not use TLS" in caplog.text
    assert "--tls-ca-file" in caplog.text


def test_a_killed_worker_is_replaced_and_its_task_and_loader_run_again(client, tmp_path):
    def load():
        with (tmp_path / "loads").open("a") as file:
            file.write(f"{os.getpid()}\n")
        return {"pid": os.getpid()}

    def work(number):
        held = loaded("model")
        if number == 3 and not (tmp_path / "died").exists():
            (tmp_path / "died").write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return number, held["pid"] == os.getpid()

    load_once(client, "model", load)
    outcomes = dict(map_bounded(client, work, range(12), in_flight=4))

    assert outcomes == {number: (number, True) for number in range(12)}
    loaders = (tmp_path / "loads").read_text().split()
    assert len(loaders) == len(set(loaders))
    assert (tmp_path / "died").read_text() in loaders


def test_a_task_that_kills_its_worker_is_lost_and_the_rest_continues(client, monkeypatch):
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)

    def work(number):
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    outcomes = dict(map_bounded(client, work, range(4), in_flight=1))

    assert isinstance(outcomes.pop(1), TaskLostError)
    assert outcomes == {0: 0, 2: 2, 3: 3}


def test_a_failing_loader_fails_the_task_with_its_error(client):
    def load():
        raise InputError("weights.safetensors: truncated")

    load_once(client, "broken", load)

    [(_, outcome)] = map_bounded(client, lambda name: loaded(name), ["broken"], in_flight=1)
    [(_, unknown)] = map_bounded(client, lambda name: loaded(name), ["nothing"], in_flight=1)

    assert isinstance(outcome, InputError)
    assert str(outcome) == "weights.safetensors: truncated"
    assert "load_once" in str(unknown)


def test_a_missing_scheduler_is_named():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    with pytest.raises(ServiceError, match=address), connect(address):
        pass


def test_a_server_that_is_no_scheduler_is_given_up(monkeypatch):
    monkeypatch.setattr("sgcldff.cluster.client.CONNECT_TIMEOUT_S", 0.5)
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = f"tcp://127.0.0.1:{mute.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(ServiceError, match="did not answer"), connect(address):
            pass
    assert time.monotonic() - start < 10


def test_connects_to_a_scheduler_by_address(client):
    with connect(SchedulerSpec(client.scheduler.address, security=client.security)) as second:
        assert dict(map_bounded(second, lambda number: number + 1, [1, 2], in_flight=1)) == {1: 2, 2: 3}


def test_a_scheduler_that_goes_away_ends_the_map(monkeypatch):
    with connect(workers=1) as client:
        results = map_bounded(client, lambda number: time.sleep(0.2) or number, range(100), in_flight=1)
        next(results)
        threading.Timer(0.1, client.cluster.close).start()
        with pytest.raises(ServiceError, match="scheduler is gone"):
            list(results)


@pytest.mark.parametrize("address", ["", "localhost", "tcp://localhost", "ftp://localhost:8786"])
def test_a_malformed_address_is_refused(address):
    with pytest.raises(InputError, match="tcp://host:8786"), connect(address):
        pass


def test_a_cluster_of_nothing_is_refused():
    with pytest.raises(InputError, match="at least 1"), connect(workers=0):
        pass


def test_nothing_in_flight_is_refused(client):
    with pytest.raises(InputError, match="in_flight is 0"):
        next(map_bounded(client, str, [1], in_flight=0))
