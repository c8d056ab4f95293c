"""Which model a command takes, what it says of it, and what becomes of the one that ships."""

import json
import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sgcldff.core.records import ModelRef, Split
from sgcldff.data.catalog import Catalog
from sgcldff.data.synthetic import write_dataset
from sgcldff.data.synthetic.slides import write_slide
from sgcldff.models.checkpoint import saved_digest
from sgcldff.models.released import RELEASED_NAME, RELEASED_VERSION
from sgcldff.registry import Registry
from tasks.workspace import Workspace
from tests.terminal import Ran


def test_an_alias_that_is_not_there_lists_those_that_are(lab, slide, run, tmp_path):
    ran = run("infer", slide.slide, "-o", tmp_path, "-w", lab.workspace, "--model", "models:/sgcldff@best")
    assert ran.code == 2
    assert "no such alias" in ran.line
    assert "champion" in ran.line


def test_a_model_that_is_no_model(lab, slide, run, tmp_path):
    ran = run("infer", slide.slide, "-o", tmp_path / "out", "-w", lab.workspace, "--model", tmp_path / "nothing")
    assert ran.code == 2
    assert "nothing" in ran.line


def models_of(results: Path) -> set[ModelRef]:
    """Give the models that a batch's table names."""
    rows = pq.read_table(results / "batch.parquet").to_pylist()
    return {ModelRef(*(row[name] for name in ("model_name", "model_version", "model_digest"))) for row in rows}


def model_line(ran: Ran) -> str:
    """Find the line that says which model was taken."""
    (line,) = [line for line in ran.out.splitlines() if line.startswith("Model ")]
    return line


def test_a_new_workspace_reads_slides_with_the_released_model(shipped, slide, run, tmp_path):
    workspace, released = tmp_path / "ws", ModelRef(RELEASED_NAME, RELEASED_VERSION, saved_digest(shipped))
    ran = run("infer", slide.slide, "-o", tmp_path / "out", "-w", workspace, "--workers", "0", "--no-gate")
    assert ran.code == 0
    line = (
        f"Model {RELEASED_NAME} {RELEASED_VERSION} ({released.digest}): the released model, since there is no champion"
    )
    assert model_line(ran).startswith(line)
    assert models_of(tmp_path / "out") == {released}
    assert not (workspace / "mlflow").exists(), "looking for a champion makes no database"


def test_a_champion_reads_slides_before_the_released_model(shipped, lab, slide, run, tmp_path):
    given = (slide.slide, "-o", tmp_path / "out", "-w", lab.workspace, "--workers", "0")
    ran, champion = run("infer", *given), lab.first.challenger.model
    assert ran.code == 0
    assert model_line(ran).startswith(f"Model sgcldff {champion.version} ({champion.digest}): the champion at sqlite:")
    assert models_of(tmp_path / "out") == {champion}


def test_the_released_model_is_not_scored_on_what_it_learned_from(shipped, lab, run, settings):
    given = ("--model", "released", "-w", lab.workspace, "--settings", settings)
    ran = run("evaluate", "-d", lab.sources[0].folder, *given)
    assert ran.code == 0
    assert model_line(ran) == f"Model {RELEASED_NAME} {RELEASED_VERSION} ({saved_digest(shipped)}): as requested"
    samples = Catalog.open(Workspace(lab.workspace).catalog)
    learned = len(samples.samples) - len(samples.select(Split.TEST))
    assert f"Skipped: {learned}" in ran.out


def test_without_champion_and_released_model_the_remedy_is_told(run, slide, tmp_path, monkeypatch):
    monkeypatch.setattr("sgcldff.models.released.ROOT", tmp_path)
    ran = run("infer", slide.slide, "-o", tmp_path / "out", "-w", tmp_path / "ws")
    assert ran.code == 2
    assert "--model" in ran.line


def test_a_registry_that_does_not_answer_is_an_error_and_not_the_released_model(
    shipped, run, slide, tmp_path, monkeypatch, unused_port
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused_port()}")
    data = write_dataset(tmp_path / "data", 1, 0)
    for command in (("infer", slide.slide, "-o", tmp_path / "out"), ("evaluate", "-d", data)):
        ran = run(*command, "-w", tmp_path / "ws")
        assert ran.code == 5
        assert "does not answer" in ran.line
        assert "Model " not in ran.out


