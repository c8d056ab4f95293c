"""Real servers on loopback for tests: PostgreSQL, an S3 server, MLflow, Prefect and its workers.

Each is a context manager that ends what it started. What it keeps lies in the folder that it is given: entered again
with that folder, the server knows what it knew. Those that have clients give the environment that these need.
"""

import logging
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from socket import create_server
from typing import NamedTuple
from urllib.parse import quote

import httpx
import pytest

from flows.server import INTERNAL
from tests import shared

ROOT = Path(__file__).parent.parent
LOOPBACK = "127.0.0.1"
PATIENCE_S = 300.0
PREFECT = Path(sys.executable).with_name("prefect")
BUCKET = "mlflow"
FOR_MLFLOW, FOR_PREFECT = "postgresql+psycopg2", "postgresql+asyncpg"
"""Drivers of `Postgres.create`."""

Environment = dict[str, str]

web = httpx.Client(timeout=60, verify=False, limits=httpx.Limits(max_keepalive_connections=0))
"""Client of servers on loopback. `httpx.get` would load certificates every time: 50 ms of work for each question."""


class Login(NamedTuple):
    """Whom a server lets in."""

    user: str
    password: str


def unused_port() -> int:
    """Find a port on which nothing listens."""
    with create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Program:
    """What is started, and how it is ended."""

    command: Sequence[str | Path]
    log: Path
    environment: Mapping[str, str]
    folder: Path = ROOT
    user: str | None = None
    stop: signal.Signals = signal.SIGTERM


@contextmanager
def running(program: Program, ready: Callable[[], bool] = lambda: True) -> Iterator[subprocess.Popen]:
    """Run a program, in a session of its own, from the moment when it is ready; its whole session ends with it."""
    process = _started(program)
    try:
        _await(process, ready, program.log)
        yield process
    finally:
        _end(process, program.stop)


