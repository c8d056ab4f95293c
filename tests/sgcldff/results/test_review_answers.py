"""Reviewers' answers: read, stored, agreed upon, and applied to differentials."""

import csv
import json
import re
import shutil
import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgcldff.core.errors import MissingInputError, StoreError
from sgcldff.core.labels import FIVE_TYPES, OFFERED, WBC6, WBC12, foreign_types, with_broad_labels
from sgcldff.core.records import UNIDENTIFIED, Lineage
from sgcldff.data.adapters import Source, adapter, detect
from sgcldff.data.reviews.consensus import consensus_of, majority
from sgcldff.data.reviews.store import CANNOT_TELL, ReviewStore
from sgcldff.results.review.answers import read_answers
from sgcldff.results.review.page import write_page
from sgcldff.results.review.queue import QueuedCell, read_queue
from sgcldff.slides.images import sha256_of
from tests.sgcldff.results.verdicts import NOON, review


def write_answers(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("cell_id", "label", "reviewer", "reviewed_at"), *rows])
    return path


def test_good_answers_become_reviews(queue, tmp_path):
    first, second, *_ = read_queue(queue)
    rows = [
        (first.cell_id, "Neut", " Ana  Lima ", "2026-03-01T14:00:00+02:00"),
        (second.cell_id, CANNOT_TELL, "B", "2026-03-01T12:00Z"),
    ]
    answers = read_answers([write_answers(tmp_path / "a.csv", rows)], queue, read_queue(queue))
    assert not answers.set_aside
    one, two = (answer.review for answer in answers.usable)
    assert (one.label, one.reviewer, one.reviewed_at) == ("neutrophil", "Ana Lima", NOON)
    assert (two.label, two.reviewed_at) == (CANNOT_TELL, NOON)
    assert one.crop_sha256 == sha256_of(queue / first.crop)
    assert (one.told, one.slide_sha256, one.x_um) == (UNIDENTIFIED, first.lineage.slide_sha256, first.x_um)


SAID = {
    "NRBC": "erythroblast", "smudge cells": "smudge cell", "Platelets": "platelet", "Blasts": "blast",
    "IG": "immature granulocyte", "No white cell": "no white cell", "promyelocyte": "promyelocyte",
    "bands": "neutrophil", "Other:  Hairy   cell": "other: hairy cell", "plasma cell": "plasma cell",
}  # fmt: skip
"""What people say of a cell that a model of five types found -> the stored answer."""


def test_answers_beside_the_types_of_the_model_are_kept(queue, tmp_path):
    cells = read_queue(queue)[: len(SAID)]
    rows = [(cell.cell_id, text, "A", "2026-03-01T12:00:00Z") for cell, text in zip(cells, SAID, strict=True)]
    answers = read_answers([write_answers(tmp_path / "a.csv", rows)], queue, cells)
    assert not answers.set_aside
    assert [answer.review.label for answer in answers.usable] == list(SAID.values())
    store = ReviewStore(tmp_path / "store")
    store.add([a.review for a in answers.usable], {a.review.crop_sha256: a.picture for a in answers.usable})
    agreed = {verdict.latest.cell_id: verdict.label for verdict in consensus_of(store.reviews())}
    assert agreed == {row[0]: label for row, label in zip(rows, SAID.values(), strict=True)}


@pytest.mark.parametrize("classes", [WBC6.classes, WBC12.classes])
def test_a_type_is_foreign_only_where_the_model_has_it_neither_broadly_nor_finely(classes):
    space = with_broad_labels(classes)
    assert not set(foreign_types(classes)) & {*space.known, "non-blast"}
    assert {*space.known, *foreign_types(classes)} >= set(OFFERED)


