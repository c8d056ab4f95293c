"""Headless Chromium, in which tests open pages as a person would; nothing is downloaded or reported."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

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


def chromium(home: Path) -> Iterator[tuple[Any, Path]]:
    """Start a browser whose profile is new; gives its driver and the folder of its downloads."""
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("needs Debian's packages chromium and chromium-driver")
    pytest.importorskip("selenium")
    os.environ["SE_AVOID_STATS"] = "true"
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={home / 'profile'}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(home / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    (home / "downloads").mkdir(parents=True)
    driver = webdriver.Chrome(options=options, service=Service(executable_path=DRIVER))
    driver.set_page_load_timeout(PATIENCE_S)
    yield driver, home / "downloads"
    driver.quit()


def wait(holds: Callable[[], Any], otherwise: str) -> None:
    """Wait until something holds, or fail with what is wrong otherwise."""
    for _ in range(20 * PATIENCE_S):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError(otherwise)


def complaints(driver: Any) -> list[str]:
    """Return the errors that the browser has noted."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
