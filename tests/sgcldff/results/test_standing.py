"""What people did with the results of a slide outlasts reading it again."""

from dataclasses import replace

import pandas as pd
import pytest

from sgcldff.core.records import ModelRef
from sgcldff.data.reviews.consensus import consensus_of
from sgcldff.inference import serially
from sgcldff.results.folder import EARLIER, REVIEWED_CELLS, REVIEWED_DIFFERENTIAL
from sgcldff.results.review.apply import apply_reviews
from sgcldff.results.slide import read_slide_job
from tests.damage.kept import make_slide, slide_job
from tests.sgcldff.painted import ColourModel
from tests.sgcldff.results.verdicts import reviews_of

REVIEWED = (REVIEWED_CELLS, REVIEWED_DIFFERENTIAL)


@pytest.fixture
def job(tmp_path):
    """Paint a slide of four cells and read it."""
    make_slide(tmp_path)
    return slide_job(tmp_path, tmp_path / "out")


def read(job, digest="colours"):
    """Read the slide with a model of that digest."""
    reference = ModelRef("stub", "7" if digest == "colours" else "8", digest)
    return read_slide_job(replace(job, reference=reference), serially(ColourModel(digest)))


def review(folder, labels=("monocyte", "basophil")):
    cells = pd.read_parquet(folder / "cells.parquet").head(len(labels))
    return apply_reviews(folder, consensus_of(reviews_of(cells, labels)))


def bytes_of(folder, names=REVIEWED):
    return {name: (folder / name).read_bytes() for name in names}


def test_a_manual_count_leaves_the_reviewed_results_as_they_are(job):
    review(job.folder)
    before = bytes_of(job.folder)
    read(replace(job, manual={"neutrophil": 3, "eosinophil": 1}))
    assert (job.folder / "manual.json").exists()
    assert bytes_of(job.folder) == before
    read(job)
    assert bytes_of(job.folder) == before


def test_reviewed_results_make_way_for_another_model_and_are_kept(job):
    review(job.folder)
    before = bytes_of(job.folder)
    read(job, "another")
    assert not any((job.folder / name).exists() for name in REVIEWED)
    (kept,) = (job.folder / EARLIER).iterdir()
    assert bytes_of(kept) == before
    review(job.folder)
    read(job)
    assert len(list((job.folder / EARLIER).iterdir())) == 2
    assert bytes_of(kept) == before


def test_a_move_that_was_interrupted_goes_on(job):
    review(job.folder)
    before = bytes_of(job.folder)
    kept = job.folder / EARLIER / "half"
    kept.mkdir(parents=True)
    read(job, "another")
    (moved,) = set((job.folder / EARLIER).iterdir()) - {kept}
    (moved / REVIEWED_DIFFERENTIAL).rename(job.folder / REVIEWED_DIFFERENTIAL)
    read(replace(job, manual={"neutrophil": 3}), "another")
    assert bytes_of(moved) == before
