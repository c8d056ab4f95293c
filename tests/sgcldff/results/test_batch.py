import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgcldff.core.errors import InputError
from sgcldff.core.labels import FIVE_TYPES, WBC6
from sgcldff.core.records import UNIDENTIFIED, Lineage, ModelRef
from sgcldff.counting.agreement import compare, write_agreements
from sgcldff.counting.differential import from_counts, write_differential
from sgcldff.counting.reference_intervals import ReferenceInterval, Unit
from sgcldff.counting.specimen import Specimen
from sgcldff.inference.outputs import create_labels, write_labels_ngff
from sgcldff.results.batch import (
    Reason,
    SlideSummary,
    Urgency,
    batch_schema,
    known_sha256,
    require_own_folders,
    triage,
    unread,
    write_batch,
    write_origin,
    write_summary,
)
from sgcldff.results.batch.triage import robust_z
from sgcldff.slides import SlideEntry
from sgcldff.slides.content import content_sha256
from tests.sgcldff.results.summaries import AREAS, MODEL, USUAL, aside, summary

LINEAGE = Lineage("ab" * 32, "sgcldff", "3", "cd" * 8, "ef" * 8, "0.1.0")


def texts(slide):
    (judged,) = triage([slide])
    return [reason.text for reason in judged.reasons]


def test_a_slide_without_faults_needs_no_look():
    (judged,) = triage([summary()])
    assert (judged.urgency, judged.reasons) == (Urgency.NONE, ())


@pytest.mark.parametrize(
    ("slide", "urgency", "expected"),
    [
        (aside("a", "smear.svs: damaged"), Urgency.FIRST, "skipped: smear.svs: damaged"),
        (summary(counts=USUAL | {"blast": 1}), Urgency.FIRST, "1 blast cell: 0.2 %, interval 0.0 % – 1.1 %"),
        (summary(counts={"neutrophil": 99}), Urgency.FIRST, "99 cells counted, fewer than 100"),
        (summary(counts={"neutrophil": 1}), Urgency.FIRST, "1 cell counted, fewer than 100"),
        (summary(counts={"neutrophil": 199}), Urgency.LOOK, "199 cells counted, fewer than 200"),
        (summary(counts={"neutrophil": 399}), Urgency.NOTE, "399 cells counted, fewer than 400"),
        (summary(counts=USUAL | {UNIDENTIFIED: 90}), Urgency.LOOK, "15.3 % of the cells are unidentified"),
        (summary(excluded=900), Urgency.LOOK, "64.3 % of the cells lie outside the usable area"),
        (
            summary(areas={"monolayer": 0.02, "thick": 0.38, "background": 0.6}),
            Urgency.LOOK,
            "only 5.0 % of the smear is usable",
        ),
    ],
)
def test_each_reason_is_told_and_weighed(slide, urgency, expected):
    (judged,) = triage([slide])
    assert (judged.urgency, [reason.text for reason in judged.reasons]) == (urgency, [expected])


def test_a_slide_that_differs_from_the_manual_count_needs_a_look():
    slide = summary()
    agreeing = compare(slide.found, {"neutrophil": 58, "lymphocyte": 33, "monocyte": 7, "eosinophil": 2})
    differing = compare(slide.found, {"neutrophil": 30, "lymphocyte": 62, "monocyte": 8})
    assert texts(summary(agreements=agreeing)) == []
    assert texts(summary(agreements=differing)) == [
        "neutrophil 60.0 %, in the manual count 30.0 %: they differ",
        "lymphocyte 30.0 %, in the manual count 62.0 %: they differ",
    ]


def test_what_the_model_cannot_tell_decides_what_is_said(tmp_path):
    """A leukaemia read with a model of five types must not pass as a lymphocytosis without a word."""
    counts = {"neutrophil": 80, "lymphocyte": 410, "monocyte": 10}
    five = replace(summary(), found=from_counts(counts, FIVE_TYPES))
    (warning,) = texts(five)
    assert warning == "84.0 % lymphocytes and monocytes: they may be blasts, which this model does not recognise"
    assert texts(summary(counts=counts)) == [], "blasts would have been found"
    pages = [write_batch(tmp_path / str(n), [one])[1].read_text() for n, one in enumerate([five, summary()])]
    assert "a watched type such as blasts is present" not in pages[0]
    assert "This model does not recognise blasts, immature granulocytes, band neutrophils or erythroblasts." in pages[0]
    assert pages[0].index("a leukaemia may read as") < pages[0].index("Need review")
    assert "a watched type such as blasts is present" in pages[1]
    table = pq.read_table(tmp_path / "0" / "batch.parquet")
    assert table.schema.metadata[b"sgcldff.purpose"] == b"research use only, not for diagnosis"
    assert table["cannot_tell"].to_pylist() == [list(five.found.cannot_tell)]
    assert table["interval_level"].to_pylist() == [0.95]


