"""From segmentation labels to cells, each counted once.

A cell is a round body of about 6 to 24 um. Bodies are found as maxima of a height: the depth of a pixel in the cell
mask plus its depth in the nucleus mask. Maxima without a waist between them are one body, and so are maxima too close
to be two cells or too small to be cells: the lobes of a neutrophil, also where its pale cytoplasm was missed. Pixels
then go to the body whose inscribed disc is nearest, which parts touching cells at their waist.

Every decision about a cell depends only on labels within `REACH_UM` of it, and only whole numbers are compared: the
same cell is found in a shard and in the whole slide.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree
from shapely import Polygon
from skimage.measure import find_contours
from skimage.morphology import convex_hull_image

from sgcldff.core.arrays import Mask
from sgcldff.core.geometry import Box
from sgcldff.core.label_codes import BACKGROUND, NUCLEUS

Ids = NDArray[np.int32]
Places = NDArray[np.int64]

GAP_UM = 0.4
"""Gaps and bays up to twice this wide are closed."""
HOLE_UM = 2.0
"""Holes up to this wide belong to the cell around them."""
ROUND_UM = 7.0
"""Depth that a round cell has; what lies deeper is in a clump."""
MAX_DEPTH_UM = 16.0
"""Deeper than this without a nucleus there is no cell (thick stain, debris)."""
MAX_NUCLEUS_UM = 12.0
"""A nucleus deeper than this is none."""
SMOOTH_UM = 0.4
"""Width of the mean that is taken over the height; maxima are of a square twice as wide."""
TOUCH_UM = 1.0
"""A fragment this far from a body touches it."""
ONE_BODY_UM = 5.5
"""Maxima closer than this belong to one cell."""
SPAN_UM = 8.0
"""Maxima farther apart than this are joined only through others between them."""
LOBE_RADIUS_UM = 3.1
"""Bodies up to this radius may be lobes of one nucleus rather than cells."""
FRAGMENT_RADIUS_UM = 2.2
"""A body up to this radius is too small for a cell and joins one that it nearly touches."""
WAIST = 0.8
"""Two maxima are one body when the height between them stays above this share of the lower one."""
SLACK_UM = 4.0
"""How far beyond a body's inscribed disc its pixels may lie."""
JOINS = 3
"""Longest chain of maxima from a lobe to its cell."""
MIN_NUCLEUS_UM2 = 4.0
"""Objects with less nucleus are no cells."""
NEAR_UM = 3.0
"""Lobes whose discs are farther apart than this belong to different cells."""
WAIST_SAMPLES = 33
"""Points at which the height between two maxima is sampled."""
REACH_UM = (2 * JOINS + 1) * SPAN_UM + 2 * (ROUND_UM + SLACK_UM) + MAX_DEPTH_UM
"""Distance from a cell's centre beyond which labels do not matter to it: its bodies lie within `JOINS` spans and its
pixels a disc and the slack farther; so far again may lie the owner of a body that contends for them, one span from a
maximum that decides about it, whose height depends on a depth."""
ONE_PIECE = 0.95
"""Share of a cell's labelled pixels that must be connected for its closed gaps to be left out."""
SIMPLIFY_PX = 0.35
"""Largest distance by which an outline may leave the pixels' border."""
SPECK_PX = 4
"""Smaller parts of a nucleus are counted but not outlined."""
DEPTH_UNIT = 16
"""Depths are compared in 1/16 px."""


@dataclass(frozen=True)
class Cell:
    """One cell; pixel i of the labels covers [i, i + 1), y down, x right."""

    centroid: tuple[float, float]
    """(y, x), px."""
    box: Box
    """Smallest box around its pixels."""
    area_px: int
    nucleus_px: int
    outline: NDArray[np.float64]
    """(N, 2) of (x, y): a closed ring (first point repeated), a valid polygon, px."""
    nuclei: tuple[NDArray[np.float64], ...]
    """Outlines of the parts of the nucleus, as `outline`; holes in them are not drawn."""
    name: str = ""
    """Id that others gave it; empty for a cell that was found here."""

    def shifted(self, dy: int, dx: int) -> "Cell":
        """Move the cell by whole pixels."""
        centroid = (self.centroid[0] + dy, self.centroid[1] + dx)
        way = np.array([dx, dy], np.float64)
        nuclei = tuple(part + way for part in self.nuclei)
        return replace(self, centroid=centroid, box=self.box.shift(dy, dx), outline=self.outline + way, nuclei=nuclei)


