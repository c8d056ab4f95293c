import base64
import hashlib
import json
import random
import re
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from sgcldff.core.labels import FIVE_TYPES, WBC11
from sgcldff.core.records import UNIDENTIFIED, Lineage, SlideRef
from sgcldff.counting.agreement import compare
from sgcldff.counting.confusion import Confusion
from sgcldff.counting.differential import differential, from_counts
from sgcldff.counting.reference_intervals import ReferenceInterval, Unit
from sgcldff.counting.specimen import Specimen
from sgcldff.inference.outputs import CellRow
from sgcldff.results.facts import slide_facts
from sgcldff.results.gallery import DRAWN, OUTSIDE, SHOWN_PER_TYPE, Gallery
from sgcldff.results.slide_page import write_report
from sgcldff.slides.scaled import ScaledSlide
from tests.sgcldff.results.reports import PaintedSlide

LINEAGE = Lineage("ab" * 32, "sgcldff", "3", "cd" * 8, "ef" * 8, "0.1.0")
VOID = {"meta", "img", "input", "path", "rect", "br", "hr", "link"}


class Page(HTMLParser):
    """Collects what a report consists of, and refuses tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.images, self.tags, self.captions, self.text, self.open = [], [], [], [], [], []
        self.links, self.scripts, self.content, self.policy = [], [], None, ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.images += [values["src"]] if tag == "img" else []
        self.links += [values["href"]] if tag == "a" else []
        if tag == "meta" and "content" in values and "http-equiv" in values:
            self.policy = values["content"]
        if tag == "script":
            assert values in ({}, {"type": "application/json", "id": "content"})
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "figcaption":
            self.captions.append(data)
        if self.open and self.open[-1] == "script":
            if self.content is None:
                self.content = json.loads(data)
            else:
                self.scripts.append(base64.b64encode(hashlib.sha256(data.encode()).digest()).decode())
        elif "style" not in self.open:
            self.text.append(data.strip())

    def runs_only_what_it_allows(self):
        allowed = re.findall(r"'sha256-([^']+)'", self.policy)
        return len(allowed) == 4 and self.scripts == allowed and "unsafe-inline'; script-src 'sha256" in self.policy


def slide(name="smear 7"):
    pixels = np.full((800, 1200, 3), 230, np.uint8)
    ref = SlideRef(name, f"/home/somebody/{name}.tiff", "ab" * 32, 0.1, (800, 1200), 1)
    return ScaledSlide(PaintedSlide(ref, pixels), 0.2)


def cells(labels):
    rng = np.random.default_rng(0)
    for number, label in enumerate(labels):
        y, x = rng.uniform((0, 0), (800, 1200))
        box = (y - 60, x - 60, y + 60, x + 60)
        confidence = (37 * number % 100) / 100
        chances = np.full(5, 0.2)
        yield CellRow(f"c{number:04d}", "smear", (y, x), box, np.zeros((0, 2)), 140, 60, label, confidence, chances)


def report(folder, labels, name="smear 7", lineage=LINEAGE, manual=None, calibrated=""):
    found = differential(labels, FIVE_TYPES)
    agreements = () if manual is None else compare(found, manual)
    facts = slide_facts(slide(name).source.ref, lineage, calibrated)
    text = write_report(folder, slide(name), Gallery(cells(labels)), found, facts, agreements).read_text(
        encoding="utf-8"
    )
    return text, Page(text)


FACTS = slide_facts(slide().source.ref, LINEAGE)
LABELS = ["neutrophil"] * 60 + ["lymphocyte"] * 25 + ["monocyte"] * 5 + [UNIDENTIFIED] * 3


def test_a_report_has_all_its_parts(tmp_path):
    _, page = report(tmp_path, LABELS)
    assert {"flags", "differential", "overview", "gallery", "lineage"} <= set(page.ids)
    words = " ".join(page.text)
    for expected in ("Not for diagnosis", "93 white blood cells found, 90 classified, 3 unidentified", *FIVE_TYPES):
        assert expected in words
    for value in ("ab" * 32, "cd" * 8, "ef" * 8, "sgcldff, version 3", "1,200 × 800 px at 0.1 µm/px (0.12 × 0.08 mm)"):
        assert value in words
    assert "fewer than 100 cells" in words


def test_a_report_says_what_its_numbers_do_not(tmp_path):
    words = " ".join(report(tmp_path, LABELS)[1].text)
    assert "This model does not recognise blasts, immature granulocytes, band neutrophils or erythroblasts." in words
    assert "a leukaemia may read as many lymphocytes or monocytes" in words
    assert "They do not cover errors of the model" in words
    assert "how it confuses types is not known" in words
    found = replace(differential(LABELS[:90], FIVE_TYPES), abstains=False)
    off = write_report(tmp_path, slide(), Gallery(cells(LABELS[:90])), found, FACTS).read_text()
    assert "90 classified, abstaining is off" in off
    assert "0 unidentified" not in off


def test_adjusted_shares_stand_beside_the_raw_ones(tmp_path):
    true = tuple(kind for kind in range(5) for _ in range(20))
    confusion = Confusion(FIVE_TYPES, true, (*true[:15], *(3,) * 5, *true[20:]), (1.0,) * 100)
    found = differential(LABELS, FIVE_TYPES).adjusted_for(confusion)
    text = write_report(tmp_path, slide(), Gallery(cells(LABELS)), found, FACTS).read_text()
    adjusted = found["neutrophil"].adjusted
    assert adjusted.share > 0.8 > found["neutrophil"].share
    assert f">{100 * adjusted.share:.1f} % ({100 * adjusted.low:.1f} % – {100 * adjusted.high:.1f} %)<" in text


def test_broader_types_and_cells_that_are_not_white_have_lines_of_their_own(tmp_path):
    found = from_counts({"segmented neutrophil": 70, "band neutrophil": 10, "erythroblast": 4}, WBC11.classes)
    page = Page(write_report(tmp_path, slide(), Gallery(()), found, FACTS).read_text())
    words = " ".join(" ".join(page.text).split())
    (beside, _), interval = found.beside, f"({found.beside[0].low:.1f} – {found.beside[0].high:.1f})"
    assert "80 white blood cells found, 80 classified" in words
    assert "neutrophil 80 100.0 %" in words
    assert f"{beside.label} 4 5.0 per 100 white cells {interval}, not included in percentages" in words


def test_shares_and_intervals_are_those_of_the_differential(tmp_path):
    text, _ = report(tmp_path, LABELS)
    for share in differential(LABELS, FIVE_TYPES).shares:
        row = re.search(rf"</span>{share.label}</th>(.*?)</tr>", text, re.DOTALL)[1]
        low, high = 100 * share.low, 100 * share.high
        assert f">{share.count}<" in row
        assert f">{100 * share.share:.1f} %<" in row
        assert f">{low:.1f} % – {high:.1f} %<" in row


def test_the_gallery_is_sorted_and_spans_from_sure_to_unsure(tmp_path):
    _, page = report(tmp_path, LABELS)
    shown = [int(text.removesuffix("%")) for text in page.captions]
    sizes = [SHOWN_PER_TYPE, SHOWN_PER_TYPE, 5, 3]
    assert len(shown) == sum(sizes)
    confidences = [(37 * number % 100) for number in range(60)]
    neutrophils = shown[:SHOWN_PER_TYPE]
    assert (neutrophils[0], neutrophils[-1]) == (max(confidences), min(confidences))
    for start, size in zip(np.cumsum([0, *sizes[:-1]]), sizes, strict=True):
        assert shown[start : start + size] == sorted(shown[start : start + size], reverse=True)


def test_every_picture_is_inside_the_page(tmp_path):
    text, page = report(tmp_path, LABELS)
    assert len(page.images) == 1 + 2 * SHOWN_PER_TYPE + 5 + 3
    for uri in page.images:
        kind, data = uri.split(",", 1)
        assert kind == "data:image/jpeg;base64"
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert abs(int(picture.mean()) - 230) < 30
    body = text.split("</style>")[1].split("<script")[0]
    assert not re.search(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:)[\w/.]", body)
    assert all(link.startswith("#cell-") for link in page.links if link != "#overview")
    assert page.runs_only_what_it_allows()


def test_a_picture_shows_where_its_type_was_read_from(tmp_path):
    beside = np.zeros((16, 16), np.uint8)
    beside[:, 8:] = 255
    known = [replace(cell, evidence=beside.ravel(), on_cell=-0.25) for cell in cells(["monocyte"])]
    write_report(tmp_path, slide(), Gallery(known), differential(["monocyte"], FIVE_TYPES), FACTS)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "evidence on the cell -0.25" in text
    (uri,) = re.findall(r'<img class="map" src="data:image/jpeg;base64,([^"]+)"', text)
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(uri), np.uint8), cv2.IMREAD_GRAYSCALE).astype(int)
    side = picture.shape[1] // 2
    assert picture[:, side + 4 :].mean() > picture[:, : side - 4].mean() + 40


def test_every_cell_is_ringed_in_the_overview(tmp_path):
    text, _ = report(tmp_path, LABELS)
    paths = re.findall(r'<path d="(M[^"]*)" stroke="#fff"', text)
    assert [path.count("M") for path in paths] == [60, 25, 5, 3]
    first = next(iter(cells(LABELS)))
    xs = [float(x) for x in re.findall(r"M(-?[\d.]+) ", "".join(paths))]
    ys = [float(y) for y in re.findall(r"M-?[\d.]+ (-?[\d.]+)", "".join(paths))]
    assert min(abs(y - first.centroid[0]) for y in ys) < 0.1
    assert len(xs) == len(LABELS)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "{{ 7*7 }} & Söhne"])
def test_names_from_files_cannot_become_markup(tmp_path, name):
    hostile = Lineage(name, name, name, name, name, name)
    _, page = report(tmp_path, LABELS, name, hostile)
    assert page.runs_only_what_it_allows()
    assert all(uri.startswith("data:") for uri in page.images)
    assert name in page.text


def test_a_calibration_is_named_beside_the_model_and_only_there_if_it_took_place(tmp_path):
    done = "a bias per type, fitted to 20 reviewed cells; original abcd"
    assert done in report(tmp_path / "calibrated", LABELS, calibrated=done)[0]
    assert "Calibration" not in report(tmp_path / "plain", LABELS)[0]


def test_the_folder_of_the_slide_stays_private(tmp_path):
    assert "somebody" not in report(tmp_path, LABELS)[0]


def test_a_slide_without_cells_has_a_report_that_says_so(tmp_path):
    _, page = report(tmp_path, [])
    assert "No white blood cell was found." in page.text
    assert len(page.images) == 1


def test_the_same_input_gives_the_same_bytes(tmp_path):
    assert report(tmp_path / "a", LABELS)[0] == report(tmp_path / "b", LABELS)[0]
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["report.html"]


def test_cells_outside_the_usable_area_are_shown_apart(tmp_path):
    rows = [replace(row, area="thick", counted=False) if n < 4 else row for n, row in enumerate(cells(LABELS))]
    found = differential([row.label for row in rows if row.counted], FIVE_TYPES, excluded=4)
    text = write_report(tmp_path, slide(), Gallery(rows), found, slide_facts(slide().source.ref, LINEAGE)).read_text(
        encoding="utf-8"
    )
    words = " ".join(Page(text).text)
    assert "93 white blood cells found, 86 classified, 3 unidentified, 4 outside the usable area" in words
    paths = re.findall(r'<path d="(M[^"]*)" stroke="#fff"', text)
    assert [path.count("M") for path in paths] == [56, 25, 5, 3, 4]
    assert text.count("µm², neutrophil, thick") == 2 * 4
    assert OUTSIDE in words
    assert re.findall(r'id="key\d"( checked)?>', text) == [" checked"] * 4 + [""]


def test_of_very_many_cells_some_are_ringed_and_it_is_said_how_many_are_not(tmp_path):
    labels = ["neutrophil"] * (DRAWN + 1234) + ["monocyte"] * 2
    text, page = report(tmp_path / "a", labels)
    paths = re.findall(r'<path d="(M[^"]*)" stroke="#fff"', text)
    assert [path.count("M") for path in paths] == [DRAWN, 2]
    assert "neutrophil: 5,000 cells, chosen at random, are ringed; 1,234 are not shown." in " ".join(page.text)
    assert [picture.strip("%") for picture in page.captions][:1] == ["99"]
    left = sum(float(x) < 500 for x in re.findall(r"M(-?[\d.]+) ", paths[0]))
    assert left / DRAWN == pytest.approx(0.5, abs=0.03)


def test_the_order_of_the_cells_does_not_matter(tmp_path):
    rows = list(cells(["neutrophil"] * (DRAWN + 100)))
    found = differential([row.label for row in rows], FIVE_TYPES)
    one = write_report(
        tmp_path / "a", slide(), Gallery(rows), found, slide_facts(slide().source.ref, LINEAGE)
    ).read_bytes()
    random.Random(1).shuffle(rows)
    assert (
        write_report(
            tmp_path / "b", slide(), Gallery(iter(rows)), found, slide_facts(slide().source.ref, LINEAGE)
        ).read_bytes()
        == one
    )


def test_a_manual_count_stands_beside_the_differential(tmp_path):
    manual = {"neutrophil": 60, "lymphocyte": 30, "monocyte": 0, "eosinophil": 10}
    text, _ = report(tmp_path, LABELS, manual=manual)
    rows = dict(re.findall(r'<th scope="row">(\w+)</th>(.*?)</tr>', text.split('id="manual"')[1], re.DOTALL))
    assert ">60<" in rows["neutrophil"]
    assert ">60.0 %<" in rows["neutrophil"]
    assert "49.7 % – 69.7 %" in rows["neutrophil"]
    assert "<td>agrees</td>" in rows["neutrophil"]
    assert "<td>differs</td>" in rows["eosinophil"]
    assert "manual" not in report(tmp_path, LABELS)[1].ids


def test_what_may_be_blasts_comes_before_the_differential(tmp_path):
    """A leukaemia read with a model of five types must not pass as a lymphocytosis."""
    above = ReferenceInterval("lymphocyte", Unit.PERCENT, (20.0, 45.0))
    found = from_counts({"neutrophil": 60, "lymphocyte": 330, "monocyte": 20}, FIVE_TYPES)
    found = replace(found, specimen=Specimen(intervals=(above,), reference="lab.toml"))
    words = " ".join(Page(write_report(tmp_path, slide(), Gallery(()), found, FACTS).read_text()).text)
    alert = "85.4 % lymphocytes and monocytes: they may be blasts, which this model does not recognise"
    mark = "above the reference 20 – 45: they may be blasts, which this model does not recognise"
    assert (
        words.index(alert)
        < words.index(mark)
        < words.index("This model does not recognise blasts")
        < words.index("Share")
    )
    assert found.to_dict()["alerts"] == [alert]
    known = from_counts({"neutrophil": 390, "blast": 10}, (*FIVE_TYPES, "blast"))
    words = " ".join(Page(write_report(tmp_path, slide(), Gallery(()), known, FACTS).read_text()).text)
    assert words.index("10 blast cells: 2.5 %, interval 1.2 % – 4.5 %") < words.index("Share")


def test_a_report_leads_back_to_its_batch_where_there_is_one(tmp_path):
    found = differential(LABELS, FIVE_TYPES)
    back = write_report(tmp_path, slide(), Gallery(()), found, FACTS, batch="../batch.html").read_text()
    assert "../batch.html" in Page(back).links
    assert "batch.html" not in report(tmp_path, LABELS)[0]
