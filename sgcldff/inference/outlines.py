"""Outlines of cells: as valid polygons, and as the pixels inside."""

from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray


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


def fill_outline(pixels: NDArray[Any], corner: tuple[int, int], outline: NDArray[np.float64], value: int) -> None:
    """Set the pixels whose centres lie inside an outline.

    Parameters
    ----------
    pixels
        Part of an image, (H, W); what of the outline lies beside it is left out.
    corner
        (y, x) of its first pixel in the image.
    outline
        (N, 2) of (x, y), px of the image, of which the first pixel covers [0, 1).
    """
    moved = outline - (corner[1], corner[0])
    (x0, y0), (x1, y1) = np.floor(moved.min(axis=0)).astype(int), np.ceil(moved.max(axis=0)).astype(int)
    window = slice(max(0, y0), max(0, y1)), slice(max(0, x0), max(0, x1))
    part = pixels[window]
    if len(outline) < 3 or not part.size:
        return
    shape = shapely.Polygon(moved)
    shapely.prepare(shape)
    y, x = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
    part[shapely.contains_xy(shape, x + window[1].start, y + window[0].start)] = value
