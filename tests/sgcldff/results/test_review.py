"""Which cells people are asked about, what they answered, and what becomes of it."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgcldff.core.errors import InputError, MissingInputError, SlideError
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import UNIDENTIFIED
from sgcldff.results.review.crops import CONTEXT_UM, crop_name
from sgcldff.results.review.queue import read_queue, require_free
from sgcldff.results.review.selection import ReviewSelection, chosen, read_slide_cells, results_in
from sgcldff.results.review.slide_lookup import find_each, open_read
from sgcldff.slides import find_slides
from sgcldff.slides.images import read_rgb
from tests.sgcldff.results.reviewing import cells_of, make_queue


def test_the_counted_unidentified_cells_are_asked_about(results):
    cells = cells_of(results)
    picked = chosen([read_slide_cells(results / "smear")], ReviewSelection())
    expected = cells[cells["counted"] & (cells["label"] == UNIDENTIFIED)]
    assert set(picked["cell_id"]) == set(expected["cell_id"])
    assert len(expected) < (cells["label"] == UNIDENTIFIED).sum(), "no cell lies outside: the test looks at nothing"


def test_a_sample_of_the_others_comes_on_top_and_a_limit_bounds_the_rest(results):
    found = [read_slide_cells(results / "smear")]
    picked = chosen(found, ReviewSelection(sample=4, limit=5))
    assert Counter(picked["why"]) == {"label": 5, "sample": 4}
    assert not set(picked.loc[picked["why"] == "sample", "label"]) & {UNIDENTIFIED}
    again = chosen(found, ReviewSelection(sample=4, limit=5))
    assert list(picked["cell_id"]) == list(again["cell_id"])
    more = chosen(found, ReviewSelection(sample=6, limit=7))
    assert set(picked["cell_id"]) < set(more["cell_id"])


def test_cells_are_chosen_by_label_and_confidence_too(results):
    found = [read_slide_cells(results / "smear")]
    cells = cells_of(results).query("counted")
    unsure = chosen(found, ReviewSelection(labels=(), below=0.5))
    assert set(unsure["cell_id"]) == set(cells.loc[cells["confidence"] < 0.5, "cell_id"])
    named = chosen(found, ReviewSelection(labels=("neutrophil", "monocyte")))
    assert set(named["label"]) <= {"neutrophil", "monocyte"}
    assert len(named) == cells["label"].isin(["neutrophil", "monocyte"]).sum()


def test_cells_with_large_nuclei_and_scant_cytoplasm_are_chosen_as_like_blasts_whatever_their_type(results):
    cells = cells_of(results).query("counted")
    score = cells["nucleus_area_um2"] ** 5 / cells["area_um2"] ** 4
    found = [read_slide_cells(results / "smear")]
    picked = chosen(found, ReviewSelection(labels=(), like_blasts=2))
    assert set(picked["cell_id"]) == set(cells.loc[score.nlargest(2).index, "cell_id"])
    assert set(picked["why"]) == {"like a blast"}
    every = chosen(found, ReviewSelection(labels=("lymphocyte", "neutrophil"), like_blasts=2))
    assert every["cell_id"].is_unique
    assert set(every["cell_id"]) >= set(picked["cell_id"])


@pytest.mark.parametrize("wrong", [{"below": 0.0}, {"below": 1.5}, {"sample": -1}, {"limit": 0}, {"like_blasts": -1}])
def test_a_choice_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(InputError, match=r"(confidence|sample|limit|blasts).*give"):
        ReviewSelection(**wrong)


def test_results_are_found_by_the_batch_or_by_the_slide(results, tmp_path):
    assert results_in([results, results / "smear"]) == [(results / "smear").resolve()]
    with pytest.raises(MissingInputError, match="holds no results"):
        results_in([tmp_path])


def test_damaged_results_are_named(results, tmp_path):
    shutil.copytree(results / "smear", tmp_path / "smear")
    (tmp_path / "smear" / "cells.parquet").write_bytes(b"PAR1 not at all")
    with pytest.raises(InputError, match=r"cells\.parquet: not a table of cells"):
        read_slide_cells(tmp_path / "smear")


def test_a_picture_shows_its_cell_in_the_middle_as_wide_as_all_others(queue, smear):
    whole = read_rgb(smear.slide).astype(int)
    for cell in read_queue(queue):
        picture = read_rgb(queue / cell.crop)
        side = round(CONTEXT_UM / cell.crop_mpp)
        assert picture.shape == (side, side, 3)
        y, x = (round(length - side / 2) for length in (cell.y, cell.x))
        if min(y, x) >= 0 and max(y, x) + side <= 3000:
            assert np.abs(picture - whole[y : y + side, x : x + side]).max() <= 2
            assert not cell.at_border
        else:
            assert cell.at_border


def test_the_tables_open_in_pandas_and_say_the_same(queue):
    parquet, text = pd.read_parquet(queue / "queue.parquet"), pd.read_csv(queue / "queue.csv")
    assert list(parquet.columns) == list(text.columns)
    assert list(parquet["cell_id"]) == list(text["cell_id"])
    assert [json.loads(row) for row in text["classes"]] == [list(row) for row in parquet["classes"]]
    for row in parquet.itertuples():
        assert (
            row.probabilities[list(row.classes).index(FIVE_TYPES[int(np.argmax(row.probabilities))])] == row.confidence
        )
        assert (row.model_version, row.model_digest) == ("3", "cd" * 8)


def test_pictures_that_are_in_no_queue_any_more_are_cleared_away(results, smear, tmp_path):
    make_queue(tmp_path, results, smear.slide)
    make_queue(tmp_path, results, smear.slide, ReviewSelection(limit=3))
    assert len(list((tmp_path / "crops").iterdir())) == 3
    assert len(read_queue(tmp_path)) == 3


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "crops").mkdir()
    (tmp_path / ".DS_Store").touch()
    require_free(tmp_path)
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(InputError, match="something else"):
        require_free(tmp_path)


def test_the_pictures_of_a_queue_are_not_taken_for_slides(queue):
    with pytest.raises(InputError, match="no slide"):
        find_slides([str(queue.parent)])


@given(st.text(), st.text())
def test_names_of_pictures_are_safe_whatever_cells_are_called(slide, cell):
    name = crop_name(slide, cell)
    assert Path(name).name == name
    assert name.removesuffix(".png").isalnum()
    assert name.isascii()


def test_a_table_cannot_lead_out_of_its_folder(queue, tmp_path):
    shutil.copytree(queue, tmp_path / "queue")
    path = tmp_path / "queue" / "queue.parquet"
    table = pq.read_table(path)
    at = table.schema.get_field_index("crop")
    hostile = table.set_column(at, "crop", [["../../../etc/passwd"] * table.num_rows])
    pq.write_table(hostile, path)
    assert all(cell.crop.startswith("crops/") for cell in read_queue(tmp_path / "queue"))


def test_a_slide_that_is_gone_or_another_is_refused(results, smear, tmp_path):
    found = read_slide_cells(results / "smear")
    with pytest.raises(SlideError, match="not among the slides given"):
        open_read(found, ())
    changed = tmp_path / "smear.tiff"
    changed.write_bytes(smear.slide.read_bytes() + b"\0")
    with pytest.raises(SlideError, match="another one now"):
        open_read(found, find_slides([str(changed)]))
    both = find_slides([str(changed), str(smear.slide)])
    assert open_read(found, both).ref.uri == str(smear.slide)


def test_inputs_that_are_missing_are_told_and_the_others_found(smear, tmp_path):
    slides, reasons = find_each([str(tmp_path / "gone.svs"), str(smear.slide)])
    assert [slide.uri for slide in slides] == [str(smear.slide)]
    assert len(reasons) == 1
    assert "gone.svs" in reasons[0]


def test_a_slide_is_read_at_the_scale_of_its_results(results, smear):
    found = read_slide_cells(results / "smear")
    assert found.mpp == pytest.approx(0.1)
    assert open_read(found, find_slides([str(smear.slide)])).ref.mpp == pytest.approx(0.1)
