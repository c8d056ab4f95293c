"""Review from end to end: queue, page in a real browser, answers, store, differential; and what the terminal says."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from scipy.stats import beta

from flows.review import review_apply, review_make, review_read
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import UNIDENTIFIED
from sgcldff.results.review.queue import read_queue
from tests.flows.review_page import answers_in

LEFT, RIGHT, BACKSPACE = "\ue012", "\ue014", "\ue003"


def truth_of(slide, cell) -> str:
    """Tell a cell's true type by its place."""
    return min(slide.cells, key=lambda one: abs(one.centroid[1] - cell.x) + abs(one.centroid[0] - cell.y)).label


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
    assert applied.outcomes.confirmed == sum(was[cell] == label for cell, label in said.items())
    assert applied.outcomes.named == sum(
        was[cell] == UNIDENTIFIED != label != "cannot tell" for cell, label in said.items()
    )
    assert applied.outcomes.changed >= 1
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


def test_a_slide_that_is_gone_is_set_aside_and_the_rest_goes_on(results, smear, read_as, server, tmp_path):
    read_as(results / "other", smear, [UNIDENTIFIED] * len(smear.cells))
    summary = results / "other" / "summary.json"
    write_json(summary, read_json(summary, "") | {"file": "gone.tiff"})
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
