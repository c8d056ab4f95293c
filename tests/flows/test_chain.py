"""Retrain, promote, refuse, roll back, evaluate: with real training, MLflow and Prefect on a tiny scale."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

from flows.evaluate import evaluate
from flows.promote import promote, rollback
from flows.retrain import retrain
from flows.train import train
from sgcldff.core.errors import InputError, MissingInputError, PromotionRefusedError, ServiceError
from sgcldff.core.labels import WBC5
from sgcldff.core.records import Split
from sgcldff.counting.confusion import Confusion
from sgcldff.data.adapters import Source
from sgcldff.data.catalog import Catalog
from sgcldff.data.synthetic import write_dataset
from sgcldff.models.checkpoint import CONFUSION_FILE
from sgcldff.models.model import load_model
from sgcldff.models.training.trainer import lightning_precision
from sgcldff.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry
from tasks.evaluation import read_report
from tasks.workspace import Workspace


def registry_of(lab) -> Registry:
    """Open the registry of a workspace."""
    return Registry(Workspace(lab.workspace).tracking_uri)


def times(folder: str) -> dict[str, int]:
    """Note when each file below a folder was written."""
    return {str(path): path.stat().st_mtime_ns for path in Path(folder).rglob("*") if path.is_file()}


def test_the_first_model_becomes_champion(lab):
    ref, held = lab.first.challenger.model, registry_of(lab).aliases()
    assert held[CHAMPION] == ref.version == "1"
    assert lab.first.outcome == "models:/sgcldff/1 is champion."
    resolved, folder = registry_of(lab).resolve("models:/sgcldff@champion")
    model = load_model(folder, "cpu")
    assert resolved == ref
    assert model.digest == ref.digest
    assert model.spec.labels == WBC5


def test_the_registered_version_tells_where_it_comes_from(lab):
    (version,) = [found for found in registry_of(lab).versions() if found.ref == lab.first.challenger.model]
    catalog = Catalog.open(Workspace(lab.workspace).catalog)
    run = registry_of(lab).client.get_run(version.run_id)
    assert version.tags["data"] == catalog.digest
    assert run.info.status == "FINISHED"
    assert run.data.params["train.epochs"] == "1"
    assert run.data.params["train.precision"] == "auto"
    assert run.data.tags["sgcldff.precision"] == lightning_precision("auto", "cpu")
    assert run.data.params["model.net.pretrained"] == "off"
    assert {"val/score", "val/cell_iou", "macro_f1"} <= set(run.data.metrics)
    artifacts = {item.path for item in registry_of(lab).client.list_artifacts(version.run_id)}
    assert {"data", "priors", "evaluation"} <= artifacts


def test_the_evaluation_is_of_the_test_split(lab):
    report = read_report(lab.first.challenger.evaluation)
    samples = Catalog.open(Workspace(lab.workspace).catalog).select(Split.TEST)
    assert report.pooled.images == len(samples) > 0
    _, folder = registry_of(lab).resolve("models:/sgcldff/1")
    confusion = Confusion.read(folder / CONFUSION_FILE)
    assert confusion.counts(0).sum() == report.pooled.typed
    assert (Path(lab.first.challenger.evaluation) / "report.md").read_text().startswith("#")


def test_the_same_content_is_not_trained_again(lab):
    before = times(lab.first.challenger.training)
    again = retrain(lab.sources, lab.workspace, lab.settings, "cpu", force=True)
    assert again.challenger == lab.first.challenger
    assert times(lab.first.challenger.training) == before


def test_another_seed_gives_a_challenger_and_a_verdict(contest):
    held = registry_of(contest.lab).aliases()
    assert contest.second.challenger.training != contest.lab.first.challenger.training
    assert (held[CHAMPION], held[CHALLENGER]) == ("1", "2")
    assert contest.second.outcome.startswith("models:/sgcldff/2 stays challenger: ")


def test_a_refused_promotion_moves_no_alias(contest, quick, tmp_path):
    workspace = str(shutil.copytree(contest.lab.workspace, tmp_path / "workspace"))
    lab = contest.lab._replace(workspace=workspace)
    before = registry_of(lab).aliases()
    with pytest.raises(PromotionRefusedError, match=r"models:/sgcldff@challenger stays challenger: .*score"):
        promote(lab.workspace, settings=quick(margin=-0.9))
    assert registry_of(lab).aliases() == before


def test_promotion_and_the_way_back(contest, quick, tmp_path):
    workspace = str(shutil.copytree(contest.lab.workspace, tmp_path / "workspace"))
    lab = contest.lab._replace(workspace=workspace)
    registry = registry_of(lab)
    assert promote(lab.workspace, settings=quick()).model.version == "2"
    assert (registry.aliases()[CHAMPION], registry.aliases()[PREVIOUS]) == ("2", "1")
    assert promote(lab.workspace, settings=quick()).model.version == "2", "a champion stays champion"
    assert rollback(lab.workspace).version == "1"
    assert registry.aliases()[CHAMPION] == "1"
    with pytest.raises(InputError, match="no previous champion"):
        rollback(lab.workspace)


def test_evaluate_scores_a_registered_model_on_data_it_never_saw(lab, tmp_path):
    before = Catalog.open(Workspace(lab.workspace).catalog).digest
    unseen = [Source("auto", str(write_dataset(tmp_path / "unseen", 10, 2, seed=77)))]
    done = evaluate(unseen, lab.workspace, "models:/sgcldff@champion", lab.settings)
    folder = done.folder
    assert (read_report(folder).pooled.images, done.skipped) == (12, ())
    assert times(folder)
    written = times(folder)
    assert evaluate(unseen, lab.workspace, "models:/sgcldff@champion", lab.settings) == done
    assert times(folder) == written, "a finished report is found again"
    assert Catalog.open(Workspace(lab.workspace).catalog).digest == before, "the workspace's catalog stays as it is"


def test_images_that_the_model_learned_from_are_not_scored(lab):
    done = evaluate(lab.sources, lab.workspace, "models:/sgcldff@champion", lab.settings)
    report = read_report(done.folder)
    assert not done.skipped
    assert report.pooled.images == len(Catalog.open(Workspace(lab.workspace).catalog).select(Split.TEST))


def blasts(folder: Path, count: int) -> Source:
    """Write a data set of six cells, of which so many are called blasts."""
    table = write_dataset(folder, 6, 0, seed=5) / "manifest.csv"
    frame = pd.read_csv(table)
    frame.loc[frame.index < count, "label"] = "blast"
    frame.to_csv(table, index=False)
    return Source("auto", str(folder))


def test_outlines_are_scored_whatever_the_label_and_labels_the_model_does_not_know_are_named(lab, tmp_path):
    done = evaluate([blasts(tmp_path / "blasts", 6)], lab.workspace, "models:/sgcldff@champion", lab.settings)
    assert [(one.label, one.images) for one in done.unknown_labels] == [("blast", 6)]
    scores = read_report(done.folder).pooled
    assert (scores.images, scores.typed, scores.outlined) == (6, 0, 6)


def test_what_cannot_be_scored_is_told_and_the_rest_is_scored(lab, tmp_path):
    source = blasts(tmp_path / "some", 2)
    broken = max((tmp_path / "some" / "images").iterdir())
    broken.write_bytes(b"no image")
    done = evaluate([source], lab.workspace, "models:/sgcldff@champion", lab.settings)
    report = read_report(done.folder)
    assert (report.pooled.images, report.pooled.typed) == (5, 3)
    assert report.skipped == done.skipped
    assert [item.id for item in done.skipped] == [str(broken)]
    assert report.unknown_labels == done.unknown_labels
    assert [(one.label, one.images) for one in done.unknown_labels] == [("blast", 2)]
    alone = evaluate([blasts(tmp_path / "none", 0)], lab.workspace, "models:/sgcldff@champion", lab.settings)
    assert alone.folder != done.folder
    assert not read_report(alone.folder).skipped


def test_training_needs_a_catalog(server, tmp_path):
    with pytest.raises(MissingInputError, match="catalog"):
        train(str(tmp_path / "ws"))


def test_a_registry_that_is_down_is_told_before_any_work(server, smears, tmp_path, monkeypatch, unused_port):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(ServiceError, match="does not answer"):
        retrain([Source("auto", str(smears))], str(tmp_path / "ws"))
    assert not (tmp_path / "ws" / "catalog").exists()
