"""A field of view of a smear, with ground truth for every pixel and cell."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.data.synthetic.cells import NUCLEUS_GREY
from sgcldff.data.synthetic.layout import Placed, Spot, compose, draw_whites, scatter, surround
from sgcldff.data.synthetic.stain import SmearSpec, compressed, light, photograph

MARGIN_UM = 10.0
"""White cells are scattered this far beyond a field, so that its border cuts some."""


@dataclass(frozen=True)
class TrueCell:
    """Ground truth of one white cell, for the part inside the image, in px of the image."""

    label: str
    centroid: tuple[float, float]
    """(y, x), px."""
    box: tuple[int, int, int, int]
    """(y0, x0, y1, x1), px, ends excluded."""
    area_um2: float
    nucleus_area_um2: float


@dataclass(frozen=True)
class SmearField:
    """An image and its ground truth."""

    rgb: Rgb
    target: NDArray[np.uint8]
    """0 background, 128 cytoplasm, 255 nucleus; shape (H, W)."""
    cells: tuple[TrueCell, ...]
    """Every white cell of which at least one pixel is visible, in the order in which they were placed."""


def render_field(
    spec: SmearSpec, shape_px: tuple[int, int], rng: np.random.Generator, spots: Sequence[Spot] | None = None
) -> SmearField:
    """Draw a field of view.

    Parameters
    ----------
    shape_px
        (height, width).
    spots
        White cells to draw; None scatters them at the spec's density.
    """
    whites = draw_whites(spec, _scattered(spec, shape_px, rng) if spots is None else spots, rng)
    things = surround(spec, shape_px, whites, rng)
    density, mask = compose(things, whites, (0, shape_px[0]), shape_px[1])
    rgb = photograph(density, light(spec, np.arange(shape_px[0]), shape_px[1]), spec, rng)
    cells = (true_cell(white, shape_px, spec.mpp) for white in whites)
    return SmearField(compressed(rgb, spec.jpeg_quality), mask, tuple(cell for cell in cells if cell is not None))


def _scattered(spec: SmearSpec, shape: tuple[int, int], rng: np.random.Generator) -> list[Spot]:
    margin = MARGIN_UM / spec.mpp
    wide = round(shape[0] + 2 * margin), round(shape[1] + 2 * margin)
    count = rng.poisson(spec.wbc_per_mm2 * wide[0] * wide[1] * spec.mpp**2 / 1e6)
    return [Spot(spot.label, spot.y - margin, spot.x - margin) for spot in scatter(spec, wide, int(count), rng)]


def true_cell(white: Placed, shape: tuple[int, int], mpp: float) -> TrueCell | None:
    """Return the ground truth of a white cell for the part inside an image of `shape` px; None if it is outside."""
    y, x = np.nonzero(white.stamp.mask)
    nucleus = white.stamp.mask[y, x] == NUCLEUS_GREY
    y, x = y + white.top, x + white.left
    inside = (y >= 0) & (x >= 0) & (y < shape[0]) & (x < shape[1])
    if white.stamp.label is None or not inside.any():
        return None
    y, x, nucleus = y[inside], x[inside], nucleus[inside]
    box = int(y.min()), int(x.min()), int(y.max()) + 1, int(x.max()) + 1
    centroid = float(y.mean()) + 0.5, float(x.mean()) + 0.5
    return TrueCell(white.stamp.label, centroid, box, len(y) * mpp**2, int(nucleus.sum()) * mpp**2)
