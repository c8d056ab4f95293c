"""Calibration from end to end: slides of an unknown stain, reviews, a version, and the way back."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from flows.calibrate import calibrate
from flows.infer import infer
from flows.promote import promote, rollback
from flows.review import review_make, review_read
from flows.settings import read_settings
from sgcldff.core.errors import InputError
from sgcldff.core.labels import BROADER
from sgcldff.core.records import Split
from sgcldff.data.catalog import Catalog
from sgcldff.data.synthetic.slides import write_slide
from sgcldff.evaluation.calibration import adaptation
from sgcldff.evaluation.calibration.adaptation import Candidate, Kind
from sgcldff.models.released import released
from sgcldff.registry import CHAMPION, PREVIOUS, Registry
from sgcldff.results.review.queue import read_queue
from sgcldff.results.review.selection import ReviewSelection
from tasks.batch import Batch
from tasks.compute import Compute
from tasks.workspace import Workspace
from tests.reviews import write_reviews

pytestmark = pytest.mark.slow

MPP = 0.2
TORCH = read_settings(None, {"infer": {"engine": "torch", "usable_only": False, "min_confidence": 0.0}})
PALE = 0.3 * np.eye(3) + 0.7 / 3
"""Mixes the optical densities of red, green and blue into a stain nearly without hue."""


def foreign_slide(folder: Path, seed: int) -> tuple[Path, tuple]:
    """Draw a slide in colours that the released model does not know; gives its file and its cells."""
    drawn = write_slide(folder / f"drawn-{seed}" / "slide.tiff", (1280, 1280), MPP, cells=30, seed=seed)
    density = -np.log((tifffile.imread(drawn.slide, key=0).astype(float) + 1) / 256)
    path = folder / f"lab-{seed}.png"
    cv2.imwrite(str(path), (256 * np.exp(-density @ PALE) - 1).clip(0, 255).astype(np.uint8)[..., ::-1])
    return path, drawn.cells


OWN_NAMES = {"neutrophil": "eosinophil", "eosinophil": "neutrophil"}
"""Types that the laboratory's readers name otherwise than the released model, which knows drawn cells too well to err
on them in any stain in which it finds them."""


def truth_at(cells, x: float, y: float) -> str:
    """Give the type of the cell nearest to a place, as the laboratory names it."""
    drawn = min(cells, key=lambda cell: np.hypot(cell.centroid[0] - y, cell.centroid[1] - x)).label
    return OWN_NAMES.get(drawn, drawn)


def test_a_laboratory_that_names_types_otherwise_calibrates_the_released_model(server, tmp_path):
    slides = dict(foreign_slide(tmp_path / "slides", seed) for seed in (3, 4))
    truth, files = {path.stem: cells for path, cells in slides.items()}, [str(path) for path in slides]
    workspace, queue, store = (str(tmp_path / name) for name in ("workspace", "queue", "reviews"))

    def read(out: str, model: str | None = None) -> pd.DataFrame:
        folders = infer(files, str(tmp_path / out), workspace, model, Batch(MPP), Compute(workers=0), TORCH)
        cells = pd.concat(pd.read_parquet(f"{folder}/cells.parquet") for folder in folders)
        places = zip(cells["slide_id"], cells["x"], cells["y"], strict=True)
        broad = [BROADER.get(label, label) for label in cells["label"]]
        true = [truth_at(truth[slide], x, y) for slide, x, y in places]
        return cells.assign(true=true, broad=broad).set_index("cell_id")

    before = read("results")
    made = review_make([str(tmp_path / "results")], files, queue, ReviewSelection((), representative=20), workspace)
    queued = read_queue(queue)
    assert (made.cells, made.skipped) == (len(queued), ())
    assert 15 <= made.cells <= 20
    answers = [(cell.cell_id, before["true"][cell.cell_id], "Ada", "2026-11-01T09:00:00Z") for cell in queued]
    table = pd.DataFrame(answers, columns=["cell_id", "label", "reviewer", "reviewed_at"])
    table.to_csv(tmp_path / "answers.csv", index=False)
    assert review_read([str(tmp_path / "answers.csv")], queue, store).new == len(queued)

    done = calibrate(store, workspace)
    assert done.left_out == ()
    assert done.model.version == "2"
    assert done.calibration.parent == released()[0].digest
    again = calibrate(store, workspace, f"models:/sgcldff/{done.model.version}")
    assert again.model == done.model, "the original is calibrated again, on the same cells"

    after = read("calibrated", "models:/sgcldff@challenger")
    unseen = before.index.difference(table["cell_id"])
    assert len(unseen) > 15
    right = [(cells["true"] == cells["broad"])[unseen].mean() for cells in (before, after)]
    assert right[1] > right[0] + 0.2, right
    assert set(after["model_version"]) == {"2"}
    assert set(after["model_digest"]) == {done.model.digest}
    assert done.calibration.summary in (tmp_path / "calibrated" / "lab-3" / "report.html").read_text()
    np.testing.assert_array_equal(before["outline"], after["outline"], "outlines do not change")


@pytest.fixture
def reviewed(lab, tmp_path) -> tuple[str, Path]:
    """Copy the laboratory with its champion, and store reviews of cells on which that one may be calibrated."""
    workspace = str(shutil.copytree(lab.workspace, tmp_path / "workspace"))
    fresh = Catalog.open(Workspace(workspace).catalog).samples
    cells = [sample for sample in fresh if sample.label and sample.split is Split.TRAIN]
    return workspace, write_reviews(tmp_path / "reviews", cells)


def test_a_calibrated_champion_is_judged_and_goes_back_in_one_command(reviewed, quick, run, tmp_path):
    """Its readers see lymphocytes nearly everywhere: a bias helps, whatever one epoch has taught the champion."""
    workspace, _ = reviewed
    cells = [
        one for one in Catalog.open(Workspace(workspace).catalog).samples if one.label and one.split is Split.TRAIN
    ]
    seen = [replace(one, label="monocyte" if k % 6 == 0 else "lymphocyte") for k, one in enumerate(cells)]
    store = write_reviews(tmp_path / "one-sided", seen)
    ran = run("calibrate", "--store", store, "-w", workspace)
    assert ran.code == 0, ran.err
    assert "Registered models:/sgcldff/2:" in ran.out
    assert "calibrated, held out" in ran.out
    assert "Version 2 is calibrated:" in run("registry", "show", "-w", workspace).out
    registry = Registry(Workspace(workspace).tracking_uri)
    assert promote(workspace, "models:/sgcldff/2", quick()).model.version == "2"
    assert (registry.aliases()[CHAMPION], registry.aliases()[PREVIOUS]) == ("2", "1")
    shown = json.loads(run("registry", "show", "models:/sgcldff/2", "--json", "-w", workspace).out)
    assert shown["calibrated"].endswith(f"original {registry.resolve('models:/sgcldff/1')[0].digest}")
    assert rollback(workspace).version == "1"


def test_cells_of_the_test_set_are_left_out(reviewed, tmp_path):
    workspace, _ = reviewed
    cells = [sample for sample in Catalog.open(Workspace(workspace).catalog).samples if sample.label]
    test = [sample for sample in cells if sample.split is Split.TEST]
    done = calibrate(str(write_reviews(tmp_path / "all", cells)), workspace)
    assert test
    assert done.left_out == (f"{len(test)} cells: on a slide of the test set",)
    assert done.calibration.cells.total() == len(cells) - len(test)


def test_a_model_that_cannot_be_helped_is_not_registered_and_it_is_said(reviewed, run, monkeypatch):
    workspace, store = reviewed
    monkeypatch.setattr(adaptation, "CANDIDATES", (Candidate(Kind.NOTHING),))
    ran = run("calibrate", "--store", store, "-w", workspace)
    assert ran.code == 0, ran.err
    assert "the model is left as it is: no change does better on held-out cells" in ran.out
    assert "Not calibrated." in ran.out
    assert len(Registry(Workspace(workspace).tracking_uri).versions()) == 1


def test_types_without_a_reviewed_cell_are_named_and_too_few_cells_refused(reviewed, tmp_path):
    workspace, _ = reviewed
    cells = [one for one in Catalog.open(Workspace(workspace).catalog).samples if one.split is Split.TRAIN]
    some = [sample for sample in cells if sample.label not in (None, "basophil")]
    done = calibrate(str(write_reviews(tmp_path / "some", some)), workspace)
    assert "no cell is a basophil: nothing was learned about these types" in done.calibration.notes
    with pytest.raises(InputError, match="9 cells with a type are too few to calibrate"):
        calibrate(str(write_reviews(tmp_path / "few", some[:9])), workspace)
