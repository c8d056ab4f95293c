"""infra/compose.yaml: valid by the schema of Compose, and what it promises."""

import re
import subprocess
import sys
from itertools import chain
from pathlib import Path

import mlflow.environment_variables
import prefect.settings
import pytest
import yaml

from sgcldff.cluster.dask_settings import SCHEDULER_SETTINGS, variable
from sgcldff.cluster.dask_settings import environment as worker_settings
from tests.infra.composition import COMPOSE, CONFIDENTIAL, SERVICES, VARIABLE
from tests.servers import ROOT

ONCE = {"bucket", "deploy"}
"""Services that do one thing and end."""


def schema_errors(path: Path) -> str:
    """Say what the schema that check-jsonschema brings along has against a file; empty if nothing."""
    checker = Path(sys.executable).with_name("check-jsonschema")
    done = subprocess.run(
        [checker, "--builtin-schema", "vendor.compose-spec", path], capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr if done.returncode else ""


@pytest.mark.parametrize("name", ["compose.yaml", "compose.gpu.yaml"])
def test_the_file_is_valid(name):
    assert not schema_errors(ROOT / "infra" / name)


def test_the_schema_would_refuse_an_unknown_key(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(COMPOSE.read_text().replace("    restart:", "    restarts:", 1))
    assert "restarts" in schema_errors(wrong)


def test_every_service_has_a_health_check_and_comes_back():
    for name, service in SERVICES.items():
        if name in ONCE:
            assert service["restart"] == "no"
        else:
            assert service["restart"] == "unless-stopped", name
            assert {"test", "interval", "timeout", "retries"} <= set(service["healthcheck"]), name


def test_services_wait_for_what_they_need():
    for name, service in SERVICES.items():
        for other, how in service.get("depends_on", {}).items():
            ended = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert how["condition"] == ended, f"{name}: {other}"
    assert set(SERVICES["mlflow"]["depends_on"]) == {"postgres", "bucket"}
    assert set(SERVICES["worker"]["depends_on"]) == {"prefect-server", "mlflow"}


def test_ports_are_published_on_loopback_only_and_dask_only_shows_its_page():
    published = {name: service.get("ports", []) for name, service in SERVICES.items()}
    for port in chain.from_iterable(published.values()):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port), port
    assert {name for name, ports in published.items() if ports} == {"mlflow", "prefect-server", "dask-scheduler"}
    assert published["dask-scheduler"] == ["127.0.0.1:8787:8787"]


def test_images_have_a_version():
    for name, service in SERVICES.items():
        image = VARIABLE.sub(lambda match: match["text"], service["image"])
        assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]+", image), f"{name}: {image}"


def test_containers_have_no_more_rights_than_they_need():
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "network_mode", "pid"} & set(service), name
        assert "docker.sock" not in str(service), name
    assert [name for name, service in SERVICES.items() if "cap_add" in service] == ["postgres"]


def test_secrets_come_from_outside():
    for name, service in SERVICES.items():
        for variable_name, value in service.get("environment", {}).items():
            if CONFIDENTIAL.search(variable_name):
                assert re.fullmatch(r"\$\{\w+:\?run make secrets\}", value), f"{name}: {variable_name}"
    assert not re.search(r"://[^/\s]+:[^/\s]+@", COMPOSE.read_text()), "an address with a password"


def test_what_is_asked_for_is_what_make_secrets_writes(tmp_path):
    asked = {match["name"] for match in VARIABLE.finditer(COMPOSE.read_text()) if match["mark"] == ":?"}
    script = tmp_path / "secrets.sh"
    script.write_bytes((ROOT / "infra" / "secrets.sh").read_bytes())
    subprocess.run(["bash", script], check=True, capture_output=True)
    written = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text().splitlines())
    assert set(written) == asked
    assert len(set(written.values())) == len(written)
    assert all(re.fullmatch(r"(operator:)?[0-9a-f]{48}", value) for value in written.values())
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    again = subprocess.run(["bash", script], check=False, capture_output=True, text=True)
    assert again.returncode == 2
    assert "exists" in again.stderr


def test_the_example_names_every_variable_and_no_value():
    lines = (ROOT / "infra" / ".env.example").read_text().splitlines()
    needed = {line.rstrip("=") for line in lines if line and not line.startswith("#")}
    optional = {match[1] for line in lines if (match := re.fullmatch(r"# (\w+)=.*", line))}
    marks = {match["name"]: match["mark"] for match in VARIABLE.finditer(COMPOSE.read_text())}
    assert needed == {name for name, mark in marks.items() if mark == ":?"}
    assert optional == {name for name, mark in marks.items() if mark == ":-"}
    assert all(line.endswith("=") for line in lines if line and not line.startswith("#"))


def test_git_ignores_what_holds_secrets():
    ignored = ["git", "-C", ROOT, "check-ignore", "--no-index", "infra/.env"]
    if not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    assert subprocess.run(ignored, capture_output=True, text=True, check=False).stdout.strip() == "infra/.env"


def test_every_variable_is_one_that_is_read():
    """A misspelt variable would be passed over in silence."""
    readers = {"MLFLOW_": mlflow.environment_variables, "PREFECT_": prefect.settings}
    for name in SERVICES.keys() - {"postgres"}:
        for variable_name in SERVICES[name].get("environment", {}):
            for prefix, reader in readers.items():
                assert not variable_name.startswith(prefix) or hasattr(reader, variable_name), (
                    f"{name}: {variable_name}"
                )


def test_dask_is_set_as_the_clusters_that_sgcldff_starts():
    scheduler = {f"DASK_{variable(name)}": str(value) for name, value in SCHEDULER_SETTINGS.items()}
    assert SERVICES["dask-scheduler"]["environment"] == scheduler
    for name in ("dask-worker", "dask-worker-gpu"):
        assert worker_settings().items() <= SERVICES[name]["environment"].items()
        assert "--nthreads=1" in SERVICES[name]["command"]


def test_the_gpu_profile_reserves_one_and_says_so_to_dask():
    worker = SERVICES["dask-worker-gpu"]
    trainer = yaml.safe_load((ROOT / "infra" / "compose.gpu.yaml").read_text())["services"]["worker"]
    assert worker["profiles"] == ["gpu"]
    assert "--resources=GPU=1" in worker["command"]
    for service in (worker, trainer):
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert (device["count"], device["capabilities"]) == (1, ["gpu"])


def test_volumes_are_declared_and_used():
    declared = set(yaml.safe_load(COMPOSE.read_text())["volumes"])
    mounted = {item.split(":")[0] for service in SERVICES.values() for item in service.get("volumes", [])}
    assert {name for name in mounted if re.fullmatch(r"\w+", name)} == declared
