"""Where a smear can be read: neither empty, nor too thick, nor too thin, nor out of focus.

All sums are of whole numbers, so that a block's class does not depend on the image that it was cut from.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.saliency.priors.ramf import BACKGROUND_CONTRAST, WHITE_PERCENTILE, density_table

BLOCK_UM = 102.4
"""Side of the blocks that are judged, um: room for some hundred red cells."""
FEWEST_COVERED = 0.03
"""Share of cell below which a block is background: platelets and specks, or a white cell or two."""
THIN_COVERED = 0.1
"""Share of cell below which a block is feathered: a fifth of the least seen in fields that people chose to count."""
THICK_COVERED = 0.8
"""Share of cell that a thick block has at least (fields that people chose to count: at most 0.74), and ..."""
THICK_OVERLAID = 0.25
"""... share of its pixels as dense as two red cells. Sheets of white cells have the first, not the second."""
BLURRED_RATIO = 0.131
"""Ratio of the structure function at `LAG_UM` to that at three times this, below which a block is out of focus.

It is 1/9 for what is smooth at that scale. At 0.8 um/px, fields in focus have 0.18 or more, and those blurred by 1.5 um
(standard deviation) 0.129 or less. At a coarser scale only a stronger blur is recognised.
"""
LAG_UM = 0.8
LEAST_EVIDENCE_UM2 = 900.0
"""Blocks at the slide's border smaller than this are never called thick or out of focus."""
CELL_DENSITY = 0.1
"""Optical density in green that glass and plasma stay below, whatever the stain."""
NUCLEAR_CONTRAST = 0.15
"""Green density above the mean of red and blue that red cells stay below."""
ALONE = 25.0
"""Percentile of the survey's red cells that is taken for one that lies alone: much of a smear is thick."""
MOST_PIXELS = 1 << 21
"""Most pixels of a slide's sample that are used."""


class Area(IntEnum):
    """What a block of a smear is; the values are the codes of `Gate.areas`."""

    BACKGROUND = 0
    """Hardly any cell."""
    THICK = 1
    """Red cells lie over each other."""
    MONOLAYER = 2
    """Red cells lie beside each other."""
    FEATHERED = 3
    """Few cells, far apart."""
    OUT_OF_FOCUS = 4
    """Cells without edges."""

    @property
    def usable(self) -> bool:
        """Whether cells are counted here: in the monolayer alone.

        CLSI H20-A2 and the ICSH's recommendations count where red cells just touch: in thick parts white cells shrink
        and are overlaid, and at the very feathered edge large cells gather and burst, so that the shares there are not
        the blood's. `FEATHERED` starts only far below the cover of a thin monolayer. Cytospins and buffy coats have
        few red cells everywhere: they are read with `usable_only` off.
        """
        return self is Area.MONOLAYER


@dataclass(frozen=True)
class AreaReference:
    """What the classes are measured against: one slide's light and red cells."""

    white: tuple[float, float, float]
    """White point, grey values (R, G, B)."""
    cell: float
    """Optical density in green at or above which a pixel is cell, not plasma or glass."""
    overlaid: float
    """Optical density in blue of two red cells over each other; white cells are pale in blue."""


