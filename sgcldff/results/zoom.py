"""Pictures beside a slide's report: a sharper overview, and tiles around single cells."""

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sgcldff.core.arrays import Rgb
from sgcldff.core.atomic import atomic_write
from sgcldff.core.geometry import Box, Place, lattice, lattice_box
from sgcldff.results.folder import ZOOM
from sgcldff.results.html import jpeg
from sgcldff.results.review.crops import FINEST_MPP
from sgcldff.slides.base import SlideSource
from sgcldff.slides.scaled import ScaledSlide

INSIDE_PX = 1400
"""Longer side of the overview inside the report."""
BESIDE_PX = 4096
"""Longer side of the overview beside it."""
FAR_PX = 4 * BESIDE_PX
"""Longer side of a level beyond which it is not read as a whole for the overview if a coarser one will do."""
TILE_PX = 256
FIELD_UM = 40.0
"""Side of the square around a cell that tiles cover at least."""
OVERVIEW = "overview.jpg"


@dataclass(frozen=True)
class Zoom:
    """What a report shows of a slide's pixels beside the pictures of its gallery."""

    sharp: ScaledSlide
    """The slide at the scale of tiles and gallery: its own, but no finer than `FINEST_MPP`."""
    inside: Rgb
    """The overview inside the report: a small slide at its own scale."""
    inside_mpp: float
    beside: bool
    """Whether a sharper overview lies beside the report."""
    tiles: tuple[tuple[int, int], ...]
    """Rows and columns of the tiles beside it, in order; none where an overview is as sharp."""


def write_zoom(folder: Path, source: SlideSource, cells: Iterable[Place]) -> Zoom:
    """Write `report/overview.jpg`, and `report/ROW-COLUMN.jpg` around cells, each only where it is sharper.

    What an earlier run left there is removed. The same slide and cells give the same bytes. The slide as a whole is
    read once, from a coarse level if it has one; beside that only what tiles show.

    Raises
    ------
    SlideError
        If the slide is damaged where it is read.
    """
    place = folder / ZOOM
    shutil.rmtree(place, ignore_errors=True)
    sharp = ScaledSlide(source, max(source.ref.mpp, FINEST_MPP))
    overview, mpp = _overview(source)
    around = _around(sharp, cells) if mpp > 1.01 * sharp.mpp else []
    inside, inside_mpp = _reduced(overview, mpp)
    if inside is overview:
        return Zoom(sharp, inside, mpp, False, ())
    with atomic_write(place, durable=False) as draft:
        draft.mkdir(parents=True)
        (draft / OVERVIEW).write_bytes(jpeg(overview))
        for row, column in around:
            (draft / f"{row}-{column}.jpg").write_bytes(jpeg(sharp.read(lattice_box(row, column, TILE_PX))))
    return Zoom(sharp, inside, inside_mpp, True, tuple(around))


def _overview(source: SlideSource) -> tuple[Rgb, float]:
    """Read the slide with its longer side at most `BESIDE_PX`: smaller where only a far finer level would give more."""
    whole, longer = ScaledSlide(source, source.ref.mpp), max(source.ref.shape)
    levels = [ScaledSlide(source, source.ref.mpp * max(1, longer / px)).level for px in (BESIDE_PX, INSIDE_PX)]
    finer, coarser = (max(source.shapes[level]) for level in levels)
    return whole.overview(BESIDE_PX if finer <= FAR_PX else min(BESIDE_PX, coarser))


def _around(sharp: ScaledSlide, cells: Iterable[Place]) -> list[tuple[int, int]]:
    """List the tiles around cells, row by row."""
    margin = FIELD_UM / sharp.mpp / 2
    places = (tuple(at / sharp.factor for at in cell) for cell in cells)
    boxes = (Box(*(round(at - margin) for at in place), *(round(at + margin) for at in place)) for place in places)
    return sorted({tile for box in boxes for tile in lattice(box.clip(sharp.shape), TILE_PX)})


def _reduced(overview: Rgb, mpp: float) -> tuple[Rgb, float]:
    """Shrink an overview to what stands inside the report; return it as it is if it is small enough."""
    shrink = max(overview.shape) / INSIDE_PX
    if shrink <= 1:
        return overview, mpp
    size = [max(1, round(side / shrink)) for side in overview.shape[1::-1]]
    return np.asarray(cv2.resize(overview, size, interpolation=cv2.INTER_AREA), np.uint8), mpp * shrink
