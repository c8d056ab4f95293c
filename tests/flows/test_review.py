"""Review from end to end: queue, page in a real browser, answers, store, differential; and what the terminal says."""

import csv
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from flows.review import review_apply, review_make, review_read
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import UNIDENTIFIED, Lineage
from sgcldff.results.review.answers import read_answers
from sgcldff.results.review.crops import FOLDER, crop_name, write_png
from sgcldff.results.review.page import write_page
from sgcldff.results.review.queue import QueuedCell, read_queue, write_queue
from sgcldff.results.review.selection import ReviewSelection

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
PATIENCE_S = 120
EVIL = "</script><img src=x onerror=\"window.hacked='yes'\"><script>window.hacked='yes'</script>"


class Page:
    """A page of a queue, open in Chromium, used as a person would."""

    def __init__(self, browser, downloads: Path) -> None:
        self.browser, self.downloads = browser, downloads

    def begin(self, queue: Path) -> None:
        """Open a queue's page in a browser that has seen none."""
        self.load(lambda: self.browser.get((queue / "review.html").as_uri()))
        self.wait(lambda: self.find("reviewer").is_displayed(), "the page asks for no name")

    def open(self, queue: Path, reviewer: str) -> "Page":
        """Open a queue's page for the first time and give a name."""
        self.begin(queue)
        self.find("reviewer").send_keys(reviewer)
        self.press("\ue007")
        return self

    def reload(self) -> None:
        """Load the page again."""
        self.load(self.browser.refresh)

    def load(self, go: Callable[[], None]) -> None:
        """Go to a page; what answers from now on is the new document, which the driver alone does not assure.

        Between the old one and the new an empty document may answer, complete as it is, or one that loads once more.
        """
        self.browser.execute_script("window.left = true")
        go()
        loaded = "return !window.left && document.readyState === 'complete' && !!window.count?.innerText"
        self.wait(lambda: self.browser.execute_script(loaded), "the page does not load")

    def wait(self, holds: Callable[[], Any], otherwise: str) -> None:
        """Wait until something holds, or fail with what is wrong otherwise."""
        for _ in range(20 * PATIENCE_S):
            if holds():
                return
            time.sleep(0.05)
        raise AssertionError(otherwise)

    def find(self, name: str):
        """Give an element by its id."""
        return self.browser.find_element("id", name)

    def text(self, name: str) -> str:
        """Give what an element shows."""
        return self.find(name).text

    def press(self, *keys: str) -> None:
        """Press keys wherever the focus is."""
        from selenium.webdriver.common.action_chains import ActionChains

        for key in keys:
            ActionChains(self.browser).send_keys(key).perform()

    def pressed(self) -> list[str]:
        """Name the answers that are shown as chosen."""
        return [
            button.get_attribute("data-label")
            for button in self.find("answers").find_elements("tag name", "button")
            if button.get_attribute("aria-pressed") == "true"
        ]

    def seen(self) -> str:
        """Name the picture that is shown, once it has loaded."""
        shown = "const i = document.getElementById('crop'); return i.complete && i.naturalWidth"
        self.wait(lambda: self.browser.execute_script(shown), "the picture does not load")
        return self.find("crop").get_attribute("src").rpartition("/")[2]

    def download(self) -> Path:
        """Download the answers."""
        place = self.downloads / "answers.csv"
        place.unlink(missing_ok=True)
        self.find("download").click()
        self.wait(lambda: place.exists() and place.stat().st_size, f"no download in {self.downloads}")
        return place


LEFT, RIGHT, BACKSPACE = "\ue012", "\ue014", "\ue003"


