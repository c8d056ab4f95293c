"""The gate's threshold, chosen on images in which people marked the white cells, and its recall on others.

A cell is kept if what the gate reads covers its middle and nearly all of it. Images of one group (a patient, a slide)
are on one side: the threshold is chosen on half of the groups and its recall is measured on the rest.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby

import cv2
import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Mask, Rgb
from sgcldff.core.errors import InputError
from sgcldff.core.proportions import clustering, exact_interval
from sgcldff.core.records import Sample
from sgcldff.core.settings import CELL_UM, GateSpec, digest, require
from sgcldff.inference.gate.gate import Gate
from sgcldff.slides.images import read_grey, read_rgb, rescale, scaled_shape

KEPT_SHARE = 0.95
"""Share of a cell's pixels that must be read for it to be kept."""
LEAST_CELL_UM2 = 20.0
"""Smaller marks are no cells: inference does not count them either."""
SAFETY = 0.85
"""Factor on the threshold that a sample suggests: the lowest score of some hundred cells lies above that of all cells.
The scores of cells and of all else lie so far apart that it hardly costs reading."""
SURVEY_UM2 = 5e4
"""A group that shows less than this is no slide: its statistics are taken from its data set."""
INTERVAL_LEVEL = 0.95


@dataclass(frozen=True)
class Recall:
    """White cells kept, of those judged."""

    kept: int
    of: int
    groups: tuple[tuple[int, int], ...] = ()
    """Cells kept and lost by patient or slide; empty: as if all cells were independent."""

    @property
    def share(self) -> float:
        """Part that was kept, 0 to 1; 0 where none was judged."""
        return self.kept / self.of if self.of else 0.0

    def interval(self, confidence: float = INTERVAL_LEVEL) -> tuple[float, float]:
        """Return the exact interval of the recall; (0, 1) where no cell was judged.

        It allows for groups that lose more cells than others. Where none has lost any, nothing is known of that.
        """
        clusters = clustering(np.array(self.groups)) if self.groups else None
        return exact_interval(self.kept, self.of, confidence, clusters)


@dataclass(frozen=True)
class ChosenThreshold:
    """A gate's settings and what they were seen to do."""

    spec: GateSpec
    """With the threshold; `kept` and `calibrated_on` are of the held-out half."""
    chosen_on: Recall
    """On the groups that chose the threshold."""
    held_out: Recall
    """On the others."""
    read: float
    """Share read of the held-out images' area, beside the places of marked cells; unmarked cells are part of it."""
    passed_over: int
    """Images without a mark that could be judged."""
    by_type: Mapping[str, Recall]
    """Of the held-out images with a label, by label: the gate may lose one type more than others."""

    def to_dict(self) -> dict[str, object]:
        """Return a JSON-ready report, with the exact intervals of the held-out recall, in all and by type."""
        types = {label: _figures(recall) for label, recall in self.by_type.items()}
        return asdict(self) | _figures(self.held_out) | {"by_type": types}


def _figures(recall: Recall) -> dict[str, float]:
    low, high = recall.interval()
    return {"recall": recall.share, "cells": recall.of, "low": low, "high": high, "confidence": INTERVAL_LEVEL}


@dataclass(frozen=True, eq=False)
class Marked:
    """An image at the gate's scale, and the cells that people marked on it."""

    sample: Sample
    rgb: Rgb
    cells: tuple[Mask, ...]
    """Cells to be judged, each (H, W): whole ones of a cell's size."""
    taken: Mask
    """Everything that is marked, judged or not; (H, W)."""


def choose_threshold(samples: Iterable[Sample], spec: GateSpec | None = None) -> ChosenThreshold:
    """Choose a threshold that keeps at least the share `spec.recall` of the cells of half of the groups.

    It is the largest that does, lowered by `SAFETY`.

    Parameters
    ----------
    samples
        Images with boxes or masks; others are ignored. Cells that the image's border cuts are not judged.
    spec
        Scale, margin and recall wanted; its threshold is not used.

    Raises
    ------
    InputError
        If a file cannot be read, or cells are marked in fewer than two groups.
    """
    spec = spec or GateSpec()
    found = tuple(samples)
    images = tuple(image for image in (marked(sample, spec.mpp) for sample in found) if image.cells)
    half, rest = halves(images)
    gates = fit_gates(images, spec)
    scores = np.sort(keeping_scores(half, gates))
    largest = float(scores[int((1 - spec.recall) * len(scores) + 1e-9)])
    chosen = replace(spec, threshold=int(1000 * SAFETY * largest) / 1000)
    kept_half, kept_rest = (_recall(part, gates, chosen.threshold) for part in (half, rest))
    final = replace(chosen, kept=kept_rest.kept, calibrated_on=kept_rest.of)
    labels = sorted({image.sample.label for image in rest if image.sample.label})
    by_type = {
        label: _recall([image for image in rest if image.sample.label == label], gates, chosen.threshold)
        for label in labels
    }
    return ChosenThreshold(
        final, kept_half, kept_rest, share_read(rest, gates, chosen), len(found) - len(images), by_type
    )


def _recall(images: Iterable[Marked], gates: Mapping[str, Gate], threshold: float) -> Recall:
    ordered = sorted(images, key=_place)
    groups = [
        keeping_scores(own, gates) >= threshold
        for _, own in groupby(ordered, key=lambda image: (image.sample.source, image.sample.group))
    ]
    counts = tuple((int(kept.sum()), int((~kept).sum())) for kept in groups)
    return Recall(sum(kept for kept, _ in counts), sum(map(sum, counts)), counts)


