"""The page of an evaluation says what report and predictions say, and nothing that comes from files becomes markup."""

import base64
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sgcldff.core.records import Sample
from sgcldff.evaluation import EvalReport, SkippedImage
from sgcldff.evaluation.metrics import TypePredictions, calibration_error, reliability
from sgcldff.evaluation.page import ERRORS, write_evaluation_page
from sgcldff.evaluation.predictions import Predictions, tabulate
from sgcldff.evaluation.report import score
from tests.browser import complaints
from tests.sgcldff.evaluation.painted import QUICK


def mistaken(report: EvalReport, samples: tuple[Sample, ...]) -> tuple[EvalReport, tuple[Sample, ...]]:
    """Label three images otherwise than they were painted, so that the model errs on them."""
    assert report.predictions is not None
    swapped = {samples[0].id: "monocyte", samples[4].id: "basophil", samples[10].id: "basophil"}
    rows = [row | {"label": swapped.get(row["id"], row["label"])} for row in report.predictions.table.to_pylist()]
    predictions = tabulate(rows, report.predictions.classes, report.model)
    return score(predictions, report.labels, QUICK), samples


def words(page: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", page.partition("</style>")[2])).split())


def test_a_page_shows_scores_confusion_and_errors(
    report: EvalReport, painted: tuple[Sample, ...], tmp_path: Path
) -> None:
    wrong, samples = mistaken(report, painted)
    page = write_evaluation_page(tmp_path, wrong, samples).read_text(encoding="utf-8")
    text = words(page)
    assert wrong.pooled.accuracy is not None
    assert f"accuracy {wrong.pooled.accuracy.value:.3f}" in text
    labels = [one.label for one in wrong.pooled.classes]
    for label, row in zip(labels, wrong.pooled.confusion, strict=True):
        shown = re.search(rf'<th scope="row">{label} <span.*?</span></th>(.*?)</tr>', page)
        assert shown is not None
        cells = re.findall(r'<td class="(.*?)" style="--share: ([\d.]+)">(\d*)', shown[1])
        assert [int(number or 0) for *_, number in cells] == list(row)
        assert [float(share) for _, share, _ in cells] == pytest.approx([n / max(1, sum(row)) for n in row], abs=1e-3)
        assert [name.startswith("hit") for name, *_ in cells] == [other == label for other in labels]
    assert "3 of 3 images with a wrong type" in text
    assert page.count("<figcaption>") == 3
    assert "labelled monocyte predicted neutrophil" in text
    assert "script" not in page


def test_errors_come_with_their_pictures_the_most_confident_first(
    report: EvalReport, painted: tuple[Sample, ...], tmp_path: Path
) -> None:
    wrong, samples = mistaken(report, painted)
    Path(samples[4].image).rename(tmp_path / "moved.png")
    page = write_evaluation_page(tmp_path, wrong, samples).read_text(encoding="utf-8")
    (tmp_path / "moved.png").rename(samples[4].image)
    gallery = page.partition('<div class="gallery">')[2].partition("</section>")[0]
    sure = [float(share) for share in re.findall(r"([\d.]+) %<br>", gallery)]
    assert sure == sorted(sure, reverse=True)
    assert gallery.count('<div class="none">') == 1, "an image that is gone leaves a gap, and no error"
    for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', gallery):
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        middle = picture[picture.shape[0] // 2 - 3 :, picture.shape[1] // 2 - 3 :][:6, :6]
        assert np.ptp(picture.reshape(-1, 3).astype(int), axis=0).max() > 60
        assert middle.mean() < picture.mean(), "the cell, darker than its surroundings, is in the middle"


def test_reliability_compares_confidence_with_what_is_correct() -> None:
    confidence = np.array([0.05, 0.61, 0.69, 0.95, 1.0, 0.7])
    types = TypePredictions(("a", "b"), np.array([0, 0, 1, 1, 0, 0]), np.array([0, 0, 0, 1, 0, 1]), confidence)
    bins = reliability(confidence, types.true == types.predicted, 10)
    assert [(one.low, one.images) for one in bins] == [(0.0, 1), (0.6, 3), (0.9, 2)]
    assert bins[1].confidence == pytest.approx((0.61 + 0.69 + 0.7) / 3)
    assert [one.correct for one in bins] == pytest.approx([1, 1 / 3, 1])
    gap = sum(one.images * abs(one.confidence - one.correct) for one in bins) / len(confidence)
    assert gap == pytest.approx(calibration_error(types, 10)(np.ones((1, 6)))[0, 0])


def test_the_gallery_is_bounded(report: EvalReport, painted: tuple[Sample, ...], tmp_path: Path) -> None:
    assert report.predictions is not None
    (row, *_), many = report.predictions.table.to_pylist(), ERRORS + 7
    rows = [row | {"id": f"set/{n}", "group": str(n), "label": "monocyte", "told": "basophil"} for n in range(many)]
    predictions = tabulate(rows, report.predictions.classes, report.model)
    page = write_evaluation_page(tmp_path, score(predictions, report.labels, QUICK), ()).read_text()
    assert page.count("<figure>") == ERRORS
    assert f"{ERRORS} of {many} images with a wrong type" in words(page)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style>{{ 7*7 }}"])
def test_names_from_files_cannot_become_markup(
    report: EvalReport, painted: tuple[Sample, ...], tmp_path: Path, name: str
) -> None:
    wrong, _ = mistaken(report, painted)
    assert wrong.predictions is not None
    rows = [row | {"id": f"{name}{n}"} for n, row in enumerate(wrong.predictions.table.to_pylist())]
    named: Predictions = tabulate(rows, wrong.predictions.classes, name)
    hostile = replace(score(named, report.labels, QUICK), skipped=(SkippedImage(name, name),), calibrated=name)
    page = write_evaluation_page(tmp_path, hostile, ()).read_text(encoding="utf-8")
    assert name not in page
    assert unescape(page).count(name) >= 5
    assert "default-src 'none'; img-src data:; style-src 'unsafe-inline'\">" in page


def test_a_report_without_labels_has_a_page(report: EvalReport, tmp_path: Path) -> None:
    assert report.predictions is not None
    rows = [row | {"label": None} for row in report.predictions.table.to_pylist()]
    page = write_evaluation_page(
        tmp_path, score(tabulate(rows, report.predictions.classes, "m"), report.labels, QUICK), ()
    ).read_text()
    assert 'id="scores"' in page
    assert 'id="types"' not in page


@pytest.mark.slow
def test_the_page_fits_a_phone_and_its_pictures_load(
    report: EvalReport, painted: tuple[Sample, ...], tmp_path: Path, browser: tuple[Any, Path]
) -> None:
    wrong, samples = mistaken(report, painted)
    driver, _ = browser
    phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    driver.get(write_evaluation_page(tmp_path, wrong, samples).as_uri())
    assert driver.execute_script("return [innerWidth, document.documentElement.scrollWidth]") == [390, 390]
    assert all(driver.execute_script("return [...document.images].map((image) => image.naturalWidth > 0)"))
    assert len(driver.find_elements("css selector", "#errors img[alt]")) == 3
    coloured = "return getComputedStyle(document.querySelector('.confusion .hit')).backgroundColor"
    assert driver.execute_script(coloured) not in ("", "rgba(0, 0, 0, 0)")
    assert complaints(driver) == []
