"""MLflow and Prefect as laboratories run them: PostgreSQL behind both, artifacts on an S3 server, passwords."""

from collections.abc import Mapping
from pathlib import Path

import boto3
import httpx
import pytest
import torch

from flows.environment import require_answer
from sgcldff.errors import ServiceError
from sgcldff.model import WEIGHTS_FILE, load_model, save_model
from sgcldff.nets import build
from sgcldff.registry import Registry
from sgcldff.specs import ModelSpec, NetSpec, Pretrained
from tests.servers import (
    BUCKET,
    FOR_PREFECT,
    Login,
    mlflow_server,
    postgres_cluster,
    prefect,
    prefect_server,
    s3_server,
    serving,
)

SPEC = ModelSpec(net=NetSpec(pretrained=Pretrained.OFF, fusion_width=32))
ADMIN, READER = Login("operator", "a-long-pass-phrase"), Login("reader", "another-pass-phrase")
CHAMPION = "models:/sgcldff@champion"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    return save_model(tmp_path_factory.mktemp("trained"), SPEC, build(SPEC))


@pytest.fixture
def log_in(monkeypatch, tmp_path):
    """Give the function that makes this process the client of a server, as its environment says."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def become(client: Mapping[str, str], login: Login | None = None) -> Registry:
        user, password = login or (client["MLFLOW_TRACKING_USERNAME"], client["MLFLOW_TRACKING_PASSWORD"])
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", user)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        return Registry(client["MLFLOW_TRACKING_URI"])

    return become


def keys_of(environment: Mapping[str, str]) -> list[str]:
    """List what lies in the bucket."""
    client = boto3.client(
        "s3",
        endpoint_url=environment["AWS_ENDPOINT_URL"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        region_name=environment["AWS_DEFAULT_REGION"],
    )
    return [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def test_models_outlive_a_restart_of_the_servers_and_strangers_are_kept_out(trained, log_in, tmp_path):
    with s3_server() as s3, postgres_cluster() as cluster:
        with serving(cluster):
            places = (tmp_path / "mlflow", cluster.create("mlflow"), f"s3://{BUCKET}", s3, ADMIN)
            with mlflow_server(*places) as client:
                registry = log_in(client)
                ref = registry.register(trained)
                assert registry.promote(ref)["champion"] == ref.version
                assert [key for key in keys_of(s3) if key.endswith(WEIGHTS_FILE)]
                strangers_are_kept_out(client, log_in)
        (tmp_path / "cache").rename(tmp_path / "emptied")
        with serving(cluster), mlflow_server(*places) as client:
            found, folder = log_in(client).resolve(CHAMPION)
            assert found == ref
            assert load_model(folder, "cpu").digest == ref.digest


def strangers_are_kept_out(client: Mapping[str, str], log_in) -> None:
    """Try without a password, with a wrong one, and as somebody who may only read."""
    server = client["MLFLOW_TRACKING_URI"]
    for path in ("", "api/2.0/mlflow/registered-models/search", "api/2.0/mlflow-artifacts/artifacts"):
        assert httpx.get(f"{server}/{path}").status_code == 401, path
    with pytest.raises(ServiceError):
        log_in(client, Login(ADMIN.user, "wrong")).resolve(CHAMPION)
    reader = {"username": READER.user, "password": READER.password}
    httpx.post(f"{server}/api/2.0/mlflow/users/create", json=reader, auth=ADMIN).raise_for_status()
    registry = log_in(client, READER)
    ref, _ = registry.resolve(CHAMPION)
    with pytest.raises(ServiceError):
        registry.rollback()
    with pytest.raises(ServiceError):
        registry.promote(ref)


def test_prefect_keeps_its_records_in_postgres_behind_a_password(postgres, tmp_path):
    database = postgres.create("prefect", FOR_PREFECT)
    with prefect_server(tmp_path / "prefect", database, ADMIN) as client:
        require_answer(client["PREFECT_API_URL"])
        prefect(client, "work-pool", "create", "--type", "process", "kept")
        assert httpx.post(f"{client['PREFECT_API_URL']}/work_pools/filter", json={}).status_code == 401
    assert not list((tmp_path / "prefect").glob("*.db"))
    with prefect_server(tmp_path / "prefect", database, ADMIN) as client:
        found = httpx.post(f"{client['PREFECT_API_URL']}/work_pools/filter", json={}, auth=ADMIN).json()
    assert "kept" in {pool["name"] for pool in found}