def smear_pixels(survey: Rgb) -> Rgb:
    """Return a slide's sample, uint8 (H, W, 3), as pixels (N, 1, 3) of which no more than half are glass or plasma.

    A slide may be nearly all glass; its statistics would then hold red cells for something rare.
    """
    pixels = survey.reshape(-1, 3)
    pixels = pixels[:: -(-len(pixels) // MOST_PIXELS)]
    white = np.percentile(pixels[:, 1], WHITE_PERCENTILE)
    clear = pixels[:, 1] > (white + 1) * np.exp(-CELL_DENSITY) - 1
    glass, cells = pixels[clear], pixels[~clear]
    if 0 < len(cells) < len(glass):
        glass = glass[:: -(-len(glass) // len(cells))]
    return np.ascontiguousarray(np.concatenate([glass, cells])[:, None])


def fit_reference(survey: Rgb, white: tuple[float, float, float]) -> AreaReference:
    """Measure the red cells of a slide's sample, uint8 (H, W, 3); typical values where it shows none."""
    density = np.take_along_axis(density_table(white), survey.reshape(-1, 3), axis=0)
    green, blue = density[:, 1], density[:, 2]
    red_cells = (green >= CELL_DENSITY) & (density @ BACKGROUND_CONTRAST < NUCLEAR_CONTRAST)
    if not red_cells.any():
        return AreaReference(white, CELL_DENSITY, 8 * CELL_DENSITY)
    cell = float(np.median(green[red_cells])) / 2
    return AreaReference(white, max(CELL_DENSITY, cell), 2 * float(np.percentile(blue[red_cells], ALONE)))


@dataclass(frozen=True, eq=False)
class Blocks:
    """Sums over the blocks into which an image is cut."""

    rows: NDArray[np.int64]
    """First row of each block, and the image's height."""
    columns: NDArray[np.int64]
    """First column of each block, and the image's width."""

    @classmethod
    def of(cls, shape: tuple[int, int], side: int) -> Self:
        """Cut an image into squares; those of the last row and column may be parts."""
        return cls(*(np.array([*range(0, length, side), length]) for length in shape))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Pixels of every block, (rows, columns)."""
        return np.asarray(np.outer(np.diff(self.rows), np.diff(self.columns)))

    def share(self, marked: NDArray[np.uint8]) -> NDArray[np.float64]:
        """Return the share of pixels that are 1 in an image of 0 and 1, (rows, columns)."""
        return np.asarray(self._sums(marked[top:bottom] for top, bottom in pairwise(self.rows)) / self.sizes)

    def roughness(self, values: NDArray[np.uint8], lag: int) -> NDArray[np.float64]:
        """Return the structure function, the mean squared difference of values `lag` px apart in a row of a block.

        Every other row is taken; 0 where a block has no such pairs.
        """
        pairs = np.outer(-(-np.diff(self.rows) // 2), np.maximum(0, np.diff(self.columns) - lag))
        if values.shape[1] <= lag:
            return np.zeros(pairs.shape)
        bands = (values[top:bottom:2] for top, bottom in pairwise(self.rows))
        apart = (cv2.absdiff(band[:, lag:], band[:, :-lag]) for band in bands)
        squares = (np.multiply(difference, difference, dtype=np.uint16) for difference in apart)
        return np.asarray(self._sums(squares, lag) / np.maximum(1, pairs))

    def _sums(self, bands: Iterable[NDArray[np.uint8 | np.uint16]], lag: int = 0) -> NDArray[np.float64]:
        """Sum the blocks of each band without the last `lag` of their columns; exact up to 2**24 a column."""
        columns = np.zeros((len(self.rows) - 1, self.columns[-1]))
        for row, band in enumerate(bands):
            columns[row, : band.shape[1]] = cv2.reduce(band, 0, cv2.REDUCE_SUM, dtype=cv2.CV_32F)[0]
        for end in self.columns[1:]:
            columns[:, max(0, end - lag) : end] = 0
        return np.asarray(np.add.reduceat(columns, self.columns[:-1], axis=1))


def classify_areas(rgb: Rgb, blocks: Blocks, mpp: float, reference: AreaReference) -> NDArray[np.uint8]:
    """Classify each block: codes of `Area`, uint8 (rows, columns)."""
    table = density_table(reference.white)
    _, green, blue = cv2.split(rgb)
    covered = blocks.share(cv2.LUT(green, (table[:, 1] >= reference.cell).astype(np.uint8)))
    overlaid = blocks.share(cv2.LUT(blue, (table[:, 2] >= reference.overlaid).astype(np.uint8)))
    lag = max(1, round(LAG_UM / mpp))
    near, far = (blocks.roughness(green, step) for step in (lag, 3 * lag))
    judged = blocks.sizes >= LEAST_EVIDENCE_UM2 / mpp**2
    classes = [
        (covered < FEWEST_COVERED, Area.BACKGROUND),
        (judged & (near < BLURRED_RATIO * far), Area.OUT_OF_FOCUS),
        (judged & (covered >= THICK_COVERED) & (overlaid >= THICK_OVERLAID), Area.THICK),
        (covered < THIN_COVERED, Area.FEATHERED),
    ]
    holds, codes = zip(*classes, strict=True)
    return np.asarray(np.select(holds, codes, Area.MONOLAYER), np.uint8)


def block_px(mpp: float) -> int:
    """Return the side of a block at `mpp` um/px, px; even."""
    return max(2, 2 * round(BLOCK_UM / mpp / 2))
