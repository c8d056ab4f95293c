"""Figures for Prometheus, scraped as Prometheus does."""

import socket
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from sgcldff.core.errors import InputError
from sgcldff.core.tally import Tally
from tasks import metrics
from tasks.live_view import BatchView
from tasks.stages import timed_stage
from tasks.training_curves import Gauges, epochs_table


@pytest.fixture
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scraped(port: int) -> dict[tuple[str, ...], float]:
    """Give every sample by its name and the values of its labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {(one.name, *one.labels.values()): one.value for family in families for one in family.samples}


@pytest.fixture
def served(port, monkeypatch):
    monkeypatch.setenv(metrics.PORT, str(port))
    metrics.serve_if_configured()
    metrics.serve_if_configured()
    return port


def test_a_batch_is_counted_while_it_runs(served):
    before = scraped(served)
    with BatchView(4, console=Console(quiet=True)) as view:
        with view.slide("a", shards=2) as progress:
            progress(Tally(1, tiles=5, skipped=20, cells={"blast": 2}, seconds={"model": 1.5}))
            view.skip("b", "damaged")
            now = scraped(served)
            assert (now["sgcldff_slides", "running"], now["sgcldff_slides", "set_aside"]) == (1, 1)
            assert (now["sgcldff_slides", "done"], now["sgcldff_slides", "waiting"]) == (0, 2)
        now = scraped(served)
        assert (now["sgcldff_slides", "done"], now["sgcldff_slides", "running"]) == (1, 0)
    for key, more in {
        ("sgcldff_tiles_total", "read"): 5,
        ("sgcldff_tiles_total", "skipped"): 20,
        ("sgcldff_cells_total", "blast"): 2,
        ("sgcldff_work_seconds_total", "model"): 1.5,
        ("sgcldff_shard_passes_total",): 1,
    }.items():
        assert now[key] - before.get(key, 0) == more


def test_stages_are_timed_by_how_they_end(served):
    with timed_stage("reading"):
        pass
    with pytest.raises(ValueError, match="bad"), timed_stage("reading"):
        raise ValueError("bad")
    now = scraped(served)
    assert now["sgcldff_stage_duration_seconds_count", "done", "reading"] == 1
    assert now["sgcldff_stage_duration_seconds_count", "failed", "reading"] == 1


def test_training_keeps_its_gauges_current(served):
    Gauges().log_metrics({"epoch": 3, "train/loss": 0.5, "train/centre": 0.1, "val/score": 0.8}, 40)
    now = scraped(served)
    assert now["sgcldff_training_epoch",] == 3
    assert now["sgcldff_training_loss", "total"] == 0.5
    assert now["sgcldff_validation_score", "score"] == 0.8


def test_only_this_machine_is_served(served):
    with socket.create_server(("127.0.0.2", served)):
        pass  # had it bound all addresses, this one could not be had


def test_a_port_that_is_taken_is_told(port, monkeypatch):
    with socket.create_server(("127.0.0.1", port)):
        monkeypatch.setenv(metrics.PORT, str(port))
        with pytest.raises(InputError, match=f"port {port}.*--metrics-port"):
            metrics.serve_if_configured()
        monkeypatch.setenv(metrics.RANK, "1")
        metrics.serve_if_configured()


@pytest.mark.parametrize("told", ["many", "0", "70000", "-1"])
def test_what_is_no_port_is_told(told, monkeypatch):
    monkeypatch.setenv(metrics.PORT, told)
    with pytest.raises(InputError, match="give a port"):
        metrics.serve_if_configured()


def test_the_table_of_a_training_has_a_row_an_epoch():
    curves = {
        "train/loss": [(9, 2.0), (19, 1.0), (29, 0.5)],
        "val/score": [(14, 0.25), (29, 0.75)],
        "val/accuracy": [(29, 0.5)],
    }
    assert epochs_table(curves) == [
        {"epoch": 0, "step": 14, "loss": 2.0, "score": 0.25, "accuracy": None},
        {"epoch": 1, "step": 29, "loss": 0.5, "score": 0.75, "accuracy": 0.5},
    ]
    assert epochs_table({}) == []
