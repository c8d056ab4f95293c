"""Registries on a server, their addresses and locks."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sgcldff.core.errors import InputError, ServiceError
from sgcldff.core.locations import Address, shown
from sgcldff.core.locks import locked
from sgcldff.models.checkpoint import WEIGHTS_FILE
from sgcldff.models.model import load_model
from sgcldff.registry import Registry
from tests.servers import mlflow_server, unused_port
from tests.sgcldff.registry.odd_model import report_of

pytestmark = pytest.mark.slow


@pytest.fixture
def server(seed_home: Path, tmp_path: Path) -> Iterator[str]:
    with mlflow_server(shutil.copytree(seed_home, tmp_path / "server")) as variables:
        yield variables["MLFLOW_TRACKING_URI"]


def test_a_server_serves_the_same_and_its_models_are_kept_here(
    server: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registry = Registry(server)
    ref = registry.register(trained, report_of(0.5))
    assert registry.promote(ref) == {"challenger": "1", "champion": "1"}
    found, folder = registry.resolve("models:/sgcldff@champion")
    assert found == ref
    assert folder.is_relative_to(tmp_path / "cache")
    assert load_model(folder, "cpu").digest == ref.digest
    stamp = (folder / WEIGHTS_FILE).stat().st_mtime_ns
    assert Registry(server).resolve("models:/sgcldff@champion") == (ref, folder)
    assert (folder / WEIGHTS_FILE).stat().st_mtime_ns == stamp
    assert registry.report(ref) == report_of(0.5)
    assert list(folder.parent.glob("*.partial")) == []


def test_a_server_that_is_down_is_said_so_at_once_and_passwords_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    port, began = unused_port(), time.monotonic()
    with pytest.raises(ServiceError, match=f"MLflow at http://127.0.0.1:{port} does not answer.*start it") as caught:
        Registry(f"http://somebody:secret@127.0.0.1:{port}").resolve("models:/sgcldff@champion")
    assert time.monotonic() - began < 15
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_places_that_are_no_registry_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give a folder"):
        Registry("postgresql://u:secret@db/x")
    (tmp_path / "mlflow.db").write_text("this is no database, however long it is" * 100)
    with pytest.raises(ServiceError, match="not a database"):
        Registry(tmp_path).aliases()


@pytest.mark.parametrize(
    ("location", "uri"),
    [
        ("/a/b", "sqlite:////a/b/mlflow.db"),
        ("sqlite:////a/b/x.db", "sqlite:////a/b/x.db"),
        ("sqlite:///x.db", f"sqlite:///{Path.cwd()}/x.db"),
        ("http://host:5000/", "http://host:5000"),
    ],
)
def test_addresses_are_absolute(location: str, uri: str) -> None:
    assert Address.parse(location).uri == uri
    assert Address.parse(location).folder.is_absolute()


def test_an_address_is_shown_without_its_password() -> None:
    assert shown("https://me:pass@host:1/x") == "https://host:1/x"
    assert shown("sqlite:////a@b/x.db") == "sqlite:////a@b/x.db"


def test_a_lock_that_is_held_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    with locked(tmp_path / "x.lock"):
        began = time.monotonic()
        with pytest.raises(ServiceError, match=r"x\.lock"), locked(tmp_path / "x.lock", 0.2):
            pytest.fail("two holders")
        assert time.monotonic() - began >= 0.2
    with locked(tmp_path / "x.lock", 0):
        pass
