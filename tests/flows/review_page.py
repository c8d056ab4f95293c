"""A browser that shows the page of a review."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.browser import wait


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
        wait(holds, otherwise)

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


def answers_in(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
