"""The doctor in sound and in broken environments: it says what is wrong and what to do, and never breaks itself."""

import base64
import errno
import http.server
import json
import os
import socket
import threading
import time
from collections import namedtuple
from importlib.metadata import version
from pathlib import Path

import pytest
from distributed import LocalCluster

from sgcldff.cluster import connect
from sgcldff.doctor import State, examine, folders, hardware, packages, servers
from sgcldff.doctor.servers import unsafe_variables

Usage = namedtuple("Usage", "total used free")
USER, PASSWORD = "ann", "correct-horse"


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Leave out what the surroundings set."""
    for name in list(os.environ):
        if name.startswith(("PREFECT_API", "MLFLOW_TRACKING", "SGCLDFF")):
            monkeypatch.delenv(name)


class Stand(http.server.BaseHTTPRequestHandler):
    """Stands in for a server that asks for a password and is of another version."""

    guarded, number = True, "1.0.0"

    def do_GET(self):
        right = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        allowed = not self.guarded or self.headers.get("Authorization") == right or self.path == "/health"
        body = json.dumps(self.number).encode() if "admin" in self.path else self.number.encode()
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(body if allowed else b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def stand():
    """Give the function that starts a stand-in and gives its address without `http://`."""
    running = []

    def start(guarded: bool, number: str) -> str:
        kind = type("Kind", (Stand,), {"guarded": guarded, "number": number})
        running.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind))
        threading.Thread(target=running[-1].serve_forever, args=(0.01,), daemon=True).start()
        return f"127.0.0.1:{running[-1].server_port}"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def nobody() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def test_here_everything_that_the_tests_need_is_found(tmp_path):
    checks = {check.name: check for check in examine(tmp_path)}
    assert len(checks) > 15
    for name in ("python", "slides", "processor", "workspace", "prefect", "mlflow", "ports"):
        assert checks[name].state is State.OK, checks[name]
    assert list(tmp_path.iterdir()) == []
    assert all(bool(check.remedy) == (check.state is not State.OK) for check in checks.values())


def test_a_workspace_that_is_not_there_yet_is_not_made(tmp_path):
    assert folders.workspace(tmp_path / "a" / "b").state is State.OK
    assert not (tmp_path / "a").exists()


def test_without_openslide_the_other_checks_go_on(tmp_path, monkeypatch):
    def gone(name):
        raise ModuleNotFoundError(f"Couldn't locate OpenSlide shared library ({name})")

    monkeypatch.setattr(hardware, "import_module", gone)
    checks = {check.name: check for check in examine(tmp_path)}
    assert checks["slides"].state is State.FAILED
    assert "openslide-bin" in checks["slides"].remedy
    assert checks["workspace"].state is State.OK


def test_a_library_that_reads_wrong_pixels_is_noticed(monkeypatch):
    monkeypatch.setattr(hardware, "COLOUR", (1, 2, 3))
    write = hardware._write_slide
    monkeypatch.setattr(
        hardware, "_write_slide", lambda path: (monkeypatch.setattr(hardware, "COLOUR", (9, 9, 9)), write(path))
    )
    told = hardware.slide_library()
    assert told.state is State.OK
    monkeypatch.setattr(
        hardware, "_write_slide", lambda path: (write(path), monkeypatch.setattr(hardware, "COLOUR", (8, 8, 8)))
    )
    assert hardware.slide_library().state is State.FAILED


def test_a_gpu_that_torch_does_not_see(monkeypatch):
    monkeypatch.setattr(hardware, "gpus_of_driver", lambda: ["NVIDIA H100, 550.1, 81559 MiB"])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    told = hardware.gpu()
    assert told.state is State.FAILED
    assert "550.1" in told.found
    assert "CUDA" in told.remedy


def test_too_little_memory(monkeypatch):
    Free = namedtuple("Free", "available")
    for free, state in ((1e9, State.FAILED), (2.5e9, State.WARNING), (64e9, State.OK)):
        monkeypatch.setattr(hardware.psutil, "virtual_memory", lambda free=free: Free(free))
        monkeypatch.setattr(hardware.os, "cpu_count", lambda: 2)
        assert hardware.memory().state is state


def test_a_disk_that_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda place: Usage(10**12, 10**12, 10**8))
    assert folders.disk(tmp_path).state is State.FAILED
    assert folders.cache().state is State.WARNING

    def full(self, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    told = folders.workspace(tmp_path)
    assert told.state is State.FAILED
    assert "No space left" in told.found


def test_a_workspace_that_may_not_be_written(tmp_path, monkeypatch):
    def refused(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(folders.tempfile, "TemporaryDirectory", refused)
    told = folders.workspace(tmp_path)
    assert (told.state, "Permission denied" in told.found) == (State.FAILED, True)


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(folders.fcntl, "flock", lambda file, how: None)
    assert "file locks do not work" in folders.workspace(tmp_path).found


def test_a_workspace_that_anybody_may_write_to(tmp_path):
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws").chmod(0o777)
    assert folders.permissions(tmp_path / "ws").state is State.WARNING


def test_what_killed_runs_left_is_found_once_it_is_old(tmp_path):
    fresh, old = tmp_path / ".a.json.partial", tmp_path / "deep" / ".b.html.partial"
    old.parent.mkdir()
    fresh.touch()
    old.touch()
    assert folders.leftovers(tmp_path).state is State.OK
    os.utime(old, (time.time() - 2 * folders.OLD_S,) * 2)
    told = folders.leftovers(tmp_path)
    assert told.state is State.WARNING
    assert str(old) in told.found
    assert str(fresh) not in told.found


def test_packages_of_wrong_versions_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(
        packages, "requires", lambda name: ["numpy<1", "torch", "no-such-package>=2", 'x; extra == "gpu"']
    )
    told = packages.packages()
    assert told.state is State.FAILED
    assert "no-such-package is missing" in told.found
    assert f"numpy {version('numpy')} is outside of <1" in told.found
    monkeypatch.setattr(packages, "requires", lambda name: ["numpy"])
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        'numpy==0.0.1 \\\n    --hash=sha256:00\nzarr==0.1 ; sys_platform == "win32" \\\n    --hash=sha256:00\n'
    )
    monkeypatch.setattr(packages, "LOCK_FILE", lock)
    told = packages.packages()
    assert told.state is State.WARNING
    assert "(locked 0.0.1)" in told.found
    assert "zarr" not in told.found


@pytest.mark.parametrize(
    ("look", "variable", "path"),
    [(servers.prefect, "PREFECT_API_URL", "/api"), (servers.mlflow, "MLFLOW_TRACKING_URI", "")],
)
class TestServers:
    def test_nobody_answers(self, look, variable, path, nobody, monkeypatch):
        monkeypatch.setenv(variable, f"http://{USER}:{PASSWORD}@{nobody}{path}")
        told = look()
        assert (told.state, told.server) == (State.FAILED, True)
        assert "does not answer" in told.found
        assert PASSWORD not in str(told)

    def test_an_address_that_is_none(self, look, variable, path, monkeypatch):
        monkeypatch.setenv(variable, "http://[::1")
        check = next(check for check in examine(Path()) if check.name == look.__name__)
        assert check.state is State.FAILED

    def test_a_password_is_asked_for(self, look, variable, path, stand, monkeypatch):
        place = stand(True, version(look.__name__))
        monkeypatch.setenv(variable, f"http://{place}{path}")
        told = look()
        assert told.state is State.FAILED
        assert "refuses access (status 401)" in told.found
        monkeypatch.setenv(variable, f"http://{USER}:{PASSWORD}@{place}{path}")
        told = look()
        assert told.state is State.OK
        assert "requires a password" in told.found
        assert PASSWORD not in str(told)

    def test_credentials_of_the_environment_are_used(self, look, variable, path, stand, monkeypatch):
        monkeypatch.setenv(variable, f"http://{stand(True, version(look.__name__))}{path}")
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", f"{USER}:{PASSWORD}")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        assert look().state is State.OK

    def test_another_version(self, look, variable, path, stand, monkeypatch):
        monkeypatch.setenv(variable, f"http://{stand(False, '1.0.0')}{path}")
        told = look()
        assert told.state is State.WARNING
        assert "1.0.0" in told.found
        assert version(look.__name__) in told.remedy


def test_a_scheduler_with_a_worker(monkeypatch, tmp_path):
    with LocalCluster(
        1, processes=False, protocol="tcp://", threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        address = cluster.scheduler_address
        assert servers.dask(address).state is State.OK
        monkeypatch.setattr("sgcldff.cluster.client.COMPARED", ("python", "no-such-package"))
        assert servers.dask(address).state is State.OK


def test_a_scheduler_whose_certificates_are_not_configured():
    with connect(None, 1) as client:
        told = servers.dask(client.scheduler_info()["address"])
    assert told.state is State.FAILED
    assert "no certificates are configured" in told.found


def test_a_scheduler_that_is_not_there(nobody):
    told = servers.dask(f"tcp://{nobody}")
    assert (told.state, told.server) == (State.FAILED, True)
    assert servers.dask("nonsense").state is State.FAILED


def test_workers_of_other_versions(monkeypatch):
    here = {"python": "3.11", "dask": "2026.8.0"}
    there = {"scheduler": here, "tcp://10.0.0.2:1": here | {"dask": "2025.1.0"}}
    monkeypatch.setattr("sgcldff.cluster.versions_at", lambda address: (here, there))
    told = servers.dask("tcp://10.0.0.1:8786")
    assert told.state is State.FAILED
    assert "tcp://10.0.0.2:1 has dask 2025.1.0" in told.found
    monkeypatch.setattr("sgcldff.cluster.versions_at", lambda address: (here, dict.fromkeys(there, here)))
    assert "TLS" in servers.dask("tcp://10.0.0.1:8786").remedy


def test_a_port_that_is_taken(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv(servers.METRICS_PORT, str(taken.getsockname()[1]))
        assert servers.ports().state is State.FAILED
    assert servers.ports().state is State.OK
    monkeypatch.setenv(servers.METRICS_PORT, "many")
    assert servers.ports().state is State.FAILED


def test_a_server_on_all_addresses_is_found(monkeypatch):
    monkeypatch.setattr(servers, "_public_servers", lambda: iter([("mlflow", 7, 5000)]))
    told = servers.listening()
    assert (told.state, "mlflow (process 7, port 5000)" in told.found) == (State.WARNING, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "true"),
        ("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1"),
        ("PREFECT_SERVER_API_HOST", "0.0.0.0"),
        ("MLFLOW_TRACKING_URI", f"http://{USER}:{PASSWORD}@127.0.0.1:5000"),
    ],
)
def test_unsafe_settings_are_named_and_secrets_are_not(name, value, monkeypatch):
    assert unsafe_variables().state is State.OK
    monkeypatch.setenv(name, value)
    told = unsafe_variables()
    assert told.state is State.WARNING
    assert name in told.found
    assert PASSWORD not in str(told)
