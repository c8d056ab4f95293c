"""The page of a batch in a real browser: what needs review comes first, with a way to its report and back."""

import numpy as np
import pytest

from sgcldff.core.records import UNIDENTIFIED
from sgcldff.results.batch import write_batch
from tests.browser import chromium, complaints, wait
from tests.sgcldff.results.summaries import USUAL, aside, summary

pytestmark = pytest.mark.slow
NAMES = ["usual #1", "un identified & co", "unread"]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Write a batch: a slide without faults, one with many unidentified cells, and one that was skipped."""
    folder = tmp_path_factory.mktemp("batch")
    usual, unidentified = summary(NAMES[0]), summary(NAMES[1], counts=USUAL | {UNIDENTIFIED: 90})
    for slide in (usual, unidentified):
        (folder / slide.slide_id).mkdir()
        (folder / slide.slide_id / "report.html").write_text(f"<title>{slide.slide_id}</title>")
    _, path = write_batch(folder, [usual, aside(NAMES[2], "<b>damaged</b>"), unidentified])
    return path


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    for started, _ in chromium(tmp_path_factory.mktemp("browser")):
        yield started


@pytest.fixture
def browser(driver, page):
    complaints(driver)  # those of earlier tests
    driver.get(page.as_uri())
    yield driver
    driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def texts(browser, selector):
    return [element.text for element in browser.find_elements("css selector", selector)]


def test_what_needs_review_comes_first_and_says_why(browser):
    assert browser.title == texts(browser, "h1")[0] == "2 of 3 slides need review"
    assert texts(browser, "#look h3") == [NAMES[2], NAMES[1]], "the most urgent first"
    assert texts(browser, "#look li") == ["skipped: <b>damaged</b>", "15.3 % of the cells are unidentified"]
    assert texts(browser, "#others tbody th") == [NAMES[0]]
    assert complaints(browser) == []


@pytest.mark.parametrize("name", NAMES[:2])
def test_links_lead_to_reports_whatever_the_slide_is_called(browser, name):
    browser.find_element("link text", name).click()
    wait(lambda: browser.title == name, "the report does not open")
    browser.back()
    wait(lambda: browser.title.endswith("need review"), "back does not lead to the batch")
    assert complaints(browser) == []


def test_bars_are_as_long_as_the_shares_and_named(browser):
    bar = browser.find_element("css selector", "#others .stack")
    widths = [part.rect["width"] for part in bar.find_elements("css selector", "rect:not(.track)")]
    cells = [count for count in USUAL.values() if count]
    assert np.array(widths) / bar.rect["width"] == pytest.approx(np.array(cells) / sum(cells), abs=0.01)
    assert all(image.accessible_name for image in browser.find_elements("css selector", "main img, main svg[role=img]"))


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_phone_shows_all_without_scrolling_sideways(browser, page, width):
    metrics = {"width": width, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(page.as_uri())
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    assert all(element.is_displayed() for element in browser.find_elements("css selector", "h2, h3, li"))
