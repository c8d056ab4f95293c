"""The demo: its comparison with the truth against counts made by hand, its bar, and the whole of it in small."""

import shutil

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from flows import demo as demonstration
from flows.demo import compare_with_truth, require_quality, summary
from sgcldff.core.errors import SgcldffError
from sgcldff.core.settings import CELL_UM
from sgcldff.counting.differential import read_differential
from sgcldff.evaluation.matching import Matching
from sgcldff.registry import Registry
from tasks.workspace import Workspace


@pytest.fixture(scope="module")
def small(server, tmp_path_factory):
    """Run the demo on few smears and a small slide, with any outcome allowed; gives its folder and what it found."""
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"CROPS": 40, "FIELDS": 6, "MIN_RECALL": 0.0, "MIN_PRECISION": 0.0}.items():
            patch.setattr(demonstration, name, value)
        return out, demonstration.demo(str(out), side=2048, epochs=1)


def test_the_demo_goes_from_images_to_a_differential_beside_the_truth(small):
    out, found = small
    truth = pq.read_table(out / "truth.parquet")
    report = out / "results" / "slide" / "report.html"
    assert found.report == str(report)
    assert report.stat().st_size > 0
    assert found.predicted == read_differential(report.with_name("differential.json"))
    assert found.matching.true == len(truth) > 5
    counted = {share.label: share.count for share in found.truth.shares}
    assert counted == {label: truth["label"].to_pylist().count(label) for label in counted}
    assert summary(found).row_count == len(counted) == 5
    champion, _ = Registry(Workspace(str(out / "workspace")).tracking_uri).resolve("models:/sgcldff@champion")
    assert champion.version == "1"


@pytest.fixture
def told(small, tmp_path):
    """Give a function that compares altered true cells, in the place of found ones, with the truth."""
    out, found = small
    shutil.copy(found.report.replace("report.html", "differential.json"), tmp_path)
    truth = pq.read_table(out / "truth.parquet")

    def tell(change=lambda table: table):
        pq.write_table(change(truth), tmp_path / "cells.parquet")
        return compare_with_truth(tmp_path, out / "truth.parquet", Workspace(str(out / "workspace")))

    return tell


def column(table, name, values):
    return table.set_column(table.column_names.index(name), name, [values])


def test_the_truth_itself_is_all_found_and_all_right(told):
    found = told()
    assert found.matching.recall == found.matching.precision == 1
    assert found.correct == found.matching.true
    require_quality(found.matching)


def test_a_cell_of_another_type_is_found_and_not_right(told):
    def all_one(table):
        return column(table, "label", ["monocyte"] * len(table))

    found = told(all_one)
    assert found.matching.recall == 1
    assert found.correct == found.truth["monocyte"].count < found.matching.true


def test_cells_further_off_than_half_a_cell_are_missed_and_invented(told):
    def moved(by_um):
        return lambda table: column(table, "x_um", pc.add(table["x_um"], by_um))

    assert told(moved(CELL_UM / 2 - 0.1)).matching.recall == 1
    alone = told(lambda table: moved(CELL_UM / 2 + 0.1)(table[:1])).matching
    assert (alone.false_positives, alone.missed) == (1, alone.true)


@pytest.mark.parametrize(
    ("kept", "added", "says"), [(0.9, 0.0, "90.0% of the cells"), (1.0, 0.1, "9.1% of its detections are false")]
)
def test_too_few_or_too_many_cells_end_the_demo_with_what_to_do(kept, added, says):
    matching = Matching(np.zeros((round(100 * kept), 2), np.int64), round(100 * (kept + added)), 100)
    with pytest.raises(SgcldffError, match=rf"{says}.*--epochs"):
        require_quality(matching)
