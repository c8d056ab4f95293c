"""The servers of infra/compose.yaml: its commands, variables and health checks, on PostgreSQL and S3 on loopback."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import boto3
import httpx
import psycopg2
import pytest
import torch

from flows.environment import require_answer
from sgcldff.cluster import connect
from sgcldff.cluster.config import SchedulerSpec
from sgcldff.core.errors import ServiceError
from sgcldff.core.settings import ModelSpec
from sgcldff.models.checkpoint import WEIGHTS_FILE
from sgcldff.models.model import load_model, save_model
from sgcldff.models.nets import build
from sgcldff.registry import Registry
from tests.infra.composition import WORK_POOLS, environment, probe, program
from tests.servers import (
    LOOPBACK,
    PATIENCE_S,
    ROOT,
    Environment,
    Login,
    Postgres,
    postgres_cluster,
    prefect,
    running,
    s3_server,
    serving,
    unused_port,
)
from tests.small import SMALL

BUCKET = "mlflow"
CHAMPION = "models:/sgcldff@champion"
READER = Login("reader", "a-long-pass-phrase")
SPEC = ModelSpec(net=SMALL)

CONFIGURE = """
import asyncio, json, pathlib, sys
from prefect.blocks.system import Secret
from prefect.workers.base import BaseJobConfiguration

async def configure(template):
    await Secret(value="kept-as-a-block").save("mlflow-password")
    return await BaseJobConfiguration.from_template_and_values(template, {"env": {"DO_NOT_TRACK": "true"}})

template = json.loads(pathlib.Path(sys.argv[1]).read_text())
print(json.dumps(asyncio.run(configure(template)).env))
"""


class Lab(NamedTuple):
    """What the servers stand on, and where they stand."""

    cluster: Postgres
    values: dict[str, str]
    here: dict[str, str]
    s3: Environment
    folder: Path


def secret_names() -> list[str]:
    """Name the secrets that `make secrets` writes."""
    lines = (ROOT / "infra" / ".env.example").read_text().splitlines()
    return [line.removesuffix("=") for line in lines if line and not line.startswith("#")]


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> Iterator[Lab]:
    """Give PostgreSQL and S3 as the first start of compose.yaml leaves them: databases, users and bucket are made."""
    with s3_server(bucket="other") as s3, postgres_cluster() as cluster:
        values = {name: secrets.token_hex(12) for name in secret_names()}
        values |= {"S3_ACCESS_KEY": s3["AWS_ACCESS_KEY_ID"], "S3_SECRET_KEY": s3["AWS_SECRET_ACCESS_KEY"]}
        values |= {"PREFECT_AUTH_STRING": f"operator:{values['PREFECT_AUTH_STRING']}"}
        here = {"http://s3:7070": s3["AWS_ENDPOINT_URL"], "5432": str(cluster.port)}
        here |= {port: str(unused_port()) for port in ("4200", "5000", "8080", "8786", "8787", "8790")}
        here |= {"postgres": LOOPBACK, "http://mlflow": f"http://{LOOPBACK}"}
        here |= {"--workers=2": "--workers=1"}  # each imports MLflow
        here |= {"http://prefect-server": f"http://{LOOPBACK}", "tcp://dask-scheduler": f"tcp://{LOOPBACK}"}
        made = Lab(cluster, values, here, s3, tmp_path_factory.mktemp("lab"))
        with serving(cluster):
            run(made, [ROOT / "infra" / "postgres" / "databases.sh"], {"POSTGRES_USER": cluster.login.user})
            for _ in range(2):
                bucket = program("bucket", values, here, made.folder / "bucket.log")
                subprocess.run(bucket.command, cwd=ROOT, env=bucket.environment, check=True)
        yield made


def run(lab: Lab, command: list[Path], variables: Mapping[str, str]) -> None:
    """Run a script as PostgreSQL's image does, next to the server."""
    given = environment("postgres", lab.values, {}) | dict(variables)
    reached = {"PGHOST": LOOPBACK, "PGPORT": str(lab.cluster.port), "PGPASSWORD": lab.cluster.login.password}
    path = f"{lab.cluster.programs}:{os.environ['PATH']}"
    subprocess.run(command, env=os.environ | given | reached | {"PATH": path}, check=True)


