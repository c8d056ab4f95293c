"""A report in a real browser: the map, its cells, their links and figures; by mouse, keys and on a phone."""

import shutil
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import cv2
import numpy as np
import pytest

from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import Lineage, SlideRef
from sgcldff.counting.differential import differential
from sgcldff.results.facts import slide_facts
from sgcldff.results.gallery import Gallery
from sgcldff.results.slide_page import copy_report, write_report
from sgcldff.slides.scaled import ScaledSlide
from tests.browser import chromium, complaints, wait
from tests.sgcldff.results.reports import PaintedSlide, cell_at

pytestmark = pytest.mark.slow
PLACES = [(400.0 + 500 * (n // 4), 300.0 + 1300 * (n % 4)) for n in range(8)]
KEYS = SimpleNamespace(tab="\ue004", enter="\ue007", right="\ue014")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write the report of a slide of 4,600 px with eight cells, neutrophils and lymphocytes in turn."""
    pixels = np.full((1400, 4600, 3), (235, 230, 232), np.uint8)
    cells = []
    for number, (y, x) in enumerate(PLACES):
        cv2.circle(pixels, (round(x), round(y)), 30, (120, 60, 160), -1)
        label = FIVE_TYPES[3 * (number % 2)]
        cells.append(cell_at(f"slide & co/{number}", (y, x), label, 0.95 - 0.05 * number))
    ref = SlideRef("slide & co", "/slide.tiff", "ab" * 32, 0.2, (1400, 4600), 1)
    found = differential([cell.label for cell in cells], FIVE_TYPES)
    facts = slide_facts(ref, Lineage("ab" * 32, "sgcldff", "3", "cd" * 8, "ef" * 8, "0.1.0"))
    place = tmp_path_factory.mktemp("results") / "slide"
    write_report(place, ScaledSlide(PaintedSlide(ref, pixels), 0.2), Gallery(cells), found, facts)
    return place


class Report:
    """A report, open in Chromium."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, folder, fragment=""):
        self.driver.get("about:blank")
        self.driver.get((folder / "report.html").as_uri() + fragment)
        return self

    def run(self, script):
        return self.driver.execute_script(script)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def gallery(self):
        return self.driver.find_elements("css selector", "#gallery a")

    def figures(self):
        """Give what the panel says of the cell that is selected: names and values."""
        pairs = self.run(
            "return part('cell').hidden ? [] : [...part('figures').children].map((one) => one.textContent)"
        )
        return dict(zip(pairs[::2], pairs[1::2], strict=True))

    def address(self):
        return unquote(urlsplit(self.driver.current_url).fragment)

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.driver).send_keys(key).perform()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    """Start one browser for all tests, since the page stores nothing; its reader wants no motion."""
    for started, _ in chromium(tmp_path_factory.mktemp("browser")):
        calm = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
        started.execute_cdp_cmd("Emulation.setEmulatedMedia", calm)
        yield started


@pytest.fixture
def report(driver):
    complaints(driver)  # those of earlier tests
    yield Report(driver)
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_cell_of_the_gallery_is_shown_at_full_sharpness_with_its_outlines_and_figures(report, folder):
    report.open(folder).gallery()[1].click()
    assert report.address() == "cell-slide & co/2"
    assert report.find("#cell-name").text == "neutrophil"
    shown = report.figures()
    assert shown["Confidence"] == "85.0 %"
    assert (shown["Area"], shown["Nucleus"], shown["N:C ratio"]) == ("140 µm²", "35 µm²", "0.33")
    assert shown["Position"] == "x 2900, y 400 px"
    chances = report.find("#probabilities").text.splitlines()
    assert [line.split() for line in chances[1:3]] == [["neutrophil", "85.0", "%"], ["eosinophil", "3.8", "%"]]
    loaded = "return [...document.querySelectorAll('.leaflet-tile')].filter((tile) => tile.naturalWidth === 256).length"
    wait(lambda: report.run(loaded) >= 1, "no tile is shown")
    assert report.run("const at = map.getCenter(); return [Math.round(-at.lat), Math.round(at.lng)]") == [400, 2900]
    near = report.run("return [outlines, nuclei].map((group) => group.getLayers().map((layer) => layer.cell.id))")
    assert all("slide & co/2" in ids for ids in near)
    bounds = report.run(
        "const box = outlines.getLayers().find((layer) => layer.cell.id === 'slide & co/2').getBounds();"
        "return [-box.getNorth(), box.getWest(), -box.getSouth(), box.getEast()]"
    )
    assert bounds == pytest.approx([370, 2870, 430, 2930], abs=1.5)
    assert complaints(report.driver) == []


def test_outlines_can_be_hidden_and_rings_take_their_place(report, folder):
    report.open(folder, "#cell-slide%20%26%20co%2F0")
    report.find("#outlines").click()
    assert report.run("return [outlines, nuclei].map((group) => group.getLayers().length)")[0] == 0
    assert report.run("return rings.getLayers().map((layer) => layer.cell.id)") == ["slide & co/0"], "what is in view"
    report.find("#nuclei").click()
    assert report.run("return nuclei.getLayers().length") == 0


def test_a_link_opens_the_page_at_its_cell_and_back_leads_to_the_one_before(report, folder):
    report.open(folder, "#cell-slide%20%26%20co%2F7")
    assert report.figures()["Cell"] == "slide & co/7"
    assert report.run("return Math.round(map.getCenter().lng)") == round(PLACES[7][1])
    report.gallery()[0].click()
    assert report.figures()["Cell"] == "slide & co/0"
    report.driver.back()
    wait(lambda: report.figures()["Cell"] == "slide & co/7", "back does not lead to the cell before")
    assert report.open(folder, "#cell-%E0%A4%A").figures() == {}, "half a link is no error"
    assert complaints(report.driver) == []


def test_cells_are_filtered_by_type_and_confidence(report, folder):
    report.open(folder)
    assert report.find("#passing").text == "8 of 8 cells shown"
    report.find("#key2").click()
    assert report.find("#passing").text == "4 of 8 cells shown"
    shown = [link.get_attribute("href").rpartition("/")[2] for link in report.gallery() if link.is_displayed()]
    assert shown == ["0", "2", "4", "6"]
    titles = [title.text.partition(" ")[0] for title in report.driver.find_elements("css selector", "#gallery h3")]
    assert titles == ["neutrophil", ""], "no title without a picture"
    report.run("part('most').value = 80; part('most').dispatchEvent(new Event('input'))")
    assert report.run("return rings.getLayers().map((layer) => layer.cell.confidence)") == [0.75, 0.65]
    next(link for link in report.gallery() if link.is_displayed()).click()
    assert report.figures()["Confidence"] == "75.0 %", "the first picture is of one that passes"
    report.find("#next").click()
    assert report.figures()["Confidence"] == "65.0 %", "the next cell is one that passes"


def test_a_click_on_a_ring_selects_its_cell(report, folder):
    from selenium.webdriver.common.action_chains import ActionChains

    report.open(folder)
    x, y = report.run(
        "part('map').scrollIntoView(); const at = map.latLngToContainerPoint(place([400, 1600]));"
        "const box = part('map').getBoundingClientRect();"
        "return [Math.round(at.x - box.width / 2), Math.round(at.y - box.height / 2)]"
    )
    ActionChains(report.driver).move_to_element_with_offset(report.find("#map"), x, y).click().perform()
    wait(report.figures, "no cell is selected")
    assert report.figures()["Cell"] == "slide & co/1" == report.address().removeprefix("cell-")


def test_keys_suffice(report, folder):
    report.open(folder)
    report.run("document.querySelector('#gallery a').focus()")
    report.press(KEYS.enter)
    assert report.figures()["Cell"] == "slide & co/0"
    reached = []
    for _ in range(4):
        report.press(KEYS.tab)
        reached.append(report.driver.switch_to.active_element.text)
    assert reached == ["Previous", "Next", "Close", "Link to this cell"]
    report.run("part('map').focus()")
    zoom, across = report.run("return [map.getZoom(), map.getCenter().lng]")
    report.press(KEYS.right)
    wait(lambda: report.run("return map.getCenter().lng") > across, "arrow keys do not move the map")
    report.press("+")
    wait(lambda: report.run("return map.getZoom()") > zoom, "plus does not zoom")
    report.press("-", "-", "-", "-")
    wait(lambda: report.run("return map.getZoom()") < zoom, "minus does not zoom")


def test_everything_that_is_used_has_a_name(report, folder):
    report.open(folder, "#cell-slide%20%26%20co%2F0")
    for element in report.driver.find_elements("css selector", "button, input, a, #map, main img"):
        if element.is_displayed() and not element.get_attribute("class").startswith("leaflet-"):
            assert element.accessible_name, element.get_attribute("outerHTML")


def test_nothing_is_loaded_but_pictures_beside_the_page(report, folder):
    report.open(folder).gallery()[0].click()
    wait(lambda: report.run("return document.querySelector('img[src$=\"overview.jpg\"]').naturalWidth"), "no overview")
    addresses = report.run("return [...document.querySelectorAll('[src], link')].map((one) => one.src ?? one.href)")
    pictures = [address for address in addresses if not address.startswith("data:")]
    assert len(pictures) > 1
    assert all(address.startswith((folder / "report").as_uri()) for address in pictures)
    assert complaints(report.driver) == []


def test_the_page_alone_still_has_map_outlines_and_figures(report, folder, tmp_path):
    alone = tmp_path / "sent"
    alone.mkdir()
    shutil.copy(folder / "report.html", alone)
    report.open(alone).gallery()[0].click()
    wait(lambda: report.find("#lacking").is_displayed(), "nothing says that pictures are missing")
    assert report.figures()["Cell"] == "slide & co/0"
    assert report.run("return outlines.getLayers().map((layer) => layer.cell.id)") == ["slide & co/0"]
    assert report.run("return document.querySelectorAll('.leaflet-image-layer').length") == 1, "the overview inside"


def test_a_signed_copy_shows_the_same_pictures_and_leads_to_the_batch(report, folder):
    page = (folder / "report.html").read_text()
    back = '<p class="back"><a href="../batch.html">'
    (folder / "report.html").write_text(page.replace("<header>", f"<header>{back}All slides</a></p>", 1))
    (folder.parent / "batch.html").write_text("<title>The batch</title>")
    copy_report(folder, "signed/20300101T000000Z-abcdef01")
    (folder / "report.html").write_text(page)
    report.open(folder / "signed" / "20300101T000000Z-abcdef01").gallery()[0].click()
    loaded = "return [...document.querySelectorAll('.leaflet-tile')].filter((tile) => tile.naturalWidth === 256).length"
    wait(lambda: report.run(loaded) >= 1, "no tile is shown")
    assert not report.find("#lacking").is_displayed()
    report.find(".back a").click()
    wait(lambda: report.driver.title == "The batch", "the link does not lead to the batch")
    assert complaints(report.driver) == []


def test_a_slide_without_cells_has_a_map(report, folder, tmp_path):
    pixels = np.full((300, 400, 3), 230, np.uint8)
    ref = SlideRef("empty", "/empty.tiff", "ab" * 32, 0.2, (300, 400), 1)
    slide = ScaledSlide(PaintedSlide(ref, pixels), 0.2)
    write_report(tmp_path, slide, Gallery(), differential([], FIVE_TYPES), [("Slide", "empty")])
    report.open(tmp_path)
    assert report.find("#passing").text == "0 of 0 cells shown"
    assert report.run("return map.getZoom() > map.getMinZoom() - 1")
    assert complaints(report.driver) == []


def test_a_phone_shows_all_without_scrolling_sideways(report, folder):
    metrics = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    report.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    report.open(folder).gallery()[0].click()
    assert report.run("return [innerWidth, document.documentElement.scrollWidth]") == [390, 390]
    assert report.run("return part('map').getBoundingClientRect().width") > 320
    assert report.find("#cell").location["y"] > report.find("#map").location["y"], "the figures are below the map"


def test_without_scripts_the_overview_has_its_rings(report, folder):
    report.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    report.open(folder)
    assert report.find(".view img").is_displayed()
    assert not report.find("#map").is_displayed()
    assert not report.find(".filters").is_displayed()
