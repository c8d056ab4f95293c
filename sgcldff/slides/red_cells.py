"""The scale of a blood smear, measured by the width of its red cells."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.geometry import Box, Shape

WIDTH_UM = 7.2
"""Mean width of the red cells of healthy adults on a smear, ..."""
WIDTH_SPREAD = 0.07
"""... which is 6.7 to 7.7 um: half of that range, as a part of `WIDTH_UM`."""
METHOD_SPREAD = 0.1
"""Error of the measurement, as a part of the scale, beside scales by the width of white cells."""
FEW_SPREAD = 0.35
"""The same where fewer than `FEWEST_RED_CELLS` red cells were measured, as in a single photograph."""
FEWEST_RED_CELLS = 20
"""Red cells below which no scale is stated, ..."""
FEWEST_TO_CHECK = 4
"""... and below which a stated one is not checked."""
ENOUGH_CELLS = 250
"""Red cells after which no more fields are read."""
FIELDS = 8
"""Most fields of a slide in which red cells are measured, ..."""
FIELD_PX = 768
"""... each with this side at level 0; an image that is not much larger is taken as it is."""
SOUGHT = 96
"""Places of a slide that are looked at to choose the fields, ..."""
LEAST_PLACE_PX = 64
"""... at a level where each has at least this side."""
FILLED = (0.1, 0.75)
"""Share of cell between which a field is neither empty nor crowded."""
CELL_CONTRAST = 0.1
"""Optical density in green that glass and plasma stay below."""
RADII_PX = (6, 50)
"""Smallest and largest circles that are searched for at each of `SHRINKS`."""
SHRINKS = (1, 2, 4)
"""Factors by which a field is shrunk: together red cells 12 to 400 px wide are found."""
MOST_CIRCLES = 100
"""Circles, the clearest first, that are looked at for each of `SHRINKS`."""
ROUND = 0.85
"""Share of a circle's outline that must be an edge (`param2` of `cv2.HOUGH_GRADIENT_ALT`)."""
EDGE = 150
"""Upper threshold of Canny's edges."""
DARKER = 8
"""Grey levels in green by which the rim of a red cell is darker than what surrounds it."""
NUCLEAR_CONTRAST = 0.25
"""Optical density in green above the mean of red and blue that the darkest parts of a red cell stay below."""
BANDWIDTH = 0.08
"""Of the density of the logarithm of widths whose mode is sought."""
NEAR = 0.2
"""Distance from the mode, in logarithms, up to which a circle is taken for a red cell."""
RESAMPLINGS = 200

Circles = NDArray[np.float64]
"""(x, y, radius) of each circle, px, shape (N, 3)."""
Widths = NDArray[np.float64]
"""Natural logarithm of the width of each circle, px, shape (N,)."""


@dataclass(frozen=True)
class RedCellScale:
    """A smear's scale by its red cells, with an interval of about 95 %."""

    mpp: float
    """um/px of level 0."""
    low: float
    """Lower end of the interval: of chance, of the width of red cells in different people, of the measurement."""
    high: float
    cells: int
    """Red cells that were measured."""
    slides: int = 1
    """Slides or photographs on which they lie."""

    def __str__(self) -> str:
        where = f" of {self.slides} images" if self.slides > 1 else ""
        return f"{self.mpp:.3g} um/px ({self.low:.3g} to {self.high:.3g}, {self.cells} cells{where})"

    def contradicts(self, mpp: float) -> bool:
        """Return whether a stated scale, um/px, lies outside the interval."""
        return not self.low <= mpp <= self.high


def widths_in(fields: Iterable[Rgb]) -> Widths:
    """Measure the widths of red cells, 14 to 150 px; no more fields are read once there are `ENOUGH_CELLS`."""
    widths = np.zeros(0)
    for rgb in fields:
        widths = np.concatenate([widths, np.log(2 * red_cells(rgb)[:, 2])])
        if len(widths) >= ENOUGH_CELLS:
            break
    return widths


def scale_of(slides: Sequence[Widths], fewest: int = FEWEST_RED_CELLS) -> RedCellScale | None:
    """Return the scale at which the mode of the widths is that of red cells, 7.2 um.

    Parameters
    ----------
    slides
        Widths on each of some slides at one scale.
    fewest
        Red cells below which nothing is stated.

    Returns
    -------
    RedCellScale, or None where too few red cells were found, or most circles have another width.
    """
    widths = np.concatenate([np.zeros(0), *slides])
    near = widths[np.abs(widths - _mode(widths)) < NEAR] if len(widths) else widths
    if len(near) < max(fewest, len(widths) / 2):
        return None
    samples = np.random.default_rng(0).choice(near, (RESAMPLINGS, len(near)))
    chance = 1.96 * np.median(samples, axis=1).std()
    method = METHOD_SPREAD if len(near) >= FEWEST_RED_CELLS else FEW_SPREAD
    spread = float(np.sqrt(WIDTH_SPREAD**2 + method**2 + chance**2))
    mpp = float(WIDTH_UM / np.exp(np.median(near)))
    return RedCellScale(mpp, mpp * float(np.exp(-spread)), mpp * float(np.exp(spread)), len(near), len(slides))