BAD = {
    "unknown cell": (("nobody", "monocyte", "A", "2026-03-01T12:00:00Z"), "'nobody' is not in the queue"),
    "unknown label": ((None, "martian", "A", "2026-03-01T12:00:00Z"), "'martian'.*is unknown"),
    "no reviewer": ((None, "monocyte", "  ", "2026-03-01T12:00:00Z"), "reviewer is empty"),
    "no time": ((None, "monocyte", "A", "yesterday"), "'yesterday' is no time"),
    "no time zone": ((None, "monocyte", "A", "2026-03-01T12:00:00"), "no time zone"),
    "far away": ((None, "monocyte", "A", "0001-01-01T00:00:00+23:59"), "is no time"),
    "a formula": ((None, "monocyte", "=cmd()", "2026-03-01T12:00:00Z"), "starts a formula"),
    "the future": ((None, "monocyte", "A", "3026-03-01T12:00:00Z"), "lies in the future"),
    "no words": ((None, "other: ", "A", "2026-03-01T12:00:00Z"), "words of your own after 'other:'"),
    "no label": ((None, "", "A", "2026-03-01T12:00:00Z"), "is unknown"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_row_is_set_aside_with_file_and_row_and_the_rest_goes_on(queue, tmp_path, case):
    row, reason = BAD[case]
    known = [cell.cell_id for cell in read_queue(queue)]
    good = (known[0], "monocyte", "A", "2026-03-01T12:00:00Z")
    path = write_answers(tmp_path / "a.csv", [good, (row[0] or known[1], *row[1:]), (known[2], *good[1:])])
    answers = read_answers([path], queue, read_queue(queue))
    assert len(answers.usable) == 2
    (problem,) = answers.set_aside
    assert problem.place == f"{path}, row 2"
    assert re.search(reason, problem.reason)


def test_a_second_answer_in_a_file_is_set_aside_unless_it_says_the_same(queue, tmp_path):
    cell = read_queue(queue)[0].cell_id
    row = (cell, "monocyte", "A", "2026-03-01T12:00:00Z")
    path = write_answers(tmp_path / "a.csv", [row, row, (cell, "basophil", "a", "2026-03-01T12:00:01Z")])
    answers = read_answers([path], queue, read_queue(queue))
    assert len(answers.usable) == 1
    assert [problem.place for problem in answers.set_aside] == [f"{path}, row 3"]
    assert "with monocyte" in answers.set_aside[0].reason


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"cell,answer\nx,y\n"])
def test_a_file_that_is_no_table_of_answers_is_set_aside(queue, tmp_path, content):
    (tmp_path / "bad.csv").write_bytes(content)
    good = write_answers(tmp_path / "a.csv", [(read_queue(queue)[0].cell_id, "monocyte", "A", "2026-03-01T12:00:00Z")])
    answers = read_answers([tmp_path / "bad.csv", good, tmp_path / "gone.csv"], queue, read_queue(queue))
    assert len(answers.usable) == 1
    assert [Path(problem.place).name for problem in answers.set_aside] == ["bad.csv", "gone.csv"]


def test_an_answer_without_its_picture_is_set_aside(queue, tmp_path):
    shutil.copytree(queue, tmp_path / "queue")
    cell = read_queue(queue)[0]
    (tmp_path / "queue" / cell.crop).unlink()
    path = write_answers(tmp_path / "a.csv", [(cell.cell_id, "monocyte", "A", "2026-03-01T12:00:00Z")])
    answers = read_answers([path], tmp_path / "queue", read_queue(queue))
    assert not answers.usable
    assert "is missing" in answers.set_aside[0].reason


def test_reviewers_who_disagree_are_named_with_their_rows(queue, tmp_path):
    cell = read_queue(queue)[0].cell_id
    files = [
        write_answers(tmp_path / f"{name}.csv", [(cell, label, name, "2026-03-01T12:00:00Z")])
        for name, label in (("ana", "monocyte"), ("bo", "basophil"), ("cy", "basophil"))
    ]
    two = read_answers(files[:2], queue, read_queue(queue))
    told = [str(problem) for problem in two.disputed([answer.review for answer in two.usable])]
    assert len(told) == 2
    assert all("ana says monocyte and bo says basophil" in text and "row 1" in text for text in told)
    three = read_answers(files, queue, read_queue(queue))
    assert not three.disputed([answer.review for answer in three.usable])


reviews = st.builds(
    review,
    cell=st.integers(0, 3),
    label=st.sampled_from([*FIVE_TYPES[:2], CANNOT_TELL]),
    reviewer=st.sampled_from(["A", "B", "Ö. 'x\", y"]),
    minutes=st.integers(0, 3),
)


class Pictures(dict):
    """Give any picture the same file."""

    def __init__(self, path):
        path.write_bytes(b"a picture")
        self.path = path

    def __getitem__(self, sha256):
        return self.path


