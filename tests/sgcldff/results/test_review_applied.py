"""Reviews applied to the results of a slide: its differential counted anew, beside the model's own."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import beta

from sgcldff.core.labels import FIVE_TYPES, WBC11
from sgcldff.core.parquet_file import read_table
from sgcldff.core.records import UNIDENTIFIED
from sgcldff.counting.differential import FLAGS, differential, from_counts, read_differential
from sgcldff.counting.stopping import Goal
from sgcldff.data.reviews.consensus import consensus_of
from sgcldff.data.reviews.store import CANNOT_TELL
from sgcldff.results.folder import REVIEWED_CELLS, REVIEWED_DIFFERENTIAL
from sgcldff.results.review.apply import apply_reviews, counted_as, recounted
from tests.sgcldff.results.reviewing import cells_of
from tests.sgcldff.results.verdicts import NOON, review, reviews_of


def clopper_pearson(count, total, level=0.95):
    low = beta.ppf((1 - level) / 2, count, total - count + 1) if count else 0.0
    high = beta.ppf((1 + level) / 2, count + 1, total - count) if count < total else 1.0
    return low, high


@pytest.mark.parametrize("seed", range(3))
def test_the_differential_agrees_with_an_independent_count(results, tmp_path, seed):
    folder = Path(shutil.copytree(results / "smear", tmp_path / "smear"))
    cells, rng = cells_of(results), np.random.default_rng(seed)
    some = cells.sample(20, random_state=seed)
    foreign = ("blast", "immature granulocyte", "other: hairy cell", "smudge cell", "erythroblast", "platelet")
    said = list(rng.choice([*FIVE_TYPES, CANNOT_TELL, *foreign], len(some)))
    applied = apply_reviews(folder, consensus_of(reviews_of(some, said)))
    by_cell = dict(zip(some["cell_id"], said, strict=True))
    final = [by_cell.get(row.cell_id, row.label) for row in cells.itertuples() if row.counted]
    counts = Counter(UNIDENTIFIED if label == CANNOT_TELL else label for label in final)
    told = read_differential(folder / REVIEWED_DIFFERENTIAL)
    assert told == applied.reviewed
    assert told.rejected == counts.pop(UNIDENTIFIED)
    for one in told.beside:
        assert one.count == counts.pop(one.label)
        assert one.per_100 == pytest.approx(100 * one.count / told.counted)
    assert told.counted == counts.total()
    assert {share.label for share in told.shares} == {*FIVE_TYPES, *counts}
    assert set(told.foreign) == set(foreign).intersection(final)
    assert told.cannot_tell == read_differential(folder / "differential.json").cannot_tell
    assert told.excluded == (~cells["counted"]).sum()
    for share in told.shares:
        assert share.count == counts[share.label]
        assert (share.low, share.high) == pytest.approx(clopper_pearson(share.count, told.counted))
    pairs = [(row.label, by_cell[row.cell_id]) for row in some.itertuples()]
    outcomes = applied.outcomes
    assert outcomes.reviewed == 20
    assert outcomes.confirmed == sum(was == now for was, now in pairs)
    assert outcomes.named == sum(was == UNIDENTIFIED and now != CANNOT_TELL for was, now in pairs)
    assert outcomes.open == sum(was == UNIDENTIFIED and now == CANNOT_TELL for was, now in pairs)
    assert outcomes.changed == 20 - outcomes.confirmed - outcomes.named - outcomes.open


def test_the_machines_own_results_stay_and_the_reviewed_ones_lie_beside_them(results, tmp_path):
    folder = Path(shutil.copytree(results / "smear", tmp_path / "smear"))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    cells = cells_of(results)
    apply_reviews(folder, consensus_of(reviews_of(cells.head(2), ["monocyte", CANNOT_TELL])))
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name in before} == before
    table = read_table(folder / REVIEWED_CELLS, "")
    own = pq.read_table(folder / "cells.parquet")
    assert table.select(own.schema.names).equals(own)
    kept = [pq.read_metadata(folder / name).metadata[b"geo"] for name in (REVIEWED_CELLS, "cells.parquet")]
    assert kept[0] == kept[1]
    assert table["reviewed_label"].to_pylist() == ["monocyte", UNIDENTIFIED] + [None] * (len(cells) - 2)
    assert table["reviewers"].to_pylist()[:3] == [["A"], ["A"], None]
    assert table["reviewed_at"].to_pylist()[0] == NOON
    review_told = json.loads((folder / REVIEWED_DIFFERENTIAL).read_text())["review"]
    assert (review_told["reviewed"], review_told["reviewers"]) == (2, ["A"])


def test_reviews_fit_the_results_of_another_model_by_their_places(results, smear, read_as, tmp_path):
    cells = cells_of(results)
    shifted = cells.assign(x_um=cells["x_um"] + 1.2, y_um=cells["y_um"] - 1.2, cell_id="old-" + cells["cell_id"])
    stray = review(label="monocyte", slide_sha256=cells["slide_sha256"].iloc[0], x_um=-400.0, y_um=-400.0)
    folder = read_as(tmp_path / "again", smear, [UNIDENTIFIED] * len(smear.cells), version="4")
    truth = [cell.label for cell in smear.cells]
    applied = apply_reviews(folder, consensus_of([*reviews_of(shifted, truth), stray]))
    assert applied.outcomes.lost == 1
    reviewed = pq.read_table(folder / REVIEWED_CELLS)
    assert reviewed["reviewed_label"].to_pylist() == truth


def test_a_store_without_reviews_of_the_slide_changes_nothing(results, tmp_path):
    folder = Path(shutil.copytree(results / "smear", tmp_path / "smear"))
    assert apply_reviews(folder, consensus_of([review()])) is None
    assert not (folder / REVIEWED_CELLS).exists()
    apply_reviews(folder, consensus_of(reviews_of(cells_of(results).head(1), ["monocyte"])))
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert apply_reviews(folder, consensus_of([review()])) is None
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_intervals_that_were_widened_for_a_goal_stay_so():
    labels = ["neutrophil"] * 80 + ["lymphocyte"] * 40 + [UNIDENTIFIED] * 10
    goal = Goal.parse("neutrophil:0.3")
    counts = Counter(labels) + Counter({"lymphocyte": 10}) - Counter({UNIDENTIFIED: 10})
    again = recounted(goal.settled(differential(labels, FIVE_TYPES)), counts)
    expected = goal.settled(differential(list(counts.elements()), FIVE_TYPES))
    assert again.shares == expected.shares
    assert any("counting stopped" in flag for flag in again.flags)
    plain = recounted(differential(labels, FIVE_TYPES), counts)
    few = recounted(
        Goal.parse("monocyte:0.3").settled(from_counts({"monocyte": 20, "neutrophil": 85}, FIVE_TYPES)),
        {"monocyte": 25, "neutrophil": 80},
    )
    assert (few["monocyte"].low, few["monocyte"].high) == pytest.approx((0.1554, 0.3381), abs=1e-4)
    assert any("counting stopped after 105 cells" in flag for flag in few.flags)
    assert plain == differential(list(counts.elements()), FIVE_TYPES)
    assert set(plain.flags) <= set(FLAGS.values())


def test_broader_answers_confirm_a_subtype_or_stay_broad():
    found = from_counts({"segmented neutrophil": 5, "lymphocyte": 2}, WBC11.classes)
    assert counted_as("neutrophil", "segmented neutrophil") == "segmented neutrophil"
    assert counted_as("neutrophil", "lymphocyte") == "neutrophil"
    assert counted_as(None, "lymphocyte") == UNIDENTIFIED
    again = recounted(found, {"segmented neutrophil": 5, "lymphocyte": 1, "neutrophil": 1})
    assert again["other: neutrophil, subtype not named"].count == 1
    assert again.foreign == ("other: neutrophil, subtype not named",)
    assert again["neutrophil"].count == 5, "the group holds the subtypes"
    assert again.counted == 7
    five = from_counts({"neutrophil": 1}, FIVE_TYPES)
    assert recounted(five, {"neutrophil": 2}).foreign == ()
