"""Prefect's temporary server: where its database lies, whom it answers, and what is said where it does not come up."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows.environment import database_address
from flows.server import start_temporary_server
from tests.servers import prefect_home
from tests.terminal import COMMAND, outside

START = """
import os, sys
from pathlib import Path
from flows.environment import configure
from flows.server import start_temporary_server
configure(Path(sys.argv[1]))
start_temporary_server()
import httpx
address, known = os.environ["PREFECT_API_URL"], tuple(os.environ["PREFECT_API_AUTH_STRING"].split(":"))
paths = ("health", None), ("version", None), ("version", known)
print(address, *(httpx.get(f"{address}/{path}", auth=auth).status_code for path, auth in paths), flush=True)
"""
WAIT = START + "sys.stdin.read()"
KILL = (
    START
    + """
import psutil
from prefect import flow
from tasks.stages import prefect_failure, stage

@stage("work", ["work"])
def work():
    (server,) = psutil.Process().children()
    server.kill()
    server.wait()
    print("done")

@flow
def whole():
    work()

try:
    whole()
except Exception as error:
    print(prefect_failure(error) or error)
"""
)


def test_a_server_keeps_its_database_in_a_workspace_of_any_name_and_dies_with_its_command(tmp_path):
    workspace = tmp_path / "a?b p%20q #1 'ü'"
    command = [sys.executable, "-c", WAIT, workspace]
    running = subprocess.Popen(command, env=outside(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert running.stdout.readline().split()[1:] == ["200", "401", "200"]
    assert (workspace / "prefect" / "prefect.db").stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [workspace]
    (served,) = psutil.Process(running.pid).children()
    running.kill()
    running.communicate()
    served.wait(60)


def test_a_server_that_is_killed_fails_the_run_as_a_service_does_whatever_became_of_the_work(tmp_path):
    prefect_home(tmp_path / "prefect")
    ended = subprocess.run([sys.executable, "-c", KILL, tmp_path], env=outside(), capture_output=True, text=True)
    started, done, told = ended.stdout.splitlines()
    assert done == "done", ended.stderr
    assert told.startswith(f"Prefect's server at {started.split()[0]} failed ([Errno 111] Connection refused)")


def test_a_server_that_does_not_come_up_ends_the_command_with_its_reason(tmp_path):
    home = tmp_path / "demo" / "workspace" / "prefect"
    home.mkdir(parents=True)
    (home / "prefect.db").write_text("this is no database, however long it is" * 100)
    ended = subprocess.run(
        [COMMAND, "demo", "--out", tmp_path / "demo"], env=outside(COLUMNS="1000"), capture_output=True, text=True
    )
    assert ended.returncode == 5
    (line,) = ended.stderr.splitlines()
    assert "temporary server ended with code 3" in line
    assert "file is not a database" in line
    assert f"remove {home / 'prefect.db'}" in line


def test_none_is_started_beside_a_configured_server_or_once_prefect_is_imported(tmp_path, monkeypatch):
    monkeypatch.setattr("flows.server.subprocess.Popen", lambda *args, **kwargs: pytest.fail("a server was started"))
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "prefect", sys)
    start_temporary_server()
    monkeypatch.delitem(sys.modules, "prefect")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:4200/api")
    start_temporary_server()


def test_prefects_own_address_is_left_alone_where_it_is_right_or_a_user_names_another(monkeypatch):
    assert database_address(Path("/lab/a b/prefect")) == {}
    (address,) = database_address(Path("/lab/a?b/prefect")).values()
    assert address == "sqlite+aiosqlite:////lab/a%3Fb/prefect/prefect.db"
    monkeypatch.setenv("PREFECT_SERVER_DATABASE_DRIVER", "postgresql+asyncpg")
    assert database_address(Path("/lab/a?b/prefect")) == {}