@given(st.lists(st.lists(reviews, max_size=5), max_size=4), st.randoms())
def test_the_order_of_files_and_reading_them_again_change_nothing(files, rng):
    with tempfile.TemporaryDirectory() as folder:
        pictures = Pictures(Path(folder) / "picture")
        one, other = ReviewStore(Path(folder) / "one"), ReviewStore(Path(folder) / "other")
        added = sum(one.add(file, pictures) for file in files)
        before = {path: path.read_bytes() for path in one.folder.rglob("*") if path.is_file()}
        assert [one.add(file, pictures) for file in files] == [0] * len(files)
        assert {path: path.read_bytes() for path in one.folder.rglob("*") if path.is_file()} == before
        for file in rng.sample([*files, *files], 2 * len(files)):
            other.add(file, pictures)
        assert one.reviews() == other.reviews()
        assert consensus_of(one.reviews()) == consensus_of(other.reviews())
        assert added == len(one.reviews()) == len({item.id for file in files for item in file})


def test_a_review_comes_back_as_it_was(tmp_path):
    store = ReviewStore(tmp_path / "store")
    stored = review(reviewer="Ö. 'x\", y", reviewed_at=NOON + timedelta(microseconds=123))
    store.add([stored], Pictures(tmp_path / "picture"))
    assert ReviewStore.open(tmp_path / "store").reviews() == (stored,)
    frame = pd.read_parquet(tmp_path / "store" / "reviews")
    assert list(frame["reviewer"]) == [stored.reviewer]


def test_a_crash_while_pictures_are_copied_leaves_no_review_behind(tmp_path):
    store = ReviewStore(tmp_path / "store")
    with pytest.raises(KeyError):
        store.add([review(0), review(1)], {f"{0:064x}": Pictures(tmp_path / "picture").path})
    assert store.reviews() == ()
    assert store.add([review(0), review(1)], Pictures(tmp_path / "picture")) == 2


def test_a_damaged_store_says_so(tmp_path):
    store = ReviewStore(tmp_path)
    store.add([review()], Pictures(tmp_path / "picture"))
    store.files[0].write_bytes(b"no parquet")
    with pytest.raises(StoreError, match="damaged"):
        store.reviews()
    with pytest.raises(MissingInputError, match="contains no reviews"):
        ReviewStore.open(tmp_path / "elsewhere")


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_file_is_missed_until_its_answers_are_read_again(tmp_path, lost):
    store, pictures, added = ReviewStore(tmp_path / "store"), Pictures(tmp_path / "picture"), []
    for number in range(3):
        known = set(store.files)
        store.add([review(number)], pictures)
        added += set(store.files) - known
    complete = store.reviews()
    added[lost].unlink()
    with pytest.raises(StoreError, match=f"{added[lost].name} missing.*read the answers again"):
        store.reviews()
    assert store.add([review(lost)], pictures) == 1
    assert store.reviews() == complete


@given(st.lists(reviews, min_size=1, max_size=12), st.randoms())
def test_the_last_word_of_more_than_half_of_the_reviewers_holds(given_, rng):
    shuffled = rng.sample(given_, len(given_))
    verdicts = consensus_of(given_)
    assert verdicts == consensus_of(shuffled)
    frame = pd.DataFrame([(r.cell_id, r.reviewer, r.reviewed_at, r.id, r.label) for r in given_], columns=list("crtil"))
    last = frame.sort_values(["t", "i"]).groupby(["c", "r"])["l"].last()
    assert {verdict.latest.cell_id for verdict in verdicts} == set(frame["c"])
    for verdict in verdicts:
        votes = last[verdict.latest.cell_id]
        shares = votes.value_counts(normalize=True)
        most = next((label for label, share in shares.items() if share > 0.5), None)
        assert verdict.label == (None if most == CANNOT_TELL else most)
        assert verdict.disputed == (most is None)
        assert len(verdict.reviewers) == len(votes)


def test_a_review_from_the_future_outranks_none_of_the_same_reviewer():
    (verdict,) = consensus_of([review(), review(label="basophil", reviewed_at=NOON.replace(year=3026))])
    assert verdict.label == "monocyte"


def test_half_is_no_majority():
    assert majority(["a", "a", "b", "c"]) is None
    assert majority(["a", "a", "b"]) == "a"


def test_who_differ_in_what_else_a_cell_is_agree_that_it_is_no_white_cell():
    assert majority(["platelet", "debris", "monocyte"]) == majority(["platelet", "no white cell"]) == "no white cell"
    assert majority(["platelet", "platelet", "debris"]) == "platelet"
    assert majority(["platelet", "debris", "monocyte", "monocyte"]) is None


