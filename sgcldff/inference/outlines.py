"""Outlines of cells: as valid polygons, and as the pixels inside."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray

from sgcldff.core.geometry import Box


def valid_polygon(outline: NDArray[np.float64]) -> shapely.Polygon | None:
    """Mend an outline that crosses itself by keeping its largest part; None where it encloses no area."""
    if len(outline) < 3 or not np.isfinite(outline).all():
        return None
    drawn = shapely.Polygon(outline)
    if drawn.is_valid and drawn.area > 0:
        return drawn
    mended = shapely.make_valid(drawn)
    parts = [part for part in shapely.get_parts(mended) if part.geom_type == "Polygon" and part.area > 0]
    parts += [inner for part in shapely.get_parts(mended) if part.geom_type == "MultiPolygon" for inner in part.geoms]
    if not parts:
        return None
    return shapely.Polygon(max(parts, key=lambda part: float(part.area)).exterior)


def box_around(outline: NDArray[np.float64]) -> Box:
    """Return the pixels that an outline, (N, 2) of (x, y) in px, touches."""
    (x0, y0), (x1, y1) = np.floor(outline.min(axis=0)).astype(int), np.ceil(outline.max(axis=0)).astype(int)
    return Box(int(y0), int(x0), int(y1), int(x1))


def fill_outline(pixels: NDArray[Any], place: Box, outline: NDArray[np.float64], value: int) -> None:
    """Set the pixels whose centres lie inside an outline.

    Parameters
    ----------
    pixels
        Part of an image, (H, W); what of the outline lies beside it is left out.
    place
        Where in the image it lies.
    outline
        (N, 2) of (x, y), px of the image, of which the first pixel covers [0, 1).
    """
    window = box_around(outline).overlap(place)
    if len(outline) < 3 or 0 in window.shape:
        return
    shape = shapely.Polygon(outline)
    shapely.prepare(shape)
    y, x = np.mgrid[window.slices] + 0.5
    pixels[window.within(place).slices][shapely.contains_xy(shape, x, y)] = value
