"""What a model says of whole images, end to end: outlined at once, then typed from a crop about the cell it found."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import dist

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import InputError
from sgcldff.core.label_codes import BACKGROUND, NUCLEUS
from sgcldff.core.records import Sample
from sgcldff.inference.instances import find_cells
from sgcldff.models.model import Model, Output
from sgcldff.models.training.examples import Scene, View, middle
from sgcldff.saliency.priors import build

BATCH_PX = 262_144
"""Pixels that go through the network at once (16 crops of 128 px)."""
NEARLY_LARGEST = 0.8
"""Cells of at least this share of the largest one's area count as equally large."""


@dataclass(frozen=True)
class Crop:
    """The surroundings of the cell whose type is told; S is the model's `crop_px`."""

    rgb: Rgb
    """uint8, (S, S, 3)."""
    prior: NDArray[np.float32]
    """float32 in [0, 1], (P, S, S)."""
    labels: NDArray[np.uint8]
    """Outlines found in the whole image: 0 background, 1 cytoplasm, 2 nucleus; (S, S)."""
    target: NDArray[np.uint8]
    """Bits of the classes each pixel may have; (S, S). Only for scoring: the crop was placed without it."""


@dataclass(frozen=True)
class Reading:
    """One image as a model read it."""

    sample: Sample
    scene: Scene
    labels: NDArray[np.uint8]
    """0 background, 1 cytoplasm, 2 nucleus; (H, W)."""
    found: bool
    """Whether any cell was found; if not, the crop lies at the image's centre."""
    crop: Crop
    probabilities: NDArray[np.float32]
    """Of the types, (C,)."""
    evidence: NDArray[np.float32]
    """Where in the crop the type was read from; (S, S) in [0, 1]."""


def read(model: Model, images: Sequence[tuple[Sample, Scene]]) -> tuple[Reading, ...]:
    """Outline and type every image, in their order.

    The type is told of the largest cell found; among cells nearly as large (`NEARLY_LARGEST`), of the one nearest to
    the image's centre. The truth has no say in it.

    Raises
    ------
    InputError
        If the model answers with values that are not finite.
    """
    stack = build(model.spec.prior)
    priors = [stack(scene.rgb) for _, scene in images]
    outlined = _predict(model, [scene.rgb for _, scene in images], priors)
    labels = [answer.segmentation[0].argmax(axis=0).astype(np.uint8) for answer in outlined]
    centres = [_centre(found, model.spec.mpp) for found in labels]
    views = [
        window(centre or middle(scene.rgb), model.spec.crop_px)
        for centre, (_, scene) in zip(centres, images, strict=True)
    ]
    crops = [
        _crop(view, scene, prior, found)
        for view, (_, scene), prior, found in zip(views, images, priors, labels, strict=True)
    ]
    typed = _predict(model, [crop.rgb for crop in crops], [crop.prior for crop in crops])
    return tuple(
        Reading(sample, scene, found, centre is not None, crop, answer.cell_type[0], answer.evidence[0])
        for (sample, scene), found, centre, crop, answer in zip(images, labels, centres, crops, typed, strict=True)
    )


def _predict(model: Model, images: Sequence[Rgb], priors: Sequence[NDArray[np.float32]]) -> list[Output]:
    answers: dict[int, Output] = {}
    for places in _batches([image.shape for image in images]):
        answer = model.predict(np.stack([images[i] for i in places]), np.stack([priors[i] for i in places]))
        if not all(np.isfinite(part).all() for part in (answer.segmentation, answer.cell_type, answer.evidence)):
            raise InputError(f"model {model.digest} answers with values that are not finite; train it again")
        answers |= {place: _one(answer, row) for row, place in enumerate(places)}
    return [answers[place] for place in range(len(images))]


def _batches(shapes: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for place, shape in enumerate(shapes):
        alike[shape].append(place)
    for shape, places in alike.items():
        step = max(1, BATCH_PX // (shape[0] * shape[1]))
        yield from (places[at : at + step] for at in range(0, len(places), step))


def _one(answer: Output, row: int) -> Output:
    one = slice(row, row + 1)
    return Output(answer.segmentation[one], answer.cell_type[one], answer.evidence[one], answer.embedding[one])


def _centre(labels: NDArray[np.uint8], mpp: float) -> tuple[float, float] | None:
    cells = find_cells(labels, mpp)
    large = max((cell.area_px for cell in cells), default=0) * NEARLY_LARGEST
    centres = [cell.centroid for cell in cells if cell.area_px >= large]
    return min(centres, key=lambda centre: dist(centre, middle(labels)), default=None)


def _crop(view: View, scene: Scene, prior: NDArray[np.float32], labels: NDArray[np.uint8]) -> Crop:
    found = view.cut_target(labels)
    inside = np.where(found > NUCLEUS, BACKGROUND, found).astype(np.uint8)
    cut_prior = np.stack([view.cut(channel) for channel in prior])
    return Crop(view.cut(scene.rgb), cut_prior, inside, view.cut_target(scene.target))


def window(centre: tuple[float, float], side: int) -> View:
    """Look straight at `centre` (y, x), moved by less than a pixel so that no value is interpolated."""
    y, x = (round(middle - (side - 1) / 2) for middle in centre)
    return View(np.array([[1.0, 0, x], [0, 1.0, y]]), side, on_cell=False)