@pytest.fixture
def page(tmp_path):
    """Start headless Chromium for one test, since what a page stores outlives it; nothing is downloaded or reported."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    pytest.importorskip("selenium")
    os.environ["SE_AVOID_STATS"] = "true"
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    home = tmp_path / "browser"
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={home / 'profile'}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(home / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    (home / "downloads").mkdir(parents=True)
    driver = webdriver.Chrome(options=options, service=Service(executable_path=DRIVER))
    driver.set_page_load_timeout(PATIENCE_S)
    yield Page(driver, home / "downloads")
    driver.quit()


@pytest.fixture(scope="module")
def read(smear, read_as, tmp_path_factory):
    """Give a batch with a slide of which every third cell was told, all but the first rightly."""
    told = [cell.label if number % 3 == 0 else UNIDENTIFIED for number, cell in enumerate(smear.cells)]
    told[0] = next(label for label in FIVE_TYPES if label != told[0])
    return read_as(tmp_path_factory.mktemp("batch") / "results" / "smear", smear, told).parent


@pytest.fixture
def results(read, tmp_path):
    """Give a copy of the batch."""
    return Path(shutil.copytree(read, tmp_path / "results"))


@pytest.fixture(scope="module")
def queue(read, smear, server, tmp_path_factory):
    """Make a queue of all cells that are counted."""
    folder = tmp_path_factory.mktemp("queue") / "queue"
    review_make([str(read)], [str(smear.slide)], str(folder), ReviewSelection(sample=100))
    return folder


def truth_of(slide, cell) -> str:
    """Tell a cell's true type by its place."""
    return min(slide.cells, key=lambda one: abs(one.centroid[1] - cell.x) + abs(one.centroid[0] - cell.y)).label


