"""What evaluations and readings leave in MLflow, in a real registry."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sgcldff.core.records import ModelRef
from sgcldff.core.settings import InferSpec
from sgcldff.models.model import save_model
from sgcldff.models.nets import build
from sgcldff.registry import ChosenModel, Registry, Runs
from sgcldff.results.batch import SlideSummary
from tasks import tracking
from tasks.tracking import READINGS, record_evaluation, record_reading
from tests.servers import unused_port
from tests.sgcldff.registry.odd_model import SPEC, report_of

pytestmark = pytest.mark.slow

SLIDE = "Jane Doe 1970"


@pytest.fixture(scope="module")
def registry(mlflow_tables: None, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Hold two versions of different weights, registered without scores."""
    registry = Registry(tmp_path_factory.mktemp("registry"))
    for seed in (0, 1):
        torch.manual_seed(seed)
        registry.register(save_model(tmp_path_factory.mktemp("trained"), SPEC, build(SPEC)), title=f"seed {seed}")
    return registry


def evaluate(registry: Registry, number: int, accuracy: float, folder: Path) -> str:
    """Write the report of a version's evaluation."""
    digest = registry.resolve(f"models:/sgcldff/{number}")[0].digest
    return str(replace(report_of(accuracy), model=digest).save(folder / f"evaluation-{number}"))


def test_mlflow_compares_models_by_their_scores_on_the_same_images(registry: Registry, tmp_path: Path) -> None:
    for number, accuracy in ((1, 0.5), (2, 0.75), (2, 0.75)):
        record_evaluation(evaluate(registry, number, accuracy, tmp_path), registry.address.uri)
    client, experiments = registry.client, [registry.runs.experiment_id]
    truth = {"dataset_name": "all", "dataset_digest": "truth"}
    order = [{"field_name": "metrics.accuracy", "ascending": False, **truth}]
    assert [model.name for model in client.search_logged_models(experiments, order_by=order)] == ["seed 1", "seed 0"]
    condition = "metrics.accuracy > 0.6"
    (best,) = client.search_logged_models(experiments, filter_string=condition, datasets=[truth])
    assert best.name == "seed 1"
    assert not client.search_logged_models(experiments, condition, datasets=[truth | {"dataset_digest": "other"}])
    runs = client.search_runs(experiments, "tags.`sgcldff.evaluation` != ''")
    assert [run.data.tags["sgcldff.model"] for run in runs] == ["sgcldff 2", "sgcldff 1"]
    newest = client.get_run(runs[0].info.run_id)
    assert newest.info.run_name.startswith("evaluate all 20")
    assert [used.model_id for used in newest.inputs.model_inputs] == [best.model_id]
    assert [used.dataset.digest for used in newest.inputs.dataset_inputs] == ["truth"]
    assert newest.data.params["evaluate.resamples"] == "1000"
    assert "evaluation/report.json" in {file.path for file in client.list_artifacts(newest.info.run_id, "evaluation")}


def test_a_version_says_what_it_is_and_its_training_lists_it(registry: Registry) -> None:
    newest, _ = registry.versions()
    assert newest.title == "seed 1"
    run, model = registry.client.get_run(newest.run_id), registry.client.get_logged_model(newest.model_id)
    assert [made.model_id for made in run.outputs.model_outputs] == [newest.model_id]
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "sgcldff", "version": 2}]


def read_slide(out: Path) -> tuple[list[SimpleNamespace], list[SlideSummary]]:
    """Give what a batch with one slide ends with."""
    slide = SimpleNamespace(id=SLIDE, uri=f"/slides/{SLIDE}.svs")
    return [SimpleNamespace(slide=slide, folder=out / SLIDE)], [SlideSummary(SLIDE, f"{SLIDE}.svs", tiles=9)]


def test_a_reading_leaves_one_run_without_names_of_slides(registry: Registry, tmp_path: Path) -> None:
    ref, folder = registry.resolve("models:/sgcldff/1")
    model, out = ChosenModel("models:/sgcldff/1", ref, folder, "", registry.address.uri), tmp_path / "ward 7"
    jobs, summaries = read_slide(out)
    for _ in range(2):
        record_reading(jobs, summaries, model, InferSpec(), str(out))
    runs = Runs(registry.address.uri, READINGS)
    (run,) = runs.client.search_runs([runs.experiment_id])
    assert run.info.run_name.startswith("ward 7: 1 slide 20")
    assert run.data.metrics.items() >= {"slides": 1, "tiles": 9, "cells": 0}.items()
    assert run.data.tags["sgcldff.results"] == str(out)
    assert run.data.params["infer.gate.enabled"] == "True"
    kept = runs.client.get_run(run.info.run_id)
    assert [used.model_id for used in kept.inputs.model_inputs] == [registry.versions()[1].model_id]
    assert SLIDE not in str(kept.to_dictionary())
    record_reading(jobs, [replace(summaries[0], reason="damaged")], model, InferSpec(), str(out))
    assert len(runs.client.search_runs([runs.experiment_id])) == 2


def test_without_a_store_or_without_mlflow_a_reading_leaves_nothing(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref, folder = ModelRef("sgcldff_released", "3", "abc"), tmp_path
    given = *read_slide(tmp_path), ChosenModel("released", ref, folder, "", tmp_path / "mlflow"), InferSpec(), "out"
    record_reading(*given)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "sgcldff.registry.tracking", None)
    record_reading(*given[:2], replace(given[2], registry=registry.address.uri), *given[3:])


def test_what_was_read_stays_read_when_mlflow_does_not_answer(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    server = f"http://127.0.0.1:{unused_port()}"
    model = ChosenModel("released", ModelRef("sgcldff_released", "3", "abc"), tmp_path, "", server)
    record_reading(*read_slide(tmp_path), model, InferSpec(), "out")
    assert f"not recorded in MLflow: MLflow at {server} does not answer" in caplog.text