def test_a_type_of_the_manual_count_that_the_model_lacks_comes_first():
    slide = replace(summary(), found=from_counts(USUAL, FIVE_TYPES))
    compared = replace(slide, agreements=compare(slide.found, {"neutrophil": 50, "lymphocyte": 30, "blast": 20}))
    (first, *_) = triage([compared])[0].reasons
    assert first == Reason(Urgency.FIRST, "blast 20.0 % in the manual count, not a type of this model")


def batch(count, seed=0):
    rng = np.random.default_rng(seed)
    shares = np.array([0.6, 0.02, 0.01, 0.3, 0.07, 0.0])
    draws = (rng.multinomial(rng.integers(400, 900), shares) for _ in range(count))
    return [summary(f"s{n:02d}", dict(zip(WBC6.classes, map(int, draw), strict=True))) for n, draw in enumerate(draws)]


def test_a_share_far_outside_of_the_batch_is_found_and_chance_is_not():
    odd = summary("odd", USUAL | {"eosinophil": 120})
    judged = triage([*batch(20), odd])
    assert [one.slide.slide_id for one in judged if one.reasons] == ["odd"]
    assert re.search(r"eosinophil 19\.7 %, far from the batch.s 2\.\d %", judged[0].reasons[0].text)


@pytest.mark.slow
def test_chance_alone_hardly_ever_makes_an_outlier():
    slides = [slide for seed in range(15) for slide in triage(batch(20, seed))]
    assert sum(bool(one.reasons) for one in slides) <= 6


def test_few_slides_are_no_batch_to_compare_with():
    odd = summary("odd", USUAL | {"eosinophil": 120})
    assert all(not one.reasons for one in triage([*batch(6), odd]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(100, 5000)), min_size=1, max_size=30))
def test_scores_are_finite_and_vanish_at_the_median(pairs):
    shares, counted = np.array(pairs, float).T
    scores, usual = robust_z(shares, counted)
    assert np.isfinite(scores).all()
    assert usual == np.median(shares)
    assert not scores[shares == usual].any()


def test_what_needs_a_look_comes_first_and_what_was_set_aside_on_top():
    few, blasts = summary("few", {"neutrophil": 150}), summary("blasts", USUAL | {"blast": 9})
    slides = [summary("b"), few, summary("a"), blasts, aside("z")]
    assert [one.slide.slide_id for one in triage(slides)] == ["z", "blasts", "few", "a", "b"]
    assert [one.slide.slide_id for one in triage(slides, watched=())][:3] == ["z", "few", "a"]


def stored(folder, slide):
    place = folder / slide.slide_id
    write_summary(place, slide)
    if slide.found is not None:
        write_differential(place / "differential.json", slide.found, slide.slide_id, LINEAGE)
        (place / "report.html").write_text("report")
    if slide.agreements:
        write_agreements(place / "manual.json", slide.agreements, slide.slide_id, LINEAGE)
    return SlideSummary.read(place)


def test_a_summary_is_read_back_from_its_folder(tmp_path):
    slide = summary(counts=USUAL | {UNIDENTIFIED: 4}, excluded=30)
    compared = summary("b", agreements=compare(slide.found, {"neutrophil": 60, "lymphocyte": 40}))
    for one in (slide, compared, aside("c"), summary("d", areas={}, model=None)):
        assert stored(tmp_path, one) == one


def test_the_page_says_where_the_time_went(tmp_path):
    stages = {"network": 6.0, "idle": 2.0}
    write_batch(tmp_path, [stored(tmp_path, replace(summary("a"), stages=stages)), stored(tmp_path, summary("b"))])
    page = re.sub("<[^>]*>", "", (tmp_path / "batch.html").read_text())
    assert "Where the time of the workers went: network 75.0 %, idle 25.0 %." in page


def test_a_slide_set_aside_is_not_taken_for_read_where_former_results_lie(tmp_path):
    stored(tmp_path, summary("slide"))
    assert stored(tmp_path, aside("slide")) == aside("slide")


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"version": 2}'])
def test_damaged_summaries_are_named(tmp_path, content):
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(InputError, match=r"summary\.json: not a slide.s summary"):
        SlideSummary.read(tmp_path)


def test_a_summary_without_its_differential_is_an_input_error(tmp_path):
    write_summary(tmp_path, summary())
    with pytest.raises(InputError, match=r"differential\.json: no such differential"):
        SlideSummary.read(tmp_path)
    with pytest.raises(InputError, match=r"summary\.json"):
        SlideSummary.read(tmp_path / "nowhere")


