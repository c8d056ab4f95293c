"""A signed differential is kept as it was signed, whatever becomes of the slide's results."""

import json
from dataclasses import replace

import pandas as pd
import pytest

from sgcldff.core.errors import InputError
from sgcldff.core.json_file import read_json
from sgcldff.counting.differential import read_differential
from sgcldff.results.batch import SlideSummary, update_batches, write_batch
from sgcldff.results.folder import DIFFERENTIAL, REPORT, REVIEWED_CELLS, REVIEWED_DIFFERENTIAL, SIGNED
from sgcldff.results.review.sign import sign
from tests.sgcldff.results.reviewing import read_painted, review_first, section

pytestmark = pytest.mark.slow


def status(folder, name=DIFFERENTIAL):
    return read_json(folder / name, "")["status"]


def kept(folder, signature):
    return {path.name: path.read_bytes() for path in (folder / signature.place).iterdir()}


def test_results_are_preliminary_until_a_named_person_signs_them(job):
    folder = job.folder
    found = read_differential(folder / DIFFERENTIAL)
    assert status(folder) == "preliminary"
    assert "<strong>Preliminary:</strong>" in section(folder)
    signature = sign(folder, "  Ada   Lima ")
    assert (signature.by, signature.model_version, signature.counted, signature.reviewed) == ("Ada Lima", "7", 4, 0)
    assert status(folder) == "signed"
    assert read_json(folder / DIFFERENTIAL, "")["signature"] == signature.to_dict()
    assert (
        read_differential(folder / DIFFERENTIAL) == found == read_differential(folder / signature.place / DIFFERENTIAL)
    )
    assert set(kept(folder, signature)) == {DIFFERENTIAL, "cells.parquet", REPORT}
    pages = [(place / REPORT).read_text() for place in (folder, folder / signature.place)]
    assert pages[1] == pages[0].replace('"folder":"report"', '"folder":"../../report"'), (
        "its pictures stay where they are"
    )
    assert "<strong>Signed</strong> by Ada Lima on " in section(folder)
    assert "stub version 7, 4 cells counted, 0 cells looked at one by one" in section(folder)


def test_reviewed_counts_are_signed_where_there_are_any(job):
    review_first(job.folder)
    signature = sign(job.folder, "Ada")
    assert (signature.reviewed, signature.reviewers) == (2, ("A",))
    assert set(kept(job.folder, signature)) == {DIFFERENTIAL, REVIEWED_CELLS, REPORT}
    assert (status(job.folder), status(job.folder, REVIEWED_DIFFERENTIAL)) == ("preliminary", "signed")
    kept_counts = read_differential(job.folder / signature.place / DIFFERENTIAL)
    assert kept_counts == read_differential(job.folder / REVIEWED_DIFFERENTIAL)


def test_reading_again_keeps_what_was_signed_and_stands_beside_it(job):
    folder = job.folder
    signature = sign(folder, "Ada")
    before = kept(folder, signature)
    read_painted(replace(job, manual={"neutrophil": 3}))
    assert status(folder) == "signed", "the same cells with a manual count beside them"
    assert "<strong>Signed</strong> by Ada" in section(folder)
    read_painted(job, "another")
    assert status(folder) == "preliminary"
    shown = section(folder)
    assert "<strong>Preliminary:</strong>" in shown
    assert "Other results of this slide were signed by Ada" in shown
    assert f"kept unchanged in {signature.place}" in shown
    table, page = write_batch(folder.parent, [SlideSummary.read(folder)])
    assert pd.read_parquet(table)["signoff"].tolist() == ["preliminary"]
    assert f'<a href="slide/{signature.place}/report.html">other results</a> signed by Ada' in page.read_text()
    assert kept(folder, signature) == before
    read_painted(job)
    assert status(folder) == "signed", "the results that were signed are back"
    assert kept(folder, signature) == before


def test_a_review_after_the_signature_makes_the_counts_preliminary(job):
    first = sign(job.folder, "Ada")
    before = kept(job.folder, first)
    review_first(job.folder)
    assert (status(job.folder), status(job.folder, REVIEWED_DIFFERENTIAL)) == ("signed", "preliminary")
    assert "<strong>Preliminary:</strong>" in section(job.folder)
    second = sign(job.folder, "Ada")
    review_first(job.folder)
    assert status(job.folder, REVIEWED_DIFFERENTIAL) == "signed", "the same reviews were applied again"
    assert first.place != second.place
    assert kept(job.folder, first) == before
    standing = SlideSummary.read(job.folder).standing
    assert (standing.signatures, standing.signed_before) == ((second,), (first,))


def test_signing_again_adds_a_name_but_not_the_same_one_twice(job):
    first = sign(job.folder, "Ada")
    assert sign(job.folder, "ADA") == first
    (job.folder / first.place / REPORT).unlink()
    assert sign(job.folder, "Ada") == first
    assert (job.folder / first.place / REPORT).exists(), "a signature that was interrupted is completed"
    sign(job.folder, "Bo")
    signatures = SlideSummary.read(job.folder).standing.signatures
    assert {one.by for one in signatures} == {"Ada", "Bo"}
    table, page = write_batch(job.folder.parent, [SlideSummary.read(job.folder)])
    assert "1 differential is signed." in " ".join(page.read_text().split())
    assert pd.read_parquet(table)["signed_by"].item() in {"Ada", "Bo"}


def test_what_cannot_be_signed_says_why(job):
    with pytest.raises(InputError, match="reviewer is empty"):
        sign(job.folder, " ")
    signature = sign(job.folder, "Ada")
    path = job.folder / signature.place / DIFFERENTIAL
    changed = json.loads(path.read_text())
    changed["counted"] = 5
    path.write_text(json.dumps(changed))
    with pytest.raises(InputError, match=r"does not match its checksum.*restore it from a backup; nothing was signed"):
        sign(job.folder, "Bo")
    batch = write_batch(job.folder.parent, [SlideSummary.read(job.folder)])
    assert "restore it from a backup" in batch[1].read_text()
    assert len(list((job.folder / SIGNED).iterdir())) == 1
    assert update_batches([job.folder]) == ()