@dataclass(frozen=True)
class _Bodies:
    """Maxima of a height, highest first, ties by place."""

    place: Places
    """(n, 2): y, x."""
    height: NDArray[np.float32]
    """(H, W): the map that they are maxima of."""
    radius: NDArray[np.float32]
    """(n,): of the inscribed disc, px."""


def find_cells(
    labels: NDArray[np.uint8],
    mpp: float,
    min_area_um2: float = 25.0,
    core: Box | None = None,
    corner: tuple[int, int] = (0, 0),
) -> tuple[Cell, ...]:
    """Find the cells of a segmentation, in the order of their boxes.

    Parameters
    ----------
    labels
        uint8, (H, W): 0 background, 1 cytoplasm, 2 nucleus.
    mpp
        um/px.
    min_area_um2
        Smaller objects are left out, and so are objects without a nucleus.
    core
        Give only cells whose centroid lies in this box. When `labels` reach `REACH_UM` beyond it on every side, or end
        where the slide ends, they are the very cells that the whole slide would give.
    corner
        (y, x) of the first label on the slide, to which `core` and the cells refer.
    """
    wanted = core or Box.of((labels.shape[0], labels.shape[1])).shift(*corner)
    sizes = (min_area_um2 / mpp**2, MIN_NUCLEUS_UM2 / mpp**2)
    crowds = ((box.shift(*corner), crowd) for box, crowd in _crowds(labels, mpp))
    found = (cell for box, crowd in crowds if box.intersects(wanted) for cell in _cells(box, crowd, mpp))
    kept = (cell for cell in found if cell.area_px >= sizes[0] and cell.nucleus_px >= sizes[1])
    inside = (cell for cell in kept if wanted.contains(*cell.centroid))
    return tuple(sorted(inside, key=lambda cell: (cell.box, cell.centroid)))


def apart_px(mpp: float) -> int:
    """Return the distance beyond which objects do not matter to each other, px."""
    return max(1, int(np.ceil((NEAR_UM + 2 * GAP_UM) / mpp)))