def test_the_released_model_is_adopted_and_promoted_by_the_rules(shipped, lab, run, settings, tmp_path):
    place = ("-w", tmp_path / "ws")
    assert run("prepare", "-d", lab.sources[0].folder, *place).code == 0
    adopted = run("registry", "adopt", *place)
    assert adopted.code == 0
    assert f"sgcldff version 1 ({saved_digest(shipped)}) is challenger" in adopted.out
    promoted = run("promote", *place, "--settings", settings)
    assert promoted.code == 0
    assert "models:/sgcldff/1 is champion" in promoted.out
    registry = Registry(Workspace(str(tmp_path / "ws")).tracking_uri)
    assert registry.champion() == "models:/sgcldff/1"
    assert registry.versions()[0].tags["sgcldff.adopted"] == f"{RELEASED_NAME} {RELEASED_VERSION}"


def test_only_what_is_registered_can_be_promoted(shipped, lab, run):
    """The released model and the champion may have the same number."""
    ran = run("promote", "--model", "released", "-w", lab.workspace)
    assert ran.code == 2
    assert f"models:/{RELEASED_NAME}/{RELEASED_VERSION}: no such version" in ran.line


def test_a_registered_model_is_exported_in_half_precision(lab, run, tmp_path):
    command = ("registry", "export", "models:/sgcldff@champion", "--half", "-w", lab.workspace)
    exported = run(*command, "-o", tmp_path / "model")
    assert exported.code == 0
    assert f"digest {saved_digest(tmp_path / 'model')}" in exported.out
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"spec.json", "weights.safetensors", "trained_on.json", "reference.safetensors", "confusion.json"}
    again = run(*command, "-o", tmp_path / "model")
    assert again.code == 2
    assert "already contains a model" in again.line


def test_a_model_is_exported_with_its_confidence_fitted_on_images_that_it_never_saw(lab, run, tmp_path):
    assert (
        run("data", "synthesize", "-o", tmp_path / "other", "--crops", "24", "--fields", "0", "--seed", "9").code == 0
    )
    command = ("registry", "export", "models:/sgcldff@champion", "-w", lab.workspace, "--held-out", tmp_path / "other")
    exported = run(*command, "-o", tmp_path / "model")
    assert exported.code == 0, exported.line
    assert re.search(r"temperature \d+\.\d+, fitted to 24 cells \(24 of ", exported.out), exported.out
    limit = json.loads((tmp_path / "model" / "spec.json").read_text())["min_confidence"]
    assert f"limit {limit:.2f}, by which" in exported.out or limit == 1
    seen = run(*command[:-1], lab.sources[0].folder, "-o", tmp_path / "again")
    assert seen.code == 2
    assert "was not trained on" in seen.line
    assert not (tmp_path / "again").exists()
    packed = run(*command, "--bioimageio", "-o", tmp_path / "zoo")
    assert packed.code == 2
    assert "--held-out: export a model first" in packed.line


def test_the_model_that_ships_finds_cells_on_a_slide_without_any_preparation(server, run, tmp_path):
    made = write_slide(tmp_path / "smear.tiff", (2000, 2000), cells=20, seed=9)
    ran = run("infer", made.slide, "-o", tmp_path / "out", "-w", tmp_path / "ws", "--workers", "0")
    assert ran.code == 0
    assert len(pq.read_table(tmp_path / "out" / "smear" / "cells.parquet")) > 0
    assert {model.name for model in models_of(tmp_path / "out")} == {RELEASED_NAME}


def test_an_estimate_is_near_what_reading_takes_and_leaves_nothing(shipped, server, run, tmp_path):
    made = write_slide(tmp_path / "smear.tiff", (3000, 3000), cells=40, seed=9)
    given = (made.slide, "-o", tmp_path / "out", "-w", tmp_path / "ws", "--workers", "0")
    ran = run("infer", *given, "--estimate")
    assert ran.code == 0
    found = re.search(r"smear: ([\d,]+) of ([\d,]+) tiles .*about ([\d,]+) cells?; about .* with 1 process, ", ran.out)
    assert found, ran.out
    assert not (tmp_path / "out").exists()
    assert run("infer", *given).code == 0
    (row,) = pq.read_table(tmp_path / "out" / "batch.parquet").to_pylist()
    tiles, whole, cells = (int(number.replace(",", "")) for number in found.groups())
    assert tiles == pytest.approx(row["tiles"], rel=0.2)
    assert whole == pytest.approx(row["tiles"] + row["skipped"], rel=0.2)
    assert cells == pytest.approx(pq.read_metadata(tmp_path / "out" / "smear" / "cells.parquet").num_rows, rel=0.2)