def answers_in(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_person_reviews_by_keyboard_and_the_differential_follows(page, queue, results, smear, tmp_path):
    """End to end: every cell gets its true type, but for the third, which nobody can tell."""
    cells = {Path(cell.crop).name: cell for cell in read_queue(queue)}
    page.open(queue, "Dr. Önal")
    said = {}
    for number in range(len(cells)):
        cell = cells[page.seen()]
        label = "cannot tell" if number == 2 else truth_of(smear, cell)
        page.press("u" if number == 2 else str(FIVE_TYPES.index(label) + 1))
        said[cell.cell_id] = label
    assert len(said) == len(cells)
    assert page.find("done").is_displayed()
    answers = page.download()
    assert {row["cell_id"]: row["label"] for row in answers_in(answers)} == said
    assert {row["reviewer"] for row in answers_in(answers)} == {"Dr. Önal"}

    stored = review_read([str(answers)], str(queue), str(tmp_path / "store"))
    assert (stored.answers, stored.new, stored.skipped, stored.disputed) == (len(cells), len(cells), (), ())
    assert review_read([str(answers.parent)], str(queue), str(tmp_path / "store")).new == 0
    done = review_apply([str(results)], str(tmp_path / "store"))
    (applied,) = done.slides
    told = json.loads((results / "smear" / "differential.reviewed.json").read_text())
    counts = Counter(label for label in said.values() if label != "cannot tell")
    assert {share["label"]: share["count"] for share in told["shares"]} == {name: counts[name] for name in FIVE_TYPES}
    assert told["rejected"] == 1
    for share in told["shares"]:
        k, n = share["count"], counts.total()
        ends = beta.ppf(0.025, k, n - k + 1) if k else 0, beta.ppf(0.975, k + 1, n - k) if k < n else 1
        assert (share["low"], share["high"]) == pytest.approx(ends)
    was = {cell.cell_id: cell.label for cell in cells.values()}
    assert applied.tally.confirmed == sum(was[cell] == label for cell, label in said.items())
    assert applied.tally.named == sum(
        was[cell] == UNIDENTIFIED != label != "cannot tell" for cell, label in said.items()
    )
    assert applied.tally.changed >= 1
    assert applied.machine == applied.machine.from_dict(
        json.loads((results / "smear" / "differential.json").read_text())
    )


def test_going_back_and_answering_anew_takes_the_place_of_the_old_answer(page, queue):
    page.open(queue, "A")
    page.press("1", "2", LEFT)
    assert page.pressed() == ["eosinophil"]
    page.press(BACKSPACE)
    assert page.pressed() == ["neutrophil"]
    page.press("5")
    assert page.pressed() == ["eosinophil"]
    page.press(RIGHT, RIGHT)
    assert "Cell 4 of" in page.text("position")
    page.press("n", "u")
    assert page.text("count").startswith("3 of")
    labels = [row["label"] for row in answers_in(page.download())]
    assert labels == ["monocyte", "eosinophil", "cannot tell"]


def test_a_reload_loses_nothing_and_goes_on_at_the_first_open_cell(page, queue):
    page.open(queue, "Ana Lima")
    page.press("3", "4")
    before = answers_in(page.download())
    page.reload()
    assert page.text("name") == "Ana Lima"
    assert page.text("count").startswith("2 of")
    assert "Cell 3 of" in page.text("position")
    assert answers_in(page.download()) == before
    assert all(row["reviewed_at"].endswith("Z") for row in before)


STORE_EMPTY_AT_FIRST = """
if (window.name !== "loaded before") {
  window.name = "loaded before";
  Storage.prototype.getItem = () => null;
  Storage.prototype.setItem = () => {};
}
"""


def test_answers_survive_a_browser_that_shows_an_empty_store_at_first(page, queue):
    page.open(queue, "Ana Lima")
    page.press("3", "4")
    page.browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": STORE_EMPTY_AT_FIRST})
    page.reload()
    assert page.text("name") == "Ana Lima"
    assert page.text("count").startswith("2 of")


def test_answers_that_were_cleared_away_are_not_waited_for(page, queue):
    page.open(queue, "Ana Lima")
    page.press("3")
    page.browser.execute_script("localStorage.clear()")
    page.reload()
    assert page.find("reviewer").is_displayed()
    assert page.text("count").startswith("0 of")


def test_cells_are_answered_by_click_too(page, queue):
    page.open(queue, "A")
    buttons = page.find("answers").find_elements("tag name", "button")
    assert [button.text.split("\n")[-1] for button in buttons] == [*FIVE_TYPES, "cannot tell"]
    buttons[1].click()
    page.find("back").click()
    assert page.pressed() == ["eosinophil"]


def test_keys_that_mean_nothing_and_keys_in_the_name_answer_nothing(page, queue):
    page.open(queue, "Dr. 3u5")
    assert page.text("name") == "Dr. 3u5"
    page.press("7", "0", "x")
    assert page.text("count").startswith("0 of")
    assert not page.find("download").is_enabled()


def test_a_name_is_asked_for_before_anything_else(page, queue):
    page.begin(queue)
    page.find("reviewer").send_keys("   ")
    page.press("\ue007")
    assert page.find("start").is_displayed()
    page.press("\ue00c", "\ue00c", "1")
    assert page.text("count").startswith("0 of")


def test_answers_belong_to_who_gave_them(page, queue):
    page.open(queue, "A")
    page.press("1", "1")
    page.find("change").click()
    page.find("reviewer").clear()
    page.find("reviewer").send_keys("B\ue007")
    assert page.text("count").startswith("0 of")
    page.press("2")
    assert [row["reviewer"] for row in answers_in(page.download())] == ["B"]
    page.find("change").click()
    page.find("take").click()
    page.find("reviewer").clear()
    page.find("reviewer").send_keys("Bo\ue007")
    assert [(row["reviewer"], row["label"]) for row in answers_in(page.download())] == [("Bo", "eosinophil")]


def test_what_the_model_thinks_is_hidden_until_it_is_asked_for(page, queue):
    page.open(queue, "A")
    assert "%" not in page.text("answers")
    assert not page.find("predicted").is_displayed()
    page.press("g")
    assert page.text("answers").count("%") == 5
    assert page.find("predicted").is_displayed()
    page.press("g")
    assert "%" not in page.text("answers")


def test_the_page_loads_nothing_but_its_pictures(page, queue):
    page.open(queue, "A")
    page.seen()
    loaded = page.browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(address.startswith((queue / FOLDER).as_uri()) for address in loaded), loaded
    complaints = [entry for entry in page.browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not complaints


def test_everything_a_person_uses_has_a_name_and_can_be_reached(page, queue):
    page.open(queue, "A")
    for element in page.browser.find_elements("css selector", "main button, header button"):
        assert element.accessible_name
    assert page.find("answers").aria_role == "group"
    assert page.find("bar").accessible_name == "Cells answered"
    assert page.find("crop").accessible_name.startswith("Cell 1 of")
    reached = set()
    for _ in range(20):
        page.press("\ue004")
        reached.add(page.browser.switch_to.active_element.accessible_name)
    assert any("monocyte" in name for name in reached)
    assert any("Next" in name for name in reached)


@pytest.fixture
def hostile(tmp_path):
    """Make a queue in which every text is an attack."""
    folder = tmp_path / "hostile"
    lineage = Lineage("ab" * 32, EVIL, EVIL, EVIL, EVIL, EVIL)
    names = [EVIL, '"; alert(1) //', "__proto__", "a,b \"c\" 'd'", "=1+1"]
    classes = (EVIL, "constructor", "b\u2028c")
    cells = [
        QueuedCell(
            name,
            EVIL,
            1,
            1,
            1,
            1,
            f"{FOLDER}/{crop_name(lineage.slide_sha256, name)}",
            0.1,
            True,
            "label",
            EVIL,
            0.4,
            (0.2, 0.4, 0.4),
            classes,
            lineage,
        )
        for name in names
    ]
    for cell in cells:
        write_png(folder / cell.crop, np.full((64, 64, 3), 200, np.uint8))
    write_queue(folder, cells)
    write_page(folder, cells)
    return folder


def test_hostile_names_run_no_script_and_come_back_as_they_were(page, hostile):
    page.open(hostile, EVIL)
    page.press("g")
    for key in "123u1":
        page.seen()
        assert page.text("slide") == EVIL
        page.press(key)
    page.reload()
    assert page.browser.execute_script("return typeof window.hacked") == "undefined"
    assert page.text("name") == EVIL[:80]
    assert page.find("answers").find_elements("tag name", "button")[0].text.endswith(EVIL)
    cells = read_queue(hostile)
    answers = read_answers([page.download()], hostile, cells)
    assert not answers.set_aside
    said = {answer.review.cell_id: answer.review.label for answer in answers.usable}
    assert list(said) == [cell.cell_id for cell in cells]
    assert list(said.values()) == [EVIL, "constructor", "b\u2028c", "cannot tell", EVIL]


def test_a_slide_that_is_gone_is_set_aside_and_the_rest_goes_on(results, smear, read_as, server, tmp_path):
    read_as(results / "other", smear, [UNIDENTIFIED] * len(smear.cells))
    summary = results / "other" / "summary.json"
    summary.write_text(summary.read_text().replace("smear.tiff", "gone.tiff"))
    made = review_make([str(results)], [str(smear.slide)], str(tmp_path / "queue"))
    assert (made.slides, len(made.skipped)) == (1, 1)
    assert "gone.tiff is not among the slides given" in made.skipped[0]
    assert {cell.slide_id for cell in read_queue(tmp_path / "queue")} == {"smear"}


def test_damaged_results_are_set_aside_when_differentials_are_counted_anew(queue, results, server, tmp_path):
    cell = read_queue(queue)[0]
    (tmp_path / "a.csv").write_text(
        f"cell_id,label,reviewer,reviewed_at\n{cell.cell_id},monocyte,A,2026-03-01T12:00:00Z\n"
    )
    review_read([str(tmp_path / "a.csv")], str(queue), str(tmp_path / "store"))
    shutil.copytree(results / "smear", results / "torn")
    (results / "torn" / "cells.parquet").write_bytes(b"PAR1")
    done = review_apply([str(results)], str(tmp_path / "store"))
    assert [one.slide_id for one in done.slides] == ["smear"]
    assert len(done.skipped) == 1
    assert "torn" in done.skipped[0]
