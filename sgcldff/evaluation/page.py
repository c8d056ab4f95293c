"""The page of an evaluation: scores, confusion of types, reliability, and the errors as a gallery, in one HTML file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sgcldff.core.arrays import Rgb
from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError
from sgcldff.core.geometry import Box
from sgcldff.core.records import Sample
from sgcldff.evaluation.bootstrap import FEWEST_GROUPS
from sgcldff.evaluation.metrics import ConfidenceBin, reliability
from sgcldff.evaluation.predictions import PREDICTED, Predictions
from sgcldff.evaluation.report import METRICS, PAGE_FILE, EvalReport, Scores, type_predictions
from sgcldff.models.training.examples import middle, read_scene
from sgcldff.results.gallery import CROP_UM
from sgcldff.results.html import data_uri, template

ERRORS = 60
"""Errors at most that the gallery shows."""
MAX_CROP_PX = 260
COUNTED = {"images": "images", "groups": "patients or slides", "typed": "with a label", "outlined": "with an outline"}
"""Fields of `Scores` that are counts, with the names shown to readers."""


@dataclass(frozen=True)
class WrongImage:
    """An image that was classified wrongly."""

    id: str
    true: str
    predicted: str
    confidence: float
    picture: str
    """A picture that stands inside the page; empty where the image cannot be read any more."""


def write_evaluation_page(folder: str | Path, report: EvalReport, samples: Sequence[Sample]) -> Path:
    """Write `report.html`, which loads nothing and runs nothing; names that come from files are escaped.

    Parameters
    ----------
    report
        With its predictions.
    samples
        The images scored, of which those of the most confident errors are read again.

    Returns
    -------
    Path
        The page.
    """
    parts = [report.pooled, *report.sources] if len(report.sources) > 1 else report.sources
    wrong = _wrong(report.predictions) if report.predictions else []
    by_id = {sample.id: sample for sample in samples}
    bins: list[ConfidenceBin] = []
    if report.predictions:
        types, _ = type_predictions(report.predictions)
        bins = reliability(types.confidence, types.true == types.predicted, report.spec.calibration_bins)
    page = template("evaluation.html").render(
        report=report,
        parts=parts,
        detailed=[part for part in parts if part.classes],
        counts=COUNTED,
        metrics=METRICS,
        fewest=FEWEST_GROUPS,
        heat=heat,
        bins=bins,
        wrong=len(wrong),
        errors=[
            WrongImage(name, true, predicted, confidence, _picture(by_id[name]) if name in by_id else "")
            for name, true, predicted, confidence in wrong[:ERRORS]
        ],
        crop_um=CROP_UM,
    )
    path = Path(folder) / PAGE_FILE
    with atomic_write(path) as draft:
        draft.write_text(page, encoding="utf-8")
    return path


def heat(part: Scores) -> list[tuple[str, int, list[tuple[int, float]]]]:
    """Return the rows of a confusion matrix: label, images, and for each predicted label images and share."""
    rows = zip(part.classes, part.confusion, strict=True)
    return [(one.label, sum(row), [(number, number / max(1, sum(row))) for number in row]) for one, row in rows]


def _wrong(predictions: Predictions) -> list[tuple[str, str, str, float]]:
    """List the images that were classified wrongly, most confident first: id, true and predicted label, confidence."""
    names = ("id", "label", PREDICTED)
    rows = zip(*(predictions.column(name) for name in names), predictions.numbers("confidence").tolist(), strict=True)
    wrong = [row for row in rows if row[1] is not None and row[1] != row[2]]
    return sorted(wrong, key=lambda row: (-row[3], row[0]))


def _picture(sample: Sample) -> str:
    """Cut the cell out of an image at the image's own scale; empty where it cannot be read any more."""
    try:
        scene = read_scene(sample, sample.mpp)
    except (InputError, OSError):
        return ""
    side = max(8, round(CROP_UM / sample.mpp))
    y, x = (round(at - side / 2) for at in (*scene.centres, middle(scene.rgb))[0])
    seen = _cut(scene.rgb, Box(y, x, y + side, x + side))
    if side > MAX_CROP_PX:
        seen = np.asarray(cv2.resize(seen, (MAX_CROP_PX, MAX_CROP_PX), interpolation=cv2.INTER_AREA), np.uint8)
    return data_uri(seen)


def _cut(rgb: Rgb, box: Box) -> Rgb:
    inside = box.clip((rgb.shape[0], rgb.shape[1]))
    seen = np.full((*box.shape, 3), 255, np.uint8)
    seen[inside.within(box).slices] = rgb[inside.slices]
    return seen
