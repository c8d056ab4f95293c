"""The registry against real MLflow: SQLite in a temporary folder, and a server on loopback."""

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import pyfunc
from mlflow.exceptions import MlflowException

from sgcldff.core.errors import InputError, MissingInputError, PromotionRefusedError, ServiceError, StoreError
from sgcldff.core.labels import WBC5
from sgcldff.core.records import ModelRef
from sgcldff.models.checkpoint import WEIGHTS_FILE
from sgcldff.models.model import load_model
from sgcldff.promotion import Attribution, Decision, Outcome
from sgcldff.registry import ORIGINAL_TAG, Registry
from sgcldff.saliency.priors import build as build_priors
from tests.sgcldff.registry.odd_model import ODD, SPEC, report_of
from tests.shared import RACE

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def filled(seed_home: Path, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """Hold a version, not champion, in a folder of an odd name; for tests that only read."""
    home = tmp_path_factory.mktemp("filled") / ODD
    shutil.copytree(seed_home, home)
    registry = Registry(home)
    registry.register(trained, report_of(0.875), {"sgcldff.models.training.examples": "snapshot-1"})
    return registry


def versions_of(registry: Registry, trained: Path, count: int) -> list[ModelRef]:
    """Register a model and further versions of it, which need no further packages."""
    first = registry.register(trained)
    version = registry.client.get_model_version(registry.name, first.version)
    for _ in range(count - 1):
        registry.client.create_model_version(registry.name, version.source, tags=version.tags)
    return [replace(first, version=str(number)) for number in range(1, count + 1)]


def test_a_registered_model_is_challenger_and_comes_back_whole(filled: Registry, trained: Path) -> None:
    ref, folder = filled.resolve("models:/sgcldff@challenger")
    original, loaded = load_model(trained, "cpu"), load_model(folder, "cpu")
    assert ref == ModelRef("sgcldff", "1", original.digest)
    assert loaded.spec == original.spec
    assert loaded.digest == original.digest
    assert filled.resolve("models:/sgcldff/1") == (ref, folder)


def test_nothing_of_a_registry_lies_outside_of_its_folder(filled: Registry) -> None:
    assert [place.name for place in filled.address.folder.parent.iterdir()] == [ODD]
    assert filled.address.database == filled.address.folder / "mlflow.db"
    assert filled.address.database.stat().st_mode & 0o777 == 0o600


def test_a_version_says_where_it_comes_from(filled: Registry) -> None:
    (version,) = filled.versions()
    assert version.aliases == ("challenger",)
    assert version.tags["sgcldff.models.training.examples"] == "snapshot-1"
    assert version.tags["sgcldff.score.accuracy"] == "0.8750"
    assert version.tags["sgcldff.test_images"] == "truth"
    assert len(version.tags["sgcldff.code_digest"]) == 16
    assert version.created_ms / 1000 == pytest.approx(time.time(), abs=600)
    assert filled.client.get_run(version.run_id).data.metrics == {"accuracy": 0.875}
    assert filled.client.get_run(version.run_id).info.status == "FINISHED"


def test_the_report_travels_with_the_version(filled: Registry, registry: Registry, trained: Path) -> None:
    (version,) = filled.versions()
    report = filled.report(version.ref)
    assert report == report_of(0.875)
    assert report is not None
    assert report.predictions is not None
    assert report.predictions.classes == WBC5.classes
    assert registry.report(registry.register(trained)) is None


def test_mlflow_loads_the_model_with_its_signature_and_it_answers_alike(
    filled: Registry, trained: Path, tmp_path: Path
) -> None:
    package = filled.resolve("models:/sgcldff/1")[1].parent
    served = pyfunc.load_model(package.as_uri(), dst_path=str(tmp_path))  # MLflow itself fails in an odd folder
    tiles = np.random.default_rng(0).integers(0, 256, (2, 70, 96, 3), dtype=np.uint8)
    answer = served.predict(tiles)
    model, priors = load_model(trained, "cpu"), build_priors(SPEC.prior)
    expected = model.predict(tiles, np.stack([priors(tile) for tile in tiles]))
    np.testing.assert_allclose(answer["segmentation"], expected.segmentation, atol=1e-5)
    np.testing.assert_allclose(answer["cell_type"], expected.cell_type, atol=1e-5)
    np.testing.assert_allclose(answer["saliency"], expected.evidence, atol=1e-5)
    for bad in (tiles[0], tiles.astype(np.float32), np.zeros((1, 8, 8, 4), np.uint8)):
        with pytest.raises(MlflowException):
            served.predict(bad)
    with pytest.raises(ValueError, match="no tiles"):
        served.predict(tiles[:0])


def test_the_package_holds_no_pickle_and_pins_what_it_needs(filled: Registry) -> None:
    package = filled.resolve("models:/sgcldff/1")[1].parent
    assert [path for path in package.rglob("*") if path.suffix in (".pkl", ".pt", ".pth", ".ckpt", ".pyc")] == []
    pins = dict(line.split("==") for line in (package / "requirements.txt").read_text().split())
    locked_lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked_names = {line.split("==")[0] for line in locked_lines if "==" in line and not line.startswith(" ")}
    assert set(pins) <= locked_names
    assert {"torch", "timm", "mlflow"} <= set(pins)
    assert not any("+" in version for version in pins.values())


LOADER = """
import json, sys
from pathlib import Path
package, repository = Path(sys.argv[1]), Path(sys.argv[2])
sys.path = [place for place in sys.path if place and Path(place).resolve() != repository]
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
try:
    import sgcldff
    raise SystemExit("sgcldff is importable without the model")
except ModuleNotFoundError:
    pass
import numpy as np
from mlflow import pyfunc
answer = pyfunc.load_model(str(package)).predict(np.full((1, 64, 64, 3), 200, np.uint8))
import sgcldff
shapes = {name: list(values.shape) for name, values in answer.items()}
print(json.dumps({"code": sgcldff.__file__, "shapes": shapes, "type": answer["cell_type"][0].tolist()}))
"""


def test_the_model_loads_where_only_the_locked_packages_are(filled: Registry, trained: Path, tmp_path: Path) -> None:
    package = shutil.copytree(filled.resolve("models:/sgcldff/1")[1].parent, tmp_path / "package")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "DO_NOT_TRACK": "true"}
    environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    run = subprocess.run(
        [sys.executable, "-c", LOADER, str(package), str(ROOT)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    seen = json.loads(run.stdout.splitlines()[-1])
    assert Path(seen["code"]).is_relative_to(package)
    assert seen["shapes"] == {"segmentation": [1, 3, 64, 64], "cell_type": [1, 5], "saliency": [1, 64, 64]}
    tile = np.full((1, 64, 64, 3), 200, np.uint8)
    prior = build_priors(SPEC.prior)(tile[0])
    np.testing.assert_allclose(
        seen["type"], load_model(trained, "cpu").predict(tile, prior[None]).cell_type[0], atol=1e-4
    )


def test_champions_follow_each_other_and_one_goes_back(registry: Registry, trained: Path) -> None:
    one, two, three = versions_of(registry, trained, 3)
    assert registry.promote(one) == {"challenger": "1", "champion": "1"}
    assert registry.promote(two)["previous"] == "1"
    assert registry.promote(three) == registry.promote(three) == {"challenger": "1", "champion": "3", "previous": "2"}
    assert registry.resolve("models:/sgcldff@champion")[0] == three
    assert registry.rollback() == two
    assert registry.aliases() == {"challenger": "1", "champion": "2"}
    with pytest.raises(InputError, match=r"no previous champion to restore: aliases .*champion \(version 2\)"):
        registry.rollback()


def test_a_calibrated_first_champion_goes_back_to_its_original(registry: Registry, trained: Path) -> None:
    original, calibrated = versions_of(registry, trained, 2)
    registry.client.set_model_version_tag(registry.name, calibrated.version, ORIGINAL_TAG, original.version)
    assert registry.promote(calibrated) == {"challenger": "1", "champion": "2", "previous": "1"}
    assert registry.rollback() == original


def test_a_promotion_decided_on_an_old_champion_is_refused(registry: Registry, trained: Path) -> None:
    one, two, three = versions_of(registry, trained, 3)
    registry.promote(one)
    seen = registry.aliases()
    registry.promote(two, seen)
    with pytest.raises(PromotionRefusedError, match="champion is now version 2"):
        registry.promote(three, seen)
    assert registry.aliases()["champion"] == "2"


def test_a_promotion_that_died_halfway_is_finished_by_the_next(registry: Registry, trained: Path) -> None:
    one, two = versions_of(registry, trained, 2)
    registry.promote(one)
    registry.client.set_registered_model_alias("sgcldff", "previous", "1")  # killed before `champion` moved
    with pytest.raises(InputError, match="no previous champion"):
        registry.rollback()
    assert registry.promote(two) == {"challenger": "1", "champion": "2", "previous": "1"}


RIVALS = """
import multiprocessing, sys
from sgcldff.core.errors import PromotionRefusedError
from sgcldff.core.records import ModelRef
from sgcldff.promotion import Attribution, Decision, Outcome
from sgcldff.registry import ORIGINAL_TAG, Registry

def promote(folder, number, barrier, ends):
    registry = Registry(folder)
    seen = registry.aliases()
    barrier.wait(60)
    try:
        registry.promote(ModelRef("sgcldff", number, ""), seen)
        ends.put((number, "won"))
    except PromotionRefusedError as error:
        ends.put((number, "lost: " + str(error)))

"""


def test_of_two_promotions_at_once_one_wins_and_the_other_is_told(registry: Registry, trained: Path) -> None:
    one, *_ = versions_of(registry, trained, 3)
    registry.promote(one)
    run = subprocess.run(
        [sys.executable, "-c", RIVALS + RACE, str(registry.address.folder)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    ends = dict(line.split(" ", 1) for line in run.stdout.splitlines())
    (winner,) = [number for number, end in ends.items() if end == "won"]
    (loser,) = {"2", "3"} - {winner}
    assert f"champion is now version {winner}" in ends[loser]
    assert registry.aliases() == {"challenger": "1", "champion": winner, "previous": "1"}


def test_of_two_promotions_of_one_version_at_once_neither_is_told_no(registry: Registry, trained: Path) -> None:
    one, two = versions_of(registry, trained, 2)
    registry.promote(one)
    seen, won = registry.aliases(), Decision(Outcome.PROMOTED, Attribution.now("Ada"), two, one)
    registry.promote(two, seen, won)
    registry.promote(two, seen, Decision(Outcome.PROMOTED, Attribution.now("Max"), two, one))
    with pytest.raises(PromotionRefusedError, match="version 2 has become champion by another promotion"):
        registry.record(Decision(Outcome.REFUSED, Attribution.now("Max"), two, one))
    assert registry.decisions(two) == (won,)


@pytest.mark.parametrize("file", ["artifacts/spec.json", "evaluation/report.json", "decisions/*.json"])
def test_files_that_changed_on_disk_are_noticed(registry: Registry, trained: Path, file: str) -> None:
    ref = registry.register(trained, report_of(0.5))
    registry.promote(ref, decision=Decision(Outcome.PROMOTED, Attribution.now("Ada"), ref, None))
    (damaged,) = registry.resolve("models:/sgcldff/1")[1].parent.glob(file)
    content = damaged.read_bytes()
    digit = next(at for at, byte in enumerate(content) if 0x31 <= byte <= 0x38)
    damaged.write_bytes(content[:digit] + bytes([content[digit] + 1]) + content[digit + 1 :])
    with pytest.raises(StoreError, match=r"not the files registered|damaged"):
        (registry.resolve("models:/sgcldff/1"), registry.report(ref), registry.decisions(ref))


def test_what_is_not_there_is_refused_with_what_there_is(filled: Registry, registry: Registry, tmp_path: Path) -> None:
    for reference, words in {
        "models:/sgcldff@champion": r"aliases challenger \(version 1\), versions 1",
        "models:/sgcldff/7": "no such version.*versions 1",
        "models:/other@champion": "registered models are sgcldff",
        "models:/sgcldff": "is no model: give models:/NAME@ALIAS",
    }.items():
        with pytest.raises(InputError, match=words):
            filled.resolve(reference)
    with pytest.raises(InputError, match="no such version"):
        filled.promote(ModelRef("sgcldff", "7", ""))
    with pytest.raises(MissingInputError, match="no such folder"):
        filled.resolve(tmp_path / "gone")
    with pytest.raises(InputError, match="none yet"):
        registry.resolve("models:/sgcldff@champion")
    assert (registry.aliases(), registry.versions()) == ({}, ())


def test_a_folder_is_a_model_too(registry: Registry, trained: Path) -> None:
    ref, folder = registry.resolve(str(trained))
    assert (ref.version, ref.digest, folder) == ("folder", load_model(trained, "cpu").digest, trained)


def test_what_does_not_load_is_not_registered(registry: Registry, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"spec\.json"):
        registry.register(tmp_path)
    damaged = shutil.copytree(trained, tmp_path / "damaged")
    (damaged / WEIGHTS_FILE).write_bytes((trained / WEIGHTS_FILE).read_bytes()[:5000])
    with pytest.raises(InputError, match=WEIGHTS_FILE):
        registry.register(damaged)
    assert registry.versions() == ()


def test_a_registration_that_fails_leaves_a_failed_run_and_no_version(
    registry: Registry, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise MlflowException("disk full")

    monkeypatch.setattr(registry.client, "log_model_artifacts", refuse)
    with pytest.raises(ServiceError, match="disk full"):
        registry.register(trained)
    assert registry.versions() == ()
    (run,) = registry.client.search_runs([registry.runs.experiment_id])
    assert run.info.status == "FAILED"


def test_weights_that_changed_on_disk_are_noticed(registry: Registry, trained: Path) -> None:
    ref = registry.register(trained)
    _, folder = registry.resolve("models:/sgcldff/1")
    weights = folder / WEIGHTS_FILE
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(StoreError, match="not the weights registered"):
        registry.resolve(f"models:/sgcldff/{ref.version}")
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match="it is missing"):
        registry.resolve(f"models:/sgcldff/{ref.version}")


def test_a_version_that_others_registered_is_refused(registry: Registry) -> None:
    registry.client.create_registered_model("sgcldff")
    registry.client.create_model_version("sgcldff", "file:///nowhere")
    with pytest.raises(InputError, match="not registered by sgcldff"):
        registry.resolve("models:/sgcldff/1")


def test_a_run_keeps_parameters_figures_and_files(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "note.txt").write_text("hello")
    run = registry.runs.start("train", {"snapshot": "abc"})
    registry.runs.log(run, {f"p{i}": i for i in range(150)}, {"loss": 0.5})
    registry.runs.tag(run, {"stage": "done"})
    registry.runs.attach(run, tmp_path / "note.txt", "notes")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    curve = registry.runs.experiment_logger(run)
    assert "MLFLOW_TRACKING_URI" not in os.environ
    curve.log_metrics({"val": 0.25}, step=3)
    curve.finalize("success")
    registry.runs.finish(run)
    kept = registry.client.get_run(run)
    assert len(kept.data.params) == 150
    assert kept.data.metrics == {"loss": 0.5, "val": 0.25}
    assert kept.data.tags.items() >= {"snapshot": "abc", "stage": "done"}.items()
    assert kept.info.status == "FINISHED"
    assert [item.path for item in registry.client.list_artifacts(run, "notes")] == ["notes/note.txt"]
    assert kept.info.artifact_uri.startswith(registry.address.folder.as_uri())
    failed = registry.runs.start("train")
    registry.runs.finish(failed, failed=True)
    assert registry.client.get_run(failed).info.status == "FAILED"