def _crowds(labels: NDArray[np.uint8], mpp: float) -> Iterator[tuple[Box, NDArray[np.uint8]]]:
    """Cut out groups of objects that are too far apart to matter to each other."""
    block = apart_px(mpp)
    down, across = (-(-side // block) for side in labels.shape)
    padded = np.zeros((down * block, across * block), np.uint8)
    padded[: labels.shape[0], : labels.shape[1]] = labels
    taken = padded.reshape(down, block, across, block).any(axis=(1, 3))
    _, groups = cv2.connectedComponents(taken.astype(np.uint8), connectivity=8)
    for number, (rows, columns) in enumerate(ndimage.find_objects(groups), start=1):
        box = Box(rows.start * block, columns.start * block, rows.stop * block, columns.stop * block)
        own = (groups[rows, columns] == number).repeat(block, axis=0).repeat(block, axis=1)
        inside = box.clip((labels.shape[0], labels.shape[1]))
        yield inside, (padded[box.slices] * own)[inside.within(box).slices]


def _label_crowd(labels: NDArray[np.uint8], mpp: float) -> Ids:
    margin = int(np.ceil(2 * GAP_UM / mpp)) + 1
    padded = np.pad(labels, margin)
    cells = _filled(_closed(padded > BACKGROUND, mpp), mpp)
    bodies = _bodies(_depth(cells), _depth(_closed(padded == NUCLEUS, mpp) & cells), mpp)
    owner = _owners(bodies, mpp)
    taken = _claimed(cells, bodies, owner, mpp)
    ids = _numbered(taken, padded > BACKGROUND, bodies, owner)
    return ids[margin:-margin, margin:-margin]


def _closed(mask: Mask, mpp: float) -> Mask:
    side = 2 * max(1, round(GAP_UM / mpp)) + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    return np.asarray(cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, disc), bool)


def _filled(mask: Mask, mpp: float) -> Mask:
    """Fill holes of at most `HOLE_UM` in height and width."""
    _, holes, stats, _ = cv2.connectedComponentsWithStats((~mask).astype(np.uint8), connectivity=4)
    sides = stats[:, [cv2.CC_STAT_HEIGHT, cv2.CC_STAT_WIDTH]].max(axis=1)
    small = sides <= HOLE_UM / mpp
    small[0] = False
    return np.asarray(mask | small[holes])


def _depth(mask: Mask) -> NDArray[np.float32]:
    """Measure the distance to the background in whole 1/16 px; its squares are whole, so the result is exact."""
    distance = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    exact = np.sqrt(np.rint(np.square(distance, dtype=np.float64)))
    return np.asarray(np.rint(exact * DEPTH_UNIT), np.float32)


def _bodies(depth: NDArray[np.float32], nuclear: NDArray[np.float32], mpp: float) -> _Bodies:
    """Find the maxima of the height, after a mean over a small square; none where the stain is too thick."""
    shallow, deepest, nucleus = (um / mpp * DEPTH_UNIT for um in (ROUND_UM, MAX_DEPTH_UM, MAX_NUCLEUS_UM))
    weighed, sides = _height(depth, nuclear, round(shallow), round(deepest)), (_odd(SMOOTH_UM / mpp),) * 2
    height = cv2.boxFilter(weighed, -1, sides, normalize=False, borderType=cv2.BORDER_CONSTANT)
    side = _odd(2 * SMOOTH_UM / mpp)
    thick = (nuclear >= nucleus) | ((depth >= deepest) & (nuclear == 0))
    y, x = np.nonzero((height == cv2.dilate(height, np.ones((side, side), np.uint8))) & (depth > 0) & ~thick)
    order = np.lexsort((x, y, -height[y, x]))
    y, x = y[order], x[order]
    radius = np.minimum(depth[y, x], shallow).astype(np.float32) / np.float32(DEPTH_UNIT)
    return _Bodies(np.stack([y, x], axis=1), height, radius)


def _height(
    depth: NDArray[np.float32], nuclear: NDArray[np.float32], shallow: int, deepest: int
) -> NDArray[np.float32]:
    """Weigh the depths; deep inside a clump only the nuclei separate cells."""
    outer, inner = np.minimum(depth, shallow), np.clip(depth, shallow, deepest) - shallow
    return np.asarray(8 * outer + inner + 4 * nuclear, np.float32)


def _odd(px: float) -> int:
    return 2 * max(1, round(px / 2)) + 1


def _owners(bodies: _Bodies, mpp: float) -> Places:
    """Return each body the one that stands for its cell; -1 where the chain to it is longer than `JOINS`."""
    parent = np.arange(len(bodies.place))
    pairs = cKDTree(bodies.place).query_pairs(SPAN_UM / mpp, output_type="ndarray")
    higher, lower = np.sort(pairs, axis=1).T
    joined = _are_one(bodies, higher, lower, mpp)
    np.minimum.at(parent, lower[joined], higher[joined])
    owner = parent
    for _ in range(JOINS - 1):
        owner = parent[owner]
    return np.where(parent[owner] == owner, owner, -1)


def _are_one(bodies: _Bodies, higher: Places, lower: Places, mpp: float) -> Mask:
    apart = np.linalg.norm(bodies.place[higher] - bodies.place[lower], axis=1) * mpp
    wide, narrow = bodies.radius[higher] * mpp, bodies.radius[lower] * mpp
    near = apart - wide - narrow <= NEAR_UM
    lobes = np.maximum(wide, narrow) <= LOBE_RADIUS_UM
    fragment = (narrow <= FRAGMENT_RADIUS_UM) & (apart - wide - narrow <= TOUCH_UM)
    return np.asarray(near & ((apart <= ONE_BODY_UM) | lobes | fragment) | _without_waist(bodies, higher, lower))


def _without_waist(bodies: _Bodies, higher: Places, lower: Places) -> Mask:
    start = bodies.place[lower]
    way = (bodies.place[higher] - start)[:, None, :] * np.linspace(0, 1, WAIST_SAMPLES)[:, None]
    y, x = (start[:, None, :] + np.rint(way).astype(np.int64)).transpose(2, 0, 1)
    along = bodies.height[y, x]
    return np.asarray(along.min(axis=1) >= WAIST * along[:, 0])


def _claimed(cells: Mask, bodies: _Bodies, owner: Places, mpp: float) -> Places:
    """Return every pixel to the owner of the body whose disc is nearest (an additively weighted Voronoi diagram)."""
    nearest = np.full(cells.shape, SLACK_UM / mpp, np.float64)
    taken = np.full(cells.shape, -1, np.int64)
    for body, (y, x) in enumerate(bodies.place):
        reach = int(np.ceil(bodies.radius[body] + SLACK_UM / mpp))
        window = Box(y, x, y + 1, x + 1).grow(reach).clip((cells.shape[0], cells.shape[1]))
        rows, columns = np.ogrid[window.slices]
        beyond = np.sqrt((rows - y) ** 2 + (columns - x) ** 2) - bodies.radius[body]
        closer = cells[window.slices] & (beyond < nearest[window.slices])
        nearest[window.slices][closer] = beyond[closer]
        taken[window.slices][closer] = owner[body]
    return taken


def _numbered(taken: Places, labelled: Mask, bodies: _Bodies, owner: Places) -> Ids:
    ids = np.zeros(taken.shape, np.int32)
    windows = ndimage.find_objects(taken + 1)
    for number, one in enumerate(np.unique(owner[owner >= 0]), start=1):
        window = windows[one]
        mine = bodies.place[owner == one] - [side.start for side in window]
        whole = _whole(taken[window] == one, mine, taken[window] < 0)
        ids[window][_tight(whole, labelled[window])] = number
    return ids


def _whole(mask: Mask, places: Places, free: Mask) -> Mask:
    """Keep the pixels that are connected with a maximum of their owner, and bridge lobes that do not touch."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    inside = ((places >= 0) & (places < mask.shape)).all(axis=1)
    kept = np.unique(parts[tuple(places[inside].T)])
    solid: Mask = np.isin(parts, kept[kept > 0])
    return solid | (convex_hull_image(solid) & free) if (kept > 0).sum() > 1 else solid


def _tight(whole: Mask, labelled: Mask) -> Mask:
    """Take closed gaps back where the cell holds together without them."""
    _, parts = cv2.connectedComponents((whole & labelled).astype(np.uint8), connectivity=8)
    sizes = np.bincount(parts.ravel())[1:]
    if sizes.max(initial=0) < ONE_PIECE * sizes.sum():
        return whole
    return np.asarray(ndimage.binary_fill_holes(parts == 1 + int(sizes.argmax())))


def _cells(place: Box, crowd: NDArray[np.uint8], mpp: float) -> Iterator[Cell]:
    ids = _label_crowd(crowd, mpp)
    for index, window in enumerate(ndimage.find_objects(ids), start=1):
        if window is not None:
            corner = (place.y0 + window[0].start, place.x0 + window[1].start)
            yield _cell(ids[window] == index, crowd[window] == NUCLEUS).shifted(*corner)


def _cell(mask: Mask, nucleus: Mask) -> Cell:
    y, x = np.nonzero(mask)
    centroid = (float(y.mean()) + 0.5, float(x.mean()) + 0.5)
    box = Box(0, 0, mask.shape[0], mask.shape[1])
    nuclei = tuple(ring for ring in _rings(mask & nucleus) if Polygon(ring).area >= SPECK_PX)
    return Cell(centroid, box, len(y), int((mask & nucleus).sum()), _rings(mask)[0], nuclei)


def _rings(mask: Mask) -> list[NDArray[np.float64]]:
    """Follow the outer borders of a mask's parts, largest first, and leave out points that a line replaces."""
    borders = find_contours(np.pad(mask, 1).astype(np.uint8), 0.5, fully_connected="high")
    parts = sorted((Polygon(border[:, ::-1] - 0.5) for border in borders), key=lambda part: -part.area)
    outer = [part for part in parts if part.exterior.is_ccw == parts[0].exterior.is_ccw]
    return [np.asarray(part.simplify(SIMPLIFY_PX).exterior.coords) for part in outer]