def fields_of(read: Callable[[Box, int], Rgb], shapes: Sequence[Shape]) -> Iterator[Rgb]:
    """Choose fields of a slide that are neither empty nor crowded, at random but always the same.

    Parameters
    ----------
    read
        Reads a box, px of a level: uint8 (H, W, 3).
    shapes
        (height, width) of each level, px; the first is the finest.
    """
    if max(shapes[0]) <= 1.5 * FIELD_PX:
        yield read(Box.of(shapes[0]), 0)
        return
    places = [
        Box(y, x, y + FIELD_PX, x + FIELD_PX).clip(shapes[0])
        for y in range(0, shapes[0][0], FIELD_PX)
        for x in range(0, shapes[0][1], FIELD_PX)
    ]
    chosen = np.random.default_rng(0).permutation(len(places))[:SOUGHT]
    seen = [_green_levels(read, shapes, places[at]) for at in chosen]
    white = max(int(np.searchsorted(levels.cumsum(), 0.95 * levels.sum())) for levels in seen)
    darker = slice(0, int((white + 1) * np.exp(-CELL_CONTRAST)))
    covered = [levels[darker].sum() / max(1, levels.sum()) for levels in seen]
    good = [places[at] for at, share in zip(chosen, covered, strict=True) if FILLED[0] <= share <= FILLED[1]]
    for place in good[:FIELDS]:
        yield read(place, 0)


def _green_levels(read: Callable[[Box, int], Rgb], shapes: Sequence[Shape], place: Box) -> NDArray[np.intp]:
    """Count the pixels of each green level, shape (256,), at the coarsest level that shows enough of a place."""
    ratios = [shapes[0][0] / shape[0] for shape in shapes]
    level = max(at for at, ratio in enumerate(ratios) if ratio <= FIELD_PX / LEAST_PLACE_PX)
    box = Box(*(int(end / ratios[level]) for end in (place.y0, place.x0, place.y1, place.x1)))
    return np.bincount(read(box.clip(shapes[level]), level)[..., 1].ravel(), minlength=256)


def _mode(values: NDArray[np.float64]) -> float:
    """Return the mode of the logarithms of widths, each weighted by its width: specks may outnumber cells."""
    grid = np.arange(values.min(), values.max() + 0.01, 0.01)
    return float(grid[(np.exp(-(((grid[:, None] - values) / BANDWIDTH) ** 2) / 2) @ np.exp(values)).argmax()])


def red_cells(rgb: Rgb) -> Circles:
    """Find red cells that lie alone in an image, uint8 (H, W, 3): round, darker than around them, without a nucleus."""
    found = [
        shrink * circle
        for shrink in SHRINKS
        for small in [_shrunk(rgb, shrink)]
        for circle in _circles(small)
        if _is_red_cell(small, circle)
    ]
    alone = list[NDArray[np.float64]]()
    for circle in sorted(found, key=lambda circle: -circle[2]):  # the outermost of those around one centre
        if all(np.hypot(*(circle - other)[:2]) > 0.6 * other[2] for other in alone):
            alone.append(circle)
    return np.reshape(alone, (-1, 3))


def _shrunk(rgb: Rgb, factor: int) -> Rgb:
    height, width = (max(1, side // factor) for side in rgb.shape[:2])
    return np.asarray(cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)) if factor > 1 else rgb


def _circles(rgb: Rgb) -> Circles:
    """Find circles that lie wholly in an image."""
    green = cv2.medianBlur(np.ascontiguousarray(rgb[..., 1]), 5)
    smallest, largest = RADII_PX
    largest = min(largest, min(green.shape) // 2)
    if largest <= smallest:
        return np.zeros((0, 3))
    found = cv2.HoughCircles(
        green, cv2.HOUGH_GRADIENT_ALT, 1.5, smallest, param1=EDGE, param2=ROUND, minRadius=smallest, maxRadius=largest
    )
    circles = np.zeros((0, 3)) if found is None else found[0][:MOST_CIRCLES, :3].astype(np.float64)
    inside = (circles[:, :2] >= circles[:, 2:]) & (circles[:, :2] + circles[:, 2:] <= green.shape[::-1])
    return np.asarray(circles[inside.all(axis=1)])


def _is_red_cell(rgb: Rgb, circle: NDArray[np.float64]) -> bool:
    """Return whether a circle's rim is darker than what surrounds it, and no nucleus is in it."""
    x, y, radius = circle
    reach = 1.25 * radius
    top, left = max(0, int(y - reach)), max(0, int(x - reach))
    part = rgb[top : int(y + reach) + 2, left : int(x + reach) + 2].astype(np.float64)
    rows, columns = np.indices(part.shape[:2])
    away = np.hypot(rows + top - y, columns + left - x) / radius
    around, rim = part[(away > 1.1) & (away < 1.25)], part[(away > 0.7) & (away < 1)]
    if not len(around) or np.median(rim[:, 1]) > np.percentile(around[:, 1], 60) - DARKER:
        return False
    density = np.log((np.percentile(around, 80, axis=0) + 1) / (part[away < 1] + 1))
    return bool(np.percentile(density @ (-0.5, 1, -0.5), 85) < NUCLEAR_CONTRAST)