def wait_for(ready: Callable[[], bool]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.2)


@contextmanager
def up(lab: Lab, *services: str) -> Iterator[None]:
    """Run services, each from the moment when its health check passes."""
    with ExitStack() as stack:
        for service in services:
            check = probe(service, lab.here)
            started = program(service, lab.values, lab.here, lab.folder / f"{service}.log")
            stack.enter_context(
                running(started, lambda check=check: not subprocess.run(check, capture_output=True).returncode)
            )
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    return save_model(tmp_path_factory.mktemp("trained"), SPEC, build(SPEC))


@pytest.fixture
def log_in(lab, monkeypatch, tmp_path):
    """Give the function that makes this process a client of MLflow, by itself as the worker is."""
    client = environment("worker", lab.values, lab.here)

    def become(login: Login | None = None) -> Registry:
        login = login or Login(client["MLFLOW_TRACKING_USERNAME"], client["MLFLOW_TRACKING_PASSWORD"])
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", login.user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", login.password)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / secrets.token_hex(4)))
        return Registry(client["MLFLOW_TRACKING_URI"])

    return become


def stored(lab: Lab) -> list[str]:
    """List what lies in the bucket."""
    names = {"endpoint_url": "AWS_ENDPOINT_URL", "region_name": "AWS_DEFAULT_REGION"}
    names |= {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
    client = boto3.client("s3", **{name: lab.s3[variable] for name, variable in names.items()})
    return [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def test_models_outlive_restart_and_restoration_and_strangers_are_kept_out(lab, trained, log_in):
    with serving(lab.cluster), up(lab, "mlflow"):
        registry = log_in()
        ref = registry.register(trained)
        assert registry.promote(ref)["champion"] == ref.version
        assert [key for key in stored(lab) if key.endswith(WEIGHTS_FILE)]
        strangers_are_kept_out(registry.address.uri, log_in)
        others_names_are_refused(registry.address.uri)
        readers_read(registry.address.uri, log_in)
        dump = pg(lab.cluster, "pg_dump", "--format", "custom", "mlflow")
    with serving(lab.cluster):
        restore(lab.cluster, dump)
    with serving(lab.cluster), up(lab, "mlflow"):
        found, folder = log_in().resolve(CHAMPION)
        assert found == ref
        assert load_model(folder, "cpu").digest == ref.digest


def pg(cluster: Postgres, name: str, *arguments: str, given: bytes | None = None) -> bytes:
    """Run a program of PostgreSQL as docs/operations/servers.md does in the container."""
    reached = {"PGHOST": LOOPBACK, "PGPORT": str(cluster.port), "PGPASSWORD": cluster.login.password}
    command = [cluster.programs / name, "--username", cluster.login.user, *arguments]
    return subprocess.run(command, env=os.environ | reached, input=given, stdout=subprocess.PIPE, check=True).stdout


def restore(cluster: Postgres, dump: bytes) -> None:
    """Lose the registry's aliases, and put the database back from its backup."""
    cluster.psql("DROP TABLE registered_model_aliases", "mlflow")
    pg(cluster, "pg_restore", "--clean", "--if-exists", "--dbname", "mlflow", given=dump)


def strangers_are_kept_out(server: str, log_in) -> None:
    """Try without a password, and with a wrong one."""
    for path in ("", "api/2.0/mlflow/registered-models/search", "api/2.0/mlflow-artifacts/artifacts"):
        assert httpx.get(f"{server}/{path}").status_code == 401, path
    with pytest.raises(ServiceError, match="refuses access: set MLFLOW_TRACKING_USERNAME"):
        log_in(Login("operator", "wrong")).resolve(CHAMPION)


def others_names_are_refused(server: str) -> None:
    """Call the server by the name that it has in compose.yaml, and by one that a page in a browser might use."""
    port = server.rpartition(":")[2]
    for host, status in {f"mlflow:{port}": 401, "attacker.example.org": 403}.items():
        assert httpx.get(f"{server}/api/2.0/mlflow/experiments/search", headers={"Host": host}).status_code == status


def readers_read(server: str, log_in) -> None:
    """Make a user who may read, and see that it may do no more."""
    log_in()
    admin = (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"])
    reader = {"username": READER.user, "password": READER.password}
    httpx.post(f"{server}/api/2.0/mlflow/users/create", json=reader, auth=admin).raise_for_status()
    registry = log_in(READER)
    assert registry.resolve(CHAMPION)
    (version,) = registry.versions()
    with pytest.raises(ServiceError, match="refuses access"):
        registry.runs.tag(version.run_id, {"changed": "yes"})


def test_prefect_keeps_its_records_in_postgres_behind_a_password(lab, monkeypatch):
    client = environment("worker", lab.values, lab.here) | {"PREFECT_HOME": str(lab.folder / "prefect")}
    for name, value in client.items():
        monkeypatch.setenv(name, value)
    with serving(lab.cluster), up(lab, "prefect-server"):
        require_answer(client["PREFECT_API_URL"])
        assert httpx.post(f"{client['PREFECT_API_URL']}/work_pools/filter", json={}).status_code == 401
        with up(lab, "worker"):
            wait_for(lambda: "sgcldff" in pools(client))
        for kind, template in WORK_POOLS.items():
            prefect(client, "work-pool", "create", "--type", kind, "--base-job-template", str(template), kind)
        passwords_are_taken_from_secrets(client)
    assert not list((lab.folder / "prefect").glob("*.db"))
    with serving(lab.cluster), up(lab, "prefect-server"):
        assert pools(client) == {"sgcldff": "process", "docker": "docker", "kubernetes": "kubernetes"}


def pools(client: Mapping[str, str]) -> dict[str, str]:
    """Give the types of the work pools by name."""
    found = httpx.post(f"{client['PREFECT_API_URL']}/work_pools/filter", json={}, auth=login_of(client))
    return {pool["name"]: pool["type"] for pool in found.raise_for_status().json()}


def login_of(client: Mapping[str, str]) -> tuple[str, str]:
    user, password = client["PREFECT_API_AUTH_STRING"].split(":")
    return user, password


def passwords_are_taken_from_secrets(client: Mapping[str, str]) -> None:
    """Have Prefect make the configuration of a container, as its worker for Docker does."""
    told = subprocess.run(
        [sys.executable, "-c", CONFIGURE, WORK_POOLS["docker"]],
        env=os.environ | dict(client),
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    assert json.loads(told) == {
        "PREFECT_API_URL": "http://prefect-server:4200/api",
        "DO_NOT_TRACK": "true",
        "MLFLOW_TRACKING_URI": "http://mlflow:5000",
        "MLFLOW_TRACKING_USERNAME": "operator",
        "MLFLOW_TRACKING_PASSWORD": "kept-as-a-block",
    }


def test_each_database_is_closed_to_the_others_user(lab):
    login = {"host": LOOPBACK, "port": lab.cluster.port, "user": "mlflow"}
    login["password"] = lab.values["MLFLOW_DATABASE_PASSWORD"]
    with serving(lab.cluster):
        psycopg2.connect(dbname="mlflow", **login).close()
        with pytest.raises(psycopg2.OperationalError, match="permission denied"):
            psycopg2.connect(dbname="prefect", **login)


def test_slides_find_the_workers_of_dask(lab):
    address = f"tcp://{LOOPBACK}:{lab.here['8786']}"
    with up(lab, "dask-scheduler", "dask-worker-gpu"), connect(SchedulerSpec(address)) as client:
        (worker,) = client.scheduler_info()["workers"].values()
        assert (worker["nthreads"], worker["resources"], worker["memory_limit"]) == (1, {"GPU": 1}, 4 << 30)
