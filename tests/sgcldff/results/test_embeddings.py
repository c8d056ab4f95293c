"""Embeddings of cells in their table."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sgcldff.inference import serially
from sgcldff.results.slide import read_slide_job
from tests.damage.kept import files_digest
from tests.sgcldff.painted import NUCLEI, ColourModel, saved

pytestmark = pytest.mark.slow


def read(job, *, embeddings=True, model=None):
    read_slide_job(replace(job, spec=replace(job.spec, embeddings=embeddings)), serially(model or ColourModel()))
    return pq.read_table(job.folder / "cells.parquet")


def test_each_cell_keeps_what_it_was_classified_from_if_asked(job):
    assert "embedding" not in read(job, embeddings=False).column_names
    table = read(job)
    assert table.schema.field("embedding").type == pa.list_(pa.float16(), 3)
    kept = np.stack(table.to_pandas()["embedding"])
    types = np.asarray(table["probability_eosinophil"]) > 0.5
    assert set(types) == {True, False}
    np.testing.assert_array_equal(kept, np.array(NUCLEI, np.float16)[types.astype(int)])


def test_asking_later_segments_nothing_again_and_gives_the_same_files(job, tmp_path):
    fresh = replace(job, out=str(tmp_path / "fresh"))
    read(fresh)
    read(job, embeddings=False)
    (job.folder / "cells.parquet").unlink()
    model = ColourModel()
    read(job, model=model)
    assert model.tiles == 0
    assert (fresh.folder / "cells.parquet").read_bytes() == (job.folder / "cells.parquet").read_bytes()


def test_a_killed_run_goes_on_and_gives_the_same_files(job, tmp_path):
    job = replace(job, out=str(tmp_path / "fresh"))
    read(job)
    before = files_digest(job.folder, skipped=("summary.json", ".lock"))
    for part in list(job.folder.rglob("type-*.parquet"))[::2]:
        part.unlink()
    (job.folder / "cells.parquet").unlink()
    read(job)
    assert files_digest(job.folder, skipped=("summary.json", ".lock")) == before


def test_a_slide_without_cells_has_the_column_too(job, tmp_path):
    saved(tmp_path, np.full((300, 300, 3), 236, np.uint8))
    assert pa.types.is_list(read(job).schema.field("embedding").type)
