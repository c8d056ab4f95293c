"""What people did with the results of a slide outlasts reading it again."""

import html
import re
from dataclasses import replace

import pandas as pd
import pytest

from sgcldff.counting.differential import read_differential
from sgcldff.counting.specimen import Specimen
from sgcldff.data.reviews.consensus import consensus_of
from sgcldff.results.batch import SlideSummary, Urgency, triage, update_batches, write_batch
from sgcldff.results.folder import EARLIER, REVIEWED_CELLS, REVIEWED_DIFFERENTIAL
from sgcldff.results.review.apply import apply_reviews
from tests.sgcldff.results.reviewing import read_painted, review_first, section
from tests.sgcldff.results.verdicts import reviews_of

pytestmark = pytest.mark.slow

REVIEWED = (REVIEWED_CELLS, REVIEWED_DIFFERENTIAL)


def bytes_of(folder, names=REVIEWED):
    return {name: (folder / name).read_bytes() for name in names}


def test_a_manual_count_leaves_the_reviewed_results_as_they_are(job):
    review_first(job.folder)
    before = bytes_of(job.folder)
    read_painted(replace(job, manual={"neutrophil": 3, "eosinophil": 1}))
    assert (job.folder / "manual.json").exists()
    assert bytes_of(job.folder) == before
    read_painted(job)
    assert bytes_of(job.folder) == before


def test_a_white_count_that_is_given_later_enters_the_counts_after_review(job):
    applied = review_first(job.folder)
    read_painted(replace(job, specimen=Specimen(wbc=8.0)))
    again = read_differential(job.folder / REVIEWED_DIFFERENTIAL)
    assert again == replace(applied.reviewed, specimen=Specimen(wbc=8.0))
    assert again.counts == applied.reviewed.counts != applied.machine.counts
    assert "2 cells reviewed by A" in section(job.folder)
    (monocytes,) = (one.value for one in again.laboratory.absolute if one.label == "monocyte")
    row = re.search(r"</span>monocyte</th>(.*?)</tr>", section(job.folder))[1]
    assert row.endswith(f'<td class="number">{monocytes:.3g}</td>')


def test_reviewed_results_make_way_for_another_model_and_are_kept(job):
    review_first(job.folder)
    before = bytes_of(job.folder)
    read_painted(job, "another")
    assert not any((job.folder / name).exists() for name in REVIEWED)
    (kept,) = (job.folder / EARLIER).iterdir()
    assert bytes_of(kept) == before
    review_first(job.folder)
    read_painted(job)
    assert len(list((job.folder / EARLIER).iterdir())) == 2
    assert bytes_of(kept) == before


def test_a_move_that_was_interrupted_goes_on(job):
    review_first(job.folder)
    before = bytes_of(job.folder)
    kept = job.folder / EARLIER / "half"
    kept.mkdir(parents=True)
    read_painted(job, "another")
    (moved,) = set((job.folder / EARLIER).iterdir()) - {kept}
    (moved / REVIEWED_DIFFERENTIAL).rename(job.folder / REVIEWED_DIFFERENTIAL)
    read_painted(replace(job, manual={"neutrophil": 3}), "another")
    assert bytes_of(moved) == before


def machine_part(folder):
    return (folder / "report.html").read_text().replace(section(folder), "")


def test_reviewed_counts_stand_in_report_and_batch_beside_the_models(job):
    found = read_painted(job).differential
    batch = write_batch(job.folder.parent, [SlideSummary.read(job.folder)])
    before = machine_part(job.folder)
    applied = review_first(job.folder)
    assert machine_part(job.folder) == before
    shown = section(job.folder)
    assert "2 cells reviewed by A, last on 2026-03-01 12:00 UTC: 0 confirmed, 2 changed" in shown
    for share in applied.reviewed.shares:
        row = re.search(rf"</span>{share.label}</th>(.*?)</tr>", shown)[1]
        assert [int(cell) for cell in re.findall(r">(\d+)<", row)] == [found[share.label].count, share.count]
    assert not update_batches([job.folder])
    (row,) = pd.read_parquet(batch[0]).to_dict("records")
    assert (row["reviewed"], list(row["reviewers"])) == (2, ["A"])
    for share in applied.reviewed.shares:
        assert (row[f"count_{share.label}"], row[f"reviewed_count_{share.label}"]) == (
            found[share.label].count,
            share.count,
        )
    assert "after review of 2 cells by A" in batch[1].read_text()
    read_painted(replace(job, manual={"neutrophil": 3}))
    assert section(job.folder) == shown


def test_reviews_of_another_reading_are_named_and_not_shown_as_of_this_one(job):
    review_first(job.folder)
    read_painted(job, "another")
    (kept,) = (job.folder / EARLIER).iterdir()
    assert f"kept in {EARLIER}/{kept.name}" in section(job.folder)
    assert "Counts after review" not in section(job.folder)
    (judged,) = triage([SlideSummary.read(job.folder)])
    assert "an earlier reading was reviewed" in " ".join(reason.text for reason in judged.reasons)


def test_names_of_reviewers_cannot_become_markup(job):
    evil = '</section><section id="differential"><script>alert(1)</script>'
    cells = pd.read_parquet(job.folder / "cells.parquet").head(1)
    (one,) = reviews_of(cells, ["monocyte"])
    for name in (evil, r"\1 \g<0>"):
        apply_reviews(job.folder, consensus_of([replace(one, reviewer=name)]))
        assert html.escape(name, quote=False) in section(job.folder).replace("&#34;", '"')
    text = (job.folder / "report.html").read_text()
    assert "<script>alert" not in text
    assert text.count('<section id="differential">') == 1


def test_damaged_reviewed_results_are_named_and_the_rest_is_read(job):
    review_first(job.folder)
    (job.folder / REVIEWED_DIFFERENTIAL).write_text("{")
    summary = SlideSummary.read(job.folder)
    assert summary.found is not None
    (fault,) = summary.standing.damaged
    assert "differential.reviewed.json: damaged" in fault
    assert "sgcldff review apply" in fault


def test_a_blast_that_a_person_found_comes_first(job):
    review_first(job.folder, ["blast", "smudge cell"])
    (judged,) = triage([SlideSummary.read(job.folder)])
    assert judged.reasons[0].text.startswith("after review, 1 blast cell: ")
    assert judged.urgency == Urgency.FIRST
    shown = " ".join(section(job.folder).split())
    assert 'not a type of this model</td><td class="number">1<' in shown
    assert "does not have blast, smudge cell: such cells were looked for among the reviewed ones only" in shown
    assert re.search(r"smudge cell</th>.*?per 100 white cells, not included in percentages", shown)