def test_the_table_has_a_row_a_slide_and_every_value(tmp_path):
    five = SlideSummary("five", "five.tiff", found=from_counts({"neutrophil": 500}, FIVE_TYPES), areas=AREAS)
    path, _ = write_batch(tmp_path, [summary("a", excluded=7), aside("b"), five])
    assert pq.read_schema(path).equals(batch_schema(WBC6.classes))
    table = pd.read_parquet(path).set_index("slide_id")
    assert table.status.to_dict() == {"a": "read", "b": "skipped", "five": "read"}
    row, share = table.loc["a"], summary().found["lymphocyte"]
    assert (row.counted, row.rejected, row.excluded, row.count_lymphocyte) == (500, 0, 7, 150)
    assert (row.share_lymphocyte, row.low_lymphocyte, row.high_lymphocyte) == (share.share, share.low, share.high)
    assert (row.area_monolayer, row.usable) == (0.4, pytest.approx(4 / 7))
    assert (row.tiles, row.skipped, row.seconds, row.model_digest) == (100, 1900, 12.5, MODEL.digest)
    assert table.loc["b"].reason == "cannot be decoded"
    assert list(table.loc["b"].look) == ["skipped: cannot be decoded"]
    assert table.loc["b"][["counted", "share_blast", "area_thick", "usable", "model_name"]].isna().all()
    assert pd.isna(table.loc["five"].count_blast)
    assert pd.isna(row.agrees_with_manual)


class Page(HTMLParser):
    """Collects links, pictures, headings and text."""

    def __init__(self, text):
        super().__init__()
        self.links, self.images, self.tags, self.text = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.links += [values["href"]] if tag == "a" else []
        self.images += [values["src"]] if tag == "img" else []

    def handle_data(self, data):
        self.text += [data.strip()] if data.strip() else []


def page(folder, slides):
    return Page(write_batch(folder, slides)[1].read_text(encoding="utf-8"))


def test_the_page_tells_what_needs_a_look_and_links_to_reports(tmp_path):
    slides = [stored(tmp_path, one) for one in (summary("a b"), summary("few", {"neutrophil": 9}), aside("lost"))]
    shown = page(tmp_path, slides)
    words = " ".join(shown.text)
    assert "2 of 3 slides need review" in words
    assert "2 read, 1 skipped; 509 white blood cells counted." in words
    assert words.index("skipped: cannot be decoded") < words.index("9 cells counted") < words.index("Other slides")
    assert words.index("Other slides") < words.index("a b")
    assert shown.links == ["few/report.html", "a%20b/report.html"]
    assert all((tmp_path / unquote(link)).exists() for link in shown.links)
    assert "script" not in shown.tags


def test_the_page_carries_a_small_picture_of_each_slide(tmp_path):
    root = tmp_path / "slide" / "labels.ome.zarr"
    create_labels(root, (1000, 2000), 256, 512)
    write_labels_ngff(root, 0.2, np.full((300, 600, 3), 200, np.uint8), 0.67)
    (picture,) = page(tmp_path, [summary(counts={"neutrophil": 9})]).images
    assert picture.startswith("data:image/jpeg;base64,")
    assert len(picture) < 4000


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a'><img src=x>", '"{{ 7*7 }} & Söhne'])
def test_names_from_files_cannot_become_markup(tmp_path, name):
    hostile = SlideSummary(name, name, reason=name)
    typed = SlideSummary(
        name, name, found=from_counts({name: 3, "b": 2}, (name, "b")), model=ModelRef(name, name, name)
    )
    shown = page(tmp_path, [hostile, typed])
    assert "script" not in shown.tags
    assert not shown.images
    assert name in shown.text


def test_an_empty_batch_has_a_page_that_says_so(tmp_path):
    assert "No slide needs review." in page(tmp_path, []).text
    assert len(pd.read_parquet(tmp_path / "batch.parquet")) == 0


def test_the_same_batch_gives_the_same_bytes(tmp_path):
    slides = [*batch(9), aside("z")]
    one, two = (write_batch(tmp_path / place, order) for place, order in (("a", slides), ("b", slides[::-1])))
    assert one[1].read_bytes() == two[1].read_bytes()
    assert one[0].read_bytes() == two[0].read_bytes()


@pytest.fixture
def read_before(tmp_path):
    """Make a slide whose results lie in `out/x`."""
    place = tmp_path / "a" / "x.svs"
    place.parent.mkdir()
    place.write_bytes(b"first")
    write_origin(tmp_path / "out" / "x", str(place), content_sha256(place))
    return place


