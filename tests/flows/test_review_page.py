"""The page of a review: what it asks, shows and loads, and hostile names."""

import numpy as np
import pytest

from sgcldff.core.labels import WBC11
from sgcldff.core.records import Lineage
from sgcldff.results.review.answers import read_answers
from sgcldff.results.review.crops import CROPS_FOLDER, crop_name, write_png
from sgcldff.results.review.page import write_page
from sgcldff.results.review.queue import QueuedCell, read_queue, write_queue
from tests.flows.review_page import answers_in

EVIL = "</script><img src=x onerror=\"window.hacked='yes'\"><script>window.hacked='yes'</script>"


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


def test_what_is_none_of_the_models_types_is_said_by_letter_or_in_words(page, queue):
    page.open(queue, "A")
    page.press(*"aspbie", "o")
    page.find("word").send_keys(" Hairy  Cell 3u\ue007")
    labels = ["no white cell", "smudge cell", "platelet", "blast", "immature granulocyte", "erythroblast"]
    answers = page.download()
    assert [row["label"] for row in answers_in(answers)] == [*labels, "other: hairy cell 3u"]
    page.press("\ue012", "o")
    assert page.find("word").get_attribute("value") == "hairy cell 3u"
    page.press("\ue00c")
    assert page.text("count").startswith("7 of")
    assert not read_answers([answers], queue, read_queue(queue)).set_aside


def test_the_page_loads_nothing_but_its_pictures(page, queue):
    page.open(queue, "A")
    page.seen()
    loaded = page.browser.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert all(address.startswith((queue / CROPS_FOLDER).as_uri()) for address in loaded), loaded
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


def queue_in(folder, texts, classes, names):
    """Make a queue of grey cells, every text of which is the same."""
    lineage = Lineage("ab" * 32, *[texts] * 5)
    cells = [
        QueuedCell(
            name,
            texts,
            1,
            1,
            1,
            1,
            f"{CROPS_FOLDER}/{crop_name(lineage.slide_sha256, name)}",
            0.1,
            True,
            "label",
            classes[0],
            0.4,
            (1 / len(classes),) * len(classes),
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


def test_a_type_whose_subtype_is_unclear_is_answered_by_letter(page, tmp_path):
    queue = queue_in(tmp_path / "fine", "smear", WBC11.classes, ["a", "b", "c"])
    page.open(queue, "A")
    page.press("t", "m", "2")
    answers = page.download()
    assert [row["label"] for row in answers_in(answers)] == ["neutrophil", "immature granulocyte", "band neutrophil"]
    assert "neutrophil, subtype unclear" in page.text("answers")
    assert not read_answers([answers], queue, read_queue(queue)).set_aside


@pytest.fixture
def hostile(tmp_path):
    """Make a queue in which every text is an attack."""
    names = [EVIL, '"; alert(1) //', "__proto__", "a,b \"c\" 'd'", "=1+1"]
    return queue_in(tmp_path / "hostile", EVIL, (EVIL, "constructor", "b\u2028c"), names)


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
