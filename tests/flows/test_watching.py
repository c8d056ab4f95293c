"""What a person and a machine see of runs: the doctor, metrics of a real run, artifacts of every stage."""

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from contextlib import suppress

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from flows.cli import app
from sgcldff.core.errors import InputError, ServiceError, SgcldffError
from sgcldff.core.logs import LOG_FILE
from tasks.metrics import PORT


@pytest.fixture
def invoke(monkeypatch):
    """Give the function that runs the command line, and leave the environment as it was."""
    for name in (PORT, LOG_FILE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    return lambda *arguments: CliRunner().invoke(app, ["--verbose", *map(str, arguments)])


def scraped(port: int) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


def test_figures_of_a_real_run_are_scraped_while_it_runs(lab, slide, invoke, unused_port, tmp_path):
    port, seen, over = unused_port(), [], threading.Event()

    def scrape():
        while not over.is_set():
            with suppress(urllib.error.URLError):  # not served yet
                seen.append(scraped(port))
            time.sleep(0.02)

    scraper = threading.Thread(target=scrape)
    scraper.start()
    given = ("-o", tmp_path / "out", "-w", lab.workspace, "--workers", 0, "--metrics-port", port)
    ended = invoke("infer", slide.slide, *given)
    over.set()
    scraper.join()
    assert ended.exit_code == 0, ended.output
    assert any(now.get(("sgcldff_slides", "running")) == 1 for now in seen)
    first, last = seen[0], scraped(port)
    grown = {key for key, value in last.items() if value > first.get(key, 0)}
    assert {("sgcldff_tiles_total", "read"), ("sgcldff_shard_passes_total",)} <= grown
    assert ("sgcldff_stage_duration_seconds_count", "done", "read-slide") in grown
    assert any(name == "sgcldff_work_seconds_total" for name, *_ in grown)


def test_a_port_in_use_ends_a_command_before_it_begins(invoke, lab):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = invoke("train", "-w", lab.workspace, "--metrics-port", port)
    assert isinstance(ended.exception, InputError)
    assert f"port {port}" in str(ended.exception)


def keyed(key: str) -> ArtifactFilter:
    return ArtifactFilter(key=ArtifactFilterKey(any_=[key]))


def test_every_stage_leaves_an_artifact(contest):
    keys = {"catalog", "priors", "training", "evaluation", "examples", "registered", "verdict"}
    with get_client(sync_client=True) as client:
        found = {key: client.read_artifacts(artifact_filter=keyed(key)) for key in keys}
    assert all(found.values()), found
    curves = [curve for training in found["training"] if (curve := json.loads(training.data))]
    assert curves
    for first, *_ in curves:
        assert first["epoch"] == 0
        assert first["loss"] > 0
        assert 0 <= first["score"] <= 1


def test_the_doctor_prints_a_table_and_json(invoke, tmp_path, monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    table = invoke("doctor", "-w", tmp_path)
    assert "what to do" in table.output
    told = json.loads(invoke("doctor", "-w", tmp_path, "--json").stdout)
    assert {check["state"] for check in told} <= {"ok", "warning", "failed"}
    assert {"gpu", "slides", "packages", "prefect", "disk"} <= {check["name"] for check in told}


def test_the_doctors_exit_code_tells_servers_from_the_rest(invoke, tmp_path, monkeypatch, unused_port):
    monkeypatch.setattr("sgcldff.doctor.packages.requires", lambda name: ["numpy"])
    monkeypatch.setattr("sgcldff.doctor.hardware.WORKER_GB", 0.001)
    monkeypatch.setattr("sgcldff.doctor.folders.MIN_GB", 0.0)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:correct-horse@127.0.0.1:{unused_port()}")
    ended = invoke("doctor", "-w", tmp_path)
    assert isinstance(ended.exception, ServiceError)
    assert "mlflow" in str(ended.exception)
    assert "correct-horse" not in ended.output + str(ended.exception)
    monkeypatch.setattr("sgcldff.doctor.packages.requires", lambda name: ["no-such-package"])
    ended = invoke("doctor", "-w", tmp_path)
    assert isinstance(ended.exception, SgcldffError)
    assert ended.exception.exit_code == 1