def halves(images: Sequence[Marked]) -> tuple[tuple[Marked, ...], tuple[Marked, ...]]:
    """Assign whole groups to two sides, data set by data set, in an order that only their names decide.

    Raises
    ------
    InputError
        If there are fewer than two groups.
    """
    groups = sorted({(image.sample.source, digest([image.sample.group]), image.sample.group) for image in images})
    require(
        len(groups) > 1, f"cells are marked in {len(groups)} groups: give images of at least two, with boxes or masks"
    )
    first = {group for _, _, group in groups[::2]}
    sides = (tuple(image for image in images if (image.sample.group in first) == side) for side in (True, False))
    return next(sides), next(sides)


def fit_gates(images: Iterable[Marked], spec: GateSpec) -> Mapping[str, Gate]:
    """Fit a gate to each group, by its name, from the pixels beside its marked cells.

    These are nearly all of a real slide, and too few of a crop. Groups of single images take their data set's.
    """
    gates: dict[str, Gate] = {}
    for _, one_source in groupby(sorted(images, key=_place), key=lambda image: image.sample.source):
        of_source = list(one_source)
        common = Gate.fit(spec, _survey(of_source), spec.mpp)
        for group, one_group in groupby(of_source, key=lambda image: image.sample.group):
            survey = _survey(list(one_group))
            gates[group] = Gate.fit(spec, survey, spec.mpp) if len(survey) * spec.mpp**2 >= SURVEY_UM2 else common
    return gates


def _place(image: Marked) -> tuple[str, str, str]:
    return image.sample.source, image.sample.group, image.sample.id


def _survey(images: Sequence[Marked]) -> Rgb:
    """Return the pixels beside the marked cells as an image one pixel wide; of all where nothing else is left."""
    beside = np.concatenate([image.rgb[~image.taken] for image in images])
    pixels = beside if len(beside) else np.concatenate([image.rgb.reshape(-1, 3) for image in images])
    return np.ascontiguousarray(pixels[:, None])


def keeping_scores(images: Iterable[Marked], gates: Mapping[str, Gate]) -> NDArray[np.float64]:
    """Return the largest threshold that keeps each cell, image by image, (cells,)."""
    return np.array([score for image in images for score in _kept_up_to(image, gates[image.sample.group])], np.float64)


def _kept_up_to(image: Marked, gate: Gate) -> Iterator[float]:
    reached = gate.reached(gate.scores(image.rgb))
    for cell in image.cells:
        y, x = (round(float(axis.mean())) for axis in np.nonzero(cell))
        nearly_all = np.quantile(reached[cell], 1 - KEPT_SHARE, method="lower")
        yield float(min(nearly_all, reached[y, x]))


def share_read(images: Iterable[Marked], gates: Mapping[str, Gate], spec: GateSpec) -> float:
    """Return the share read of the images' area, beside the places that hold a marked cell."""
    read = total = 0
    for image in images:
        places = replace(gates[image.sample.group], spec=spec).places(image.rgb)
        _, ids = cv2.connectedComponents(places.astype(np.uint8), connectivity=8)
        beside = ~image.taken & ~(places & np.isin(ids, np.unique(ids[image.taken])))
        read, total = read + int((places & beside).sum()), total + int(beside.sum())
    return read / total if total else 0.0


def marked(sample: Sample, mpp: float) -> Marked:
    """Read an image and its marks, boxes before masks, and bring them to `mpp` um/px.

    Raises
    ------
    InputError
        If image or mask cannot be read, or their sizes differ.
    """
    native = read_rgb(sample.image)
    rgb = rescale(native, sample.mpp, mpp)
    shape = (native.shape[0], native.shape[1])
    marks = list(_boxed(sample, shape, mpp) if sample.boxes is not None else _masked(sample, shape, mpp))
    taken = np.any([cell for cell, _ in marks], axis=0) if marks else np.zeros(rgb.shape[:2], bool)
    return Marked(sample, rgb, tuple(cell for cell, judged in marks if judged and cell.any()), taken)


def _boxed(sample: Sample, shape: tuple[int, int], mpp: float) -> Iterator[tuple[Mask, bool]]:
    """Treat the ellipse inside a box as a cell, and a disc of a cell's width around a point."""
    height, width = scaled_shape(shape, sample.mpp, mpp)
    rows, columns = np.ogrid[0.5 : height + 0.5, 0.5 : width + 0.5]
    half = sample.mpp / mpp / 2
    for x0, y0, x1, y1 in sample.boxes or ():
        point = x0 == x1
        high, wide = (CELL_UM / mpp / 2,) * 2 if point else ((y1 - y0) * half, (x1 - x0) * half)
        away = ((rows - (y0 + y1) * half) / max(high, 0.5)) ** 2 + ((columns - (x0 + x1) * half) / max(wide, 0.5)) ** 2
        whole = min(x0, y0) > 1 and x1 < shape[1] - 1 and y1 < shape[0] - 1
        yield away <= 1, whole and np.pi * high * wide * mpp**2 >= LEAST_CELL_UM2


def _masked(sample: Sample, shape: tuple[int, int], mpp: float) -> Iterator[tuple[Mask, bool]]:
    """Treat as cells the connected parts of the mask."""
    if sample.mask is None or sample.mask_code is None:
        return
    grey = read_grey(sample.mask)
    if grey.shape != shape:
        raise InputError(f"{sample.mask}: mask is {grey.shape}, image {shape} (height, width); export them alike")
    count, ids, stats, _ = cv2.connectedComponentsWithStats((grey >= sample.mask_code.cytoplasm).astype(np.uint8))
    for number in range(1, count):
        x, y, width, height, area = (int(value) for value in stats[number])
        whole = min(x, y) > 0 and x + width < shape[1] and y + height < shape[0]
        cell = rescale((ids == number).astype(np.uint8), sample.mpp, mpp, labels=True) > 0
        yield cell, whole and area * sample.mpp**2 >= LEAST_CELL_UM2
