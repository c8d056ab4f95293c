"""End-to-end predictions of whole images: outlines first, then the type from a crop around the predicted cell."""

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
"""Pixels in a batch of the network (16 crops of 128 px)."""
NEARLY_LARGEST = 0.8
"""Cells of at least this fraction of the largest one's area count as equally large."""


@dataclass(frozen=True)
class Crop:
    """The surroundings of the cell that is classified; S is the model's `crop_px`."""

    rgb: Rgb
    """uint8, (S, S, 3)."""
    prior: NDArray[np.float32]
    """float32 in [0, 1], (P, S, S)."""
    labels: NDArray[np.uint8]
    """Outlines predicted in the whole image: 0 background, 1 cytoplasm, 2 nucleus; (S, S)."""
    target: NDArray[np.uint8]
    """Bits of the classes each pixel may have; (S, S). Only for scoring: the crop does not depend on it."""


@dataclass(frozen=True)
class ImagePrediction:
    """A model's prediction of one image."""

    sample: Sample
    scene: Scene
    labels: NDArray[np.uint8]
    """0 background, 1 cytoplasm, 2 nucleus; (H, W)."""
    found: bool
    """Whether any cell was found; if not, the crop lies at the image's centre."""
    crop: Crop
    probabilities: NDArray[np.float32]
    """Probabilities of the types, (C,)."""
    evidence: NDArray[np.float32]
    """Where in the crop the type was read from; (S, S) in [0, 1]."""
    embedding: NDArray[np.float32]
    """Features from which the type was read; (D,)."""


def predict_images(model: Model, images: Sequence[tuple[Sample, Scene]]) -> tuple[ImagePrediction, ...]:
    """Segment and classify every image, in the same order.

    The largest predicted cell is classified; among cells nearly as large (`NEARLY_LARGEST`), the one nearest to the
    image's centre. The truth is not used.

    Raises
    ------
    InputError
        If the model's output is not finite.
    """
    stack = build(model.spec.prior)
    priors = [stack(scene.rgb) for _, scene in images]
    segmented = _predict(model, [scene.rgb for _, scene in images], priors)
    labels = [output.segmentation[0].argmax(axis=0).astype(np.uint8) for output in segmented]
    centres = [_cell_centre(own, model.spec.mpp) for own in labels]
    crops = [
        _crop(centred_view(centre or middle(scene.rgb), model.spec.crop_px), scene, prior, own)
        for centre, (_, scene), prior, own in zip(centres, images, priors, labels, strict=True)
    ]
    classified = _predict(model, [crop.rgb for crop in crops], [crop.prior for crop in crops])
    return tuple(
        ImagePrediction(
            sample, scene, own, centre is not None, crop, out.cell_type[0], out.evidence[0], out.embedding[0]
        )
        for (sample, scene), own, centre, crop, out in zip(images, labels, centres, crops, classified, strict=True)
    )


def _predict(model: Model, images: Sequence[Rgb], priors: Sequence[NDArray[np.float32]]) -> list[Output]:
    """Run the network on images of any shapes; returns one output per image, each with a batch axis of 1."""
    outputs: dict[int, Output] = {}
    for indices in _batches([image.shape for image in images]):
        batch = model.predict(np.stack([images[i] for i in indices]), np.stack([priors[i] for i in indices]))
        if not all(np.isfinite(part).all() for part in (batch.segmentation, batch.cell_type, batch.evidence)):
            raise InputError(f"the output of model {model.digest} is not finite; train it again")
        for row, index in enumerate(indices):
            part = slice(row, row + 1)
            outputs[index] = Output(
                batch.segmentation[part], batch.cell_type[part], batch.evidence[part], batch.embedding[part]
            )
    return [outputs[index] for index in range(len(images))]


def _batches(shapes: Sequence[tuple[int, ...]]) -> Iterator[list[int]]:
    """Yield indices of images of the same shape, at most `BATCH_PX` together."""
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, shape in enumerate(shapes):
        by_shape[shape].append(index)
    for shape, indices in by_shape.items():
        step = max(1, BATCH_PX // (shape[0] * shape[1]))
        yield from (indices[at : at + step] for at in range(0, len(indices), step))


def _cell_centre(labels: NDArray[np.uint8], mpp: float) -> tuple[float, float] | None:
    cells = find_cells(labels, mpp)
    large = max((cell.area_px for cell in cells), default=0) * NEARLY_LARGEST
    centres = [cell.centroid for cell in cells if cell.area_px >= large]
    return min(centres, key=lambda centre: dist(centre, middle(labels)), default=None)


def _crop(view: View, scene: Scene, prior: NDArray[np.float32], labels: NDArray[np.uint8]) -> Crop:
    cut_labels = view.cut_target(labels)
    inside = np.where(cut_labels > NUCLEUS, BACKGROUND, cut_labels).astype(np.uint8)
    cut_prior = np.stack([view.cut(channel) for channel in prior])
    return Crop(view.cut(scene.rgb), cut_prior, inside, view.cut_target(scene.target))


def centred_view(centre: tuple[float, float], side: int) -> View:
    """Return an upright view of `centre` (y, x), rounded to whole pixels so that no value is interpolated."""
    y, x = (round(coordinate - (side - 1) / 2) for coordinate in centre)
    return View(np.array([[1.0, 0, x], [0, 1.0, y]]), side, on_cell=False)