def test_a_cell_that_two_models_found_a_little_apart_is_one_cell():
    found = [review(0), replace(review(0, "basophil", "B"), x_um=1.5, y_um=51.0, cell_id="other", model_version="4")]
    (verdict,) = consensus_of(found)
    assert verdict.reviewers == ("A", "B")
    assert verdict.label is None
    assert len(consensus_of([*found, replace(review(0, reviewer="C"), slide_sha256="cd" * 32)])) == 2


def test_capitals_make_no_second_reviewer():
    (verdict,) = consensus_of([review(reviewer="Ana"), review(label="basophil", reviewer="ana", minutes=1)])
    assert verdict.label == "basophil"


@pytest.fixture
def store(queue, tmp_path):
    """Store the truth of four cells, one that nobody can tell, and one on which reviewers differ."""
    cells = read_queue(queue)[:6]
    said = ["monocyte", "neutrophil", "basophil", "lymphocyte", CANNOT_TELL, "monocyte"]
    rows = [(cell.cell_id, label, "A", "2026-03-01T12:00:00Z") for cell, label in zip(cells, said, strict=True)]
    rows.append((cells[5].cell_id, "basophil", "B", "2026-03-01T12:00:00Z"))
    answers = read_answers([write_answers(tmp_path / "a.csv", rows)], queue, cells)
    store = ReviewStore(tmp_path / "lab" / "reviews-2026")
    store.add([answer.review for answer in answers.usable], {a.review.crop_sha256: a.picture for a in answers.usable})
    return store.folder, dict(zip([cell.crop for cell in cells], said, strict=True))


def test_settled_reviews_are_samples_of_their_slide(store, queue):
    folder, said = store
    found = list(Source("reviewed", str(folder)).scan())
    assert len(found) == 4
    pictures = {sha256_of(queue / crop): label for crop, label in said.items()}
    for sample in found:
        assert sample.label == pictures[sha256_of(sample.image)]
        assert sample.mpp == pytest.approx(0.1)
        assert sample.licence == "its owner's"
    digests = {cell.lineage.slide_sha256 for cell in read_queue(queue)}
    assert {sample.group for sample in found} == {f"reviewed/{digest}" for digest in digests}
    assert len({sample.id for sample in found}) == 4


def test_a_store_is_detected(store):
    folder, _ = store
    assert [(source.adapter, source.folder) for source in detect(folder.parent)] == [("reviewed", str(folder))]
    assert not adapter("reviewed").recognises(folder.parent)


def test_reviewed_cells_are_ingested_on_one_side_of_the_split(store, tmp_path):
    from sgcldff.data.catalog import ingest

    catalog = ingest([Source("reviewed", str(store[0]))], tmp_path / "catalog")
    assert len(catalog.samples) == 4
    assert len({(sample.group, sample.split) for sample in catalog.samples}) == 1


def test_a_store_cannot_lead_out_of_its_folder(tmp_path):
    store = ReviewStore(tmp_path / "store")
    store.add([review()], Pictures(tmp_path / "picture"))
    table = pq.read_table(store.files[0])
    at = table.schema.get_field_index("crop_sha256")
    pq.write_table(table.set_column(at, "crop_sha256", [["../../../etc/passwd"]]), store.files[0])
    (rejected,) = Source("reviewed", str(store.folder)).scan()
    assert "has no image" in rejected.reason


def test_a_page_holds_hostile_names_as_data_only(tmp_path):
    evil = "</script><script>alert(1)</script><!--&\u2028"
    lineage = Lineage("ab" * 32, evil, "1", "cd", "ef", "0")
    cell = QueuedCell(
        evil, evil, 1, 1, 1, 1, "crops/0.png", 0.1, False, "label", evil, 0.5, (0.5, 0.5), (evil, "b"), lineage
    )
    text = write_page(tmp_path, [cell]).read_text()
    assert text.count("</script>") == 2
    assert "alert(1)</script><!--" not in text
    content = json.loads(text.split('id="content">')[1].split("</script>")[0])
    assert content["cells"][0]["id"] == content["classes"][0]["label"] == evil
    for outside in ("http:", "https:", "//cdn", "@import", "url("):
        assert outside not in text