def test_another_slide_of_the_same_name_does_not_replace_results(read_before, tmp_path):
    other = tmp_path / "b" / "x.svs"
    other.parent.mkdir()
    other.write_bytes(b"second")
    with pytest.raises(InputError, match=r"other slides with the names of .*b/x\.svs \(x\): give another folder"):
        require_own_folders([SlideEntry(str(other), None, "x")], tmp_path / "out")
    require_own_folders([SlideEntry(str(other), None, "y")], tmp_path / "out")


def test_a_slide_that_was_moved_or_that_changed_keeps_its_folder(read_before, tmp_path):
    moved = read_before.rename(tmp_path / "x.svs")
    require_own_folders([SlideEntry(str(moved), None, "x")], tmp_path / "out")
    read_before.write_bytes(b"scanned anew")
    require_own_folders([SlideEntry(str(read_before), None, "x")], tmp_path / "out")


def test_a_slide_behind_a_url_is_told_by_its_address_without_the_signature(tmp_path):
    write_origin(tmp_path / "x", "https://store/x.svs?X-Amz-Signature=1", "0" * 64)
    require_own_folders([SlideEntry("https://store/x.svs?X-Amz-Signature=2", None, "x")], tmp_path)
    with pytest.raises(InputError, match="give another folder"):
        require_own_folders([SlideEntry("https://store/other/x.svs", None, "x")], tmp_path)


def test_results_tell_no_folder_of_their_slide(read_before, tmp_path):
    assert str(tmp_path) not in (tmp_path / "out" / "x" / "origin.json").read_text()


def test_a_slide_is_hashed_again_only_if_its_file_may_have_changed(read_before, tmp_path):
    folder, before = tmp_path / "out" / "x", content_sha256(read_before)
    assert known_sha256(folder, str(read_before)) == before
    os.utime(read_before, ns=(1, 1))
    assert known_sha256(folder, str(read_before)) is None
    write_origin(folder, str(read_before), before)
    read_before.write_bytes(b"longer than before")
    os.utime(read_before, ns=(1, 1))
    assert known_sha256(folder, str(read_before)) is None
    moved = read_before.rename(tmp_path / "y.svs")
    assert known_sha256(folder, str(moved)) is None
    assert known_sha256(tmp_path / "new", str(moved)) is None


def test_slides_of_several_files_are_always_hashed(tmp_path):
    (tmp_path / "slide.zarr").mkdir()
    (tmp_path / "slide.mrxs").write_bytes(b"index")
    for name in ("slide.zarr", "slide.mrxs"):
        write_origin(tmp_path / "out", str(tmp_path / name), "0" * 64)
        assert known_sha256(tmp_path / "out", str(tmp_path / name)) is None


def test_slides_are_unread_until_a_run_has_ended_with_them(read_before, tmp_path):
    slide = SlideEntry(str(read_before), None, "another-id")
    assert unread([slide], tmp_path / "out") == [slide]
    write_summary(tmp_path / "out" / "x", aside("x"))
    assert unread([slide], tmp_path / "out") == []
    read_before.write_bytes(b"scanned anew")
    assert unread([slide], tmp_path / "out") == [slide]


def test_a_slide_that_could_not_be_opened_counts_as_read_until_it_changes(read_before, tmp_path):
    folder, slide = tmp_path / "out" / "x", SlideEntry(str(read_before), None, "x")
    write_origin(folder, slide.uri)
    write_summary(folder, aside("x"))
    assert unread([slide], tmp_path / "out") == []
    assert known_sha256(folder, slide.uri) is None
    require_own_folders([SlideEntry(str(tmp_path), None, "x")], tmp_path / "out")


def test_what_lies_outside_the_reference_intervals_needs_a_look(tmp_path):
    within, above = (ReferenceInterval("monocyte", Unit.PERCENT, limits) for limits in ((1.0, 20.0), (0.0, 2.0)))
    slide = summary()
    marked = [
        replace(slide, found=replace(slide.found, specimen=Specimen(8.0, (interval,), "lab.toml")))
        for interval in (within, above)
    ]
    assert texts(marked[0]) == []
    assert triage(marked[1:])[0].reasons == (Reason(Urgency.LOOK, "monocyte 7 %, above the reference 0 – 2"),)
    table = pq.read_table(write_batch(tmp_path, marked)[0]).to_pylist()
    assert [row["outside_reference"] for row in table] == [["monocyte 7 %, above the reference 0 – 2"], []]
    assert [row["absolute_monocyte"] for row in table] == pytest.approx([8 * 0.07] * 2)
    page = (tmp_path / "batch.html").read_text()
    assert "monocyte 7 %, above the reference 0 – 2" in page
    assert "<h1>1 of 2 slides needs review</h1>" in page