def _started(program: Program) -> subprocess.Popen:
    with program.log.open("ab") as log:
        return subprocess.Popen(
            program.command, cwd=program.folder, env=dict(program.environment), user=program.user,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def _await(process: subprocess.Popen, ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        assert process.poll() is None, f"{process.args} ended:\n{log.read_text()}"
        assert time.monotonic() < deadline, f"{process.args} is not ready after {PATIENCE_S:g} s:\n{log.read_text()}"
        time.sleep(0.2)


def _end(process: subprocess.Popen, stop: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, stop)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def answers(url: str) -> bool:
    """Tell whether a server answers well at an address."""
    try:
        return web.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


@dataclass(frozen=True)
class Postgres:
    """A PostgreSQL server with passwords, of which its user owns everything."""

    programs: Path
    folder: Path
    port: int
    login: Login

    def url(self, database: str, driver: str = FOR_MLFLOW) -> str:
        """Give a database's address as a client with this driver wants it."""
        user, password = map(quote, self.login)
        return f"{driver}://{user}:{password}@{LOOPBACK}:{self.port}/{database}"

    def create(self, database: str, driver: str = FOR_MLFLOW) -> str:
        """Make an empty database and give its address."""
        self.psql(f'CREATE DATABASE "{database}"')
        return self.url(database, driver)

    def psql(self, statement: str, database: str = "postgres") -> str:
        """Run a statement and give its rows."""
        options = ["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statement]
        command = [self.programs / "psql", *options, self.url(database, "postgresql")]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S).stdout.strip()


def postgres_programs() -> Path | None:
    """Find the folder of PostgreSQL's programs; None where it is not installed."""
    places = [Path(shutil.which("initdb") or "").resolve().parent, *Path("/usr/lib/postgresql").glob("*/bin")]
    found = [place for place in places if (place / "initdb").is_file() and (place / "psql").is_file()]
    numbers = {place: [int(part) for part in place.parent.name.split(".") if part.isdigit()] for place in found}
    return max(found, key=lambda place: numbers[place], default=None)


def unprivileged() -> str | None:
    """Name the user who runs PostgreSQL, which refuses root; None for the one who runs the tests."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return next(name for name in ("postgres", "nobody") if name in names)


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a PostgreSQL server with a cluster of its own, which is gone afterwards; skips where it is not installed."""
    with postgres_cluster() as cluster, serving(cluster):
        yield cluster


@contextmanager
def postgres_cluster() -> Iterator[Postgres]:
    """Make a cluster for `serving`, which may run it more than once."""
    programs, user = postgres_programs(), unprivileged()
    if programs is None:
        pytest.skip("PostgreSQL is missing: apt-get install postgresql")
    folder = Path(tempfile.mkdtemp(prefix="sgcldff-postgres-"))
    cluster = Postgres(programs, folder, unused_port(), Login("sgcldff", secrets.token_hex(8)))
    password = folder / "password"
    try:
        password.write_text(cluster.login.password)
        for place in (folder, password):
            shutil.chown(place, user or os.geteuid())
        options = ["--username", cluster.login.user, "--pwfile", password, "--auth", "scram-sha-256"]
        options += ["--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--pgdata", folder / "data"]
        subprocess.run([programs / "initdb", *options], cwd=folder, user=user, check=True, capture_output=True)
        yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def serving(cluster: Postgres) -> Iterator[subprocess.Popen]:
    """Run the server of a cluster."""
    settings = {"listen_addresses": LOOPBACK, "port": cluster.port, "unix_socket_directories": "", "fsync": "off"}
    command = [cluster.programs / "postgres", "-D", cluster.folder / "data"]
    command += [f"--{name}={value}" for name, value in settings.items()]
    log, probe = cluster.folder / "postgres.log", [cluster.programs / "pg_isready", "-q", "-h", LOOPBACK]
    probe += ["-p", str(cluster.port)]
    program = Program(command, log, os.environ, cluster.folder, unprivileged(), signal.SIGINT)
    with running(program, lambda: subprocess.run(probe, check=False).returncode == 0) as process:
        yield process


@contextmanager
def s3_server(bucket: str = BUCKET) -> Iterator[Environment]:
    """Run an S3 server (moto) with an empty bucket, both gone afterwards; gives the environment of its clients."""
    import boto3
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(LOOPBACK, 0, verbose=False)
    server.start()
    keys = {
        "AWS_ACCESS_KEY_ID": secrets.token_hex(8),
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(16),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{server.get_host_and_port()[1]}",
    }
    try:
        client = boto3.client(
            "s3", endpoint_url=keys["AWS_ENDPOINT_URL"], region_name=keys["AWS_DEFAULT_REGION"],
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"], aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        )  # fmt: skip
        client.create_bucket(Bucket=bucket)
        yield keys
    finally:
        web.post(
            f"{keys['AWS_ENDPOINT_URL']}/moto-api/reset"
        )  # what it holds belongs to the process, not to the server
        server.stop()


@contextmanager
def mlflow_server(
    folder: Path,
    database: str = "",
    artifacts: str = "",
    environment: Mapping[str, str] | None = None,
    admin: Login | None = None,
) -> Iterator[Environment]:
    """Run an MLflow server that hands out the artifacts itself; gives the environment of its clients.

    Parameters
    ----------
    folder
        Made if needed; holds SQLite and artifacts where the next two say nothing else, and the log `mlflow.log`.
    database, artifacts
        Addresses, such as those of `Postgres.create` and `s3://BUCKET`.
    environment
        Further variables of the server, such as those of `s3_server`.
    admin
        Turns authentication on; without it everybody is let in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, store = unused_port(), database or f"sqlite:///{folder}/mlflow.db"
    if not database and not (folder / "mlflow.db").exists():
        shutil.copyfile(shared.mlflow_database(), folder / "mlflow.db")
    places = ["--backend-store-uri", store, "--artifacts-destination", artifacts or str(folder / "artifacts")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", LOOPBACK, "--port", str(port), "--workers", "1"]
    given = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "DO_NOT_TRACK": "true"}
    given |= environment or {}
    client = {"MLFLOW_TRACKING_URI": f"http://{LOOPBACK}:{port}"}
    if admin is not None:
        command += ["--app-name", "basic-auth"]
        given |= _mlflow_authentication(folder, store, admin)
        client |= {"MLFLOW_TRACKING_USERNAME": admin.user, "MLFLOW_TRACKING_PASSWORD": admin.password}
    program = Program([*command, *places], folder / "mlflow.log", given, folder)
    with running(program, lambda: answers(f"{client['MLFLOW_TRACKING_URI']}/health")):
        yield client


def _mlflow_authentication(folder: Path, store: str, admin: Login) -> Environment:
    settings = folder / "authentication.ini"
    settings.write_text(f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {store.replace('%', '%%')}\n")
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_USERNAME": admin.user,
        "MLFLOW_AUTH_ADMIN_PASSWORD": admin.password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(16),
    }


@contextmanager
def prefect_server(folder: Path, database: str = "", admin: Login | None = None) -> Iterator[Environment]:
    """Run a Prefect server; gives the environment of its clients.

    Parameters
    ----------
    folder
        Made if needed; the home of Prefect, and of SQLite where `database` says nothing else. The log is `prefect.log`.
    database
        Address, such as that of `Postgres.create` with the driver `FOR_PREFECT`.
    admin
        Turns authentication on; without it everybody is let in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = unused_port()
    client = {"PREFECT_HOME": str(folder), "PREFECT_API_URL": f"http://{LOOPBACK}:{port}/api"}
    given = os.environ | client | {"PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    if database:
        given |= {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database}
    else:
        prefect_home(folder)
    if admin is not None:
        client |= {"PREFECT_API_AUTH_STRING": ":".join(admin)}
        given |= client | {"PREFECT_SERVER_API_AUTH_STRING": ":".join(admin)}
    command = [PREFECT, "server", "start", "--host", LOOPBACK, "--port", str(port), "--no-ui", "--analytics-off"]
    with running(
        Program(command, folder / "prefect.log", given, folder), lambda: answers(f"{client['PREFECT_API_URL']}/health")
    ):
        yield client


def prefect_home(folder: Path) -> Path:
    """Make a folder in which a Prefect server starts as quickly as one that has run before."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "prefect.db").exists():
        shutil.copyfile(shared.prefect_database(), folder / "prefect.db")
    return folder


def lasting_prefect_server(folder: Path) -> str:
    """Start a Prefect server that ends with the run of the tests; gives its address."""
    prefect_home(folder)
    port = unused_port()
    address, server = f"http://{LOOPBACK}:{port}/api", ["--factory", "prefect.server.api.server:create_app"]
    command = [sys.executable, "-m", "uvicorn", *server, "--host", LOOPBACK, "--port", str(port), "--lifespan", "on"]
    environment = os.environ | INTERNAL | {"PREFECT_HOME": str(folder)}
    process = _started(Program(command, folder / "prefect.log", environment, folder))
    shared.lives_as_long_as_the_run(process.pid)
    _await(process, lambda: answers(f"{address}/health"), folder / "prefect.log")
    return address


@contextmanager
def prefect_worker(
    log: Path, environment: Mapping[str, str], pool: str = "sgcldff", root: Path = ROOT
) -> Iterator[subprocess.Popen]:
    """Run a process worker for a work pool; its flows run the checkout `root`, and end with it.

    `environment` holds what the flows need, too: that of `prefect_server`, perhaps that of `mlflow_server`.
    """
    command = [PREFECT, "worker", "start", "--pool", pool, "--type", "process"]
    given = os.environ | {"SGCLDFF_ROOT": str(root), "PREFECT_WORKER_QUERY_SECONDS": "1"} | dict(environment)
    with running(Program(command, log, given)) as process:
        yield process


def prefect(environment: Mapping[str, str], *arguments: str) -> str:
    """Run Prefect's command line in the repository and give what it prints."""
    done = subprocess.run(
        [PREFECT, "--no-prompt", *arguments], cwd=ROOT, env=os.environ | dict(environment),
        capture_output=True, text=True, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def deploy(environment: Mapping[str, str]) -> None:
    """Deploy `prefect.yaml` as `make deploy` does."""
    prefect(environment, "work-pool", "create", "--type", "process", "--overwrite", "sgcldff")
    prefect(environment, "deploy", "--all")
