"""No name that comes from a file, a list or a model changes what the pages consist of."""

from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest

from sgcldff.core.records import Lineage, ModelRef, SlideRef
from sgcldff.counting.agreement import compare
from sgcldff.counting.differential import from_counts
from sgcldff.inference.outputs import CellRow
from sgcldff.results.batch import SlideSummary, write_batch
from sgcldff.results.facts import slide_facts
from sgcldff.results.gallery import Gallery
from sgcldff.results.slide_page import write_report
from sgcldff.slides.scaled import ScaledSlide

ATTACKS = [
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    "</title><svg onload=alert(1)>",
    '" onmouseover="alert(1)',
    "' onerror='alert(1)' x='",
    "javascript:alert(1)",
    "<img src=http://127.0.0.1/x onerror=alert(1)>",
    "--><iframe src=javascript:alert(1)>",
    "{{ cycler.__init__.__globals__ }}{% raw %}",
    "&lt;b&gt; & \u2028 \u202e <b>",
    "url(javascript:alert(1));}*{background:red",
]
HARMLESS = "harmless"


class Skeleton(HTMLParser):
    """Collects tags with the names of their attributes, addresses, and the text of style sheets."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.styles, self.scripts = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, *sorted(name for name, _ in attrs)))
        self.addresses += [value for name, value in attrs if name in ("href", "src", "action", "xlink:href", "data")]

    def handle_data(self, data):
        if self.cdata_elem == "style":
            self.styles.append(data)
        if self.cdata_elem == "script":
            self.scripts.append(data)


def pages(folder, name):
    """Write report and page of a batch with a name in every place that is not ours."""
    pixels = np.full((400, 600, 3), 230, np.uint8)
    ref = SlideRef(name, f"/data/{name}.tiff", name, 0.1, (400, 600), 1)
    read = lambda box, level: pixels[box.clip((400, 600)).slices]  # noqa: E731
    source = SimpleNamespace(ref=ref, shapes=((400, 600),), downsamples=(1.0,), read=read)
    found, box = from_counts({name: 60, "b": 2}, (name, "b")), (80.0, 80.0, 120.0, 120.0)
    cell = CellRow(name, name, (100.0, 100.0), box, np.zeros((0, 2)), 140, 60, name, 0.9, (0.9, 0.1), area=name)
    agreements = compare(found, {name: 10, "b": 90})
    lineage = Lineage(name, name, name, name, name, name)
    report = write_report(
        folder / "slide", ScaledSlide(source, 0.2), Gallery([cell]), found, slide_facts(source.ref, lineage), agreements
    )
    model = ModelRef(name, name, name)
    done = SlideSummary(name, name, found=found, areas={"monolayer": 1.0}, model=model, agreements=agreements)
    batch = write_batch(folder, [done, SlideSummary(f"{name} 2", name, reason=name)])[1]
    return [Skeleton(path.read_text(encoding="utf-8")) for path in (report, batch)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return pages(tmp_path_factory.mktemp("harmless"), HARMLESS)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_hostile_name_adds_no_element_no_attribute_and_no_address(expected, tmp_path, name):
    for page, harmless in zip(pages(tmp_path, name), expected, strict=True):
        assert page.tags == harmless.tags
        assert page.scripts[1:] == harmless.scripts[1:], "the first holds data, which cannot end its element"
        assert not [attribute for _, *attributes in page.tags for attribute in attributes if attribute.startswith("on")]
        own = ("data:image/", "#cell-", "#overview")
        assert all(address.startswith(own) or address.endswith("/report.html") for address in page.addresses)
        assert not any("alert" in text for text in page.styles)


def test_the_pages_forbid_scripts_and_foreign_content(tmp_path):
    pages(tmp_path, HARMLESS)
    for path in (tmp_path / "slide" / "report.html", tmp_path / "batch.html"):
        assert "default-src 'none'; img-src data:" in path.read_text(encoding="utf-8")
