"""The low-power look at a shard: which tiles are read, and what kind of smear its blocks are."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Mask
from sgcldff.core.geometry import Box, Tile
from sgcldff.inference.gate import Area, Blocks, block_px
from sgcldff.inference.plan import Plan, opened
from sgcldff.slides import ScaledSlide

BEYOND_UM = 14.0
"""Places this far outside of the usable area are read: the rest of cells whose centres may lie inside."""


@dataclass(frozen=True, eq=False)
class TileJob:
    """A tile and the pixels of its core whose labels are kept."""

    tile: Tile
    keep: Mask | None
    """Of the core's shape; None: all of them."""


@dataclass(frozen=True, eq=False)
class Areas:
    """What kind of smear the blocks of a part of the slide are."""

    codes: NDArray[np.uint8]
    """Codes of `Area`, (rows, columns)."""
    corner: tuple[int, int]
    """Row and column of the first block among those of the slide."""

    def at(self, y: float, x: float, block_px: int) -> Area:
        """Return the area of a position, given in px in which a block is `block_px` wide."""
        return Area(int(self.codes[int(y) // block_px - self.corner[0], int(x) // block_px - self.corner[1]]))


@dataclass(frozen=True, eq=False)
class TileSelection:
    """The tiles to be read in a part of the slide."""

    jobs: tuple[TileJob, ...]
    areas: Areas
    skipped: int
    """Tiles that reading everything would have needed beyond the jobs'."""


@dataclass(frozen=True, eq=False)
class Look:
    """What the gate sees of a box of the lattice of points at which it answers."""

    places: Mask
    """Which points of the box must be read."""
    areas: Areas
    """Of all blocks that the box touches."""


@dataclass(frozen=True)
class LatticeAxis:
    """Where the points of the lattice lie among the pixels that the gate looks at, along one axis."""

    spacing: float
    """Pixels from point to point."""
    points: int
    """Of the whole slide."""
    pixels: int
    """Of the whole slide."""

    def nearest(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the pixels in which points lie."""
        within = ((np.arange(start, stop) + 0.5) * self.spacing).astype(np.int64)
        return np.asarray(np.minimum(within, self.pixels - 1))

    def first(self, point: int) -> int:
        """Return the first pixel of a point; past the last point, the end of the slide."""
        return self.pixels if point >= self.points else min(int(point * self.spacing), self.pixels - 1)

    def edges(self, start: int, stop: int, side: int) -> NDArray[np.int64]:
        """Return the first pixels of blocks `side` points wide, and the end of the last."""
        return np.array([*map(self.first, range(start, stop, side)), self.first(stop)])


def select_tiles(plan: Plan, box: Box) -> TileSelection:
    """Select the tiles to be read in a box whose corner lies on the lattice of tiles."""
    step, spec = plan.gate_step, plan.spec
    part = Box(box.y0 // step, box.x0 // step, -(-box.y1 // step), -(-box.x1 // step))
    look = look_at(plan, part)
    if not plan.gated:
        return TileSelection(tuple(TileJob(tile, None) for tile in plan.grid.tiles(box)), look.areas, 0)
    if spec.usable_only:
        look = near_usable(plan, part, look)
    side = spec.gate.tile_px
    jobs = tuple(tiles_over(look.places, box, side, spec.halo_px, step))
    return TileSelection(jobs, look.areas, max(0, -(-box.height // side) * -(-box.width // side) - len(jobs)))


def look_at(plan: Plan, part: Box) -> Look:
    """Look at a box of the lattice, which may leave the slide, and at the blocks that it touches."""
    gate, slide = plan.gate, ScaledSlide(opened(plan.slide), plan.gate.mpp)
    whole = Box(0, 0, *(-(-length // plan.gate_step) for length in plan.grid.shape))
    part, side = part.overlap(whole), block_px(plan.gate_mpp)
    around = whole_blocks(part, side).overlap(whole)
    rows, columns = (
        LatticeAxis(plan.gate_mpp / gate.mpp, points, pixels)
        for points, pixels in zip(whole.shape, slide.shape, strict=True)
    )
    row_edges, column_edges = rows.edges(around.y0, around.y1, side), columns.edges(around.x0, around.x1, side)
    pixels = Box(int(row_edges[0]), int(column_edges[0]), int(row_edges[-1]), int(column_edges[-1]))
    margin = gate.reach_px + 1  # a point may lie in the first pixel of the next block
    rgb = slide.read_mirrored(pixels.grow(margin))
    blocks = Blocks(row_edges - pixels.y0, column_edges - pixels.x0)
    codes = gate.areas(rgb[Box.of(pixels.shape).shift(margin, margin).slices], blocks)
    areas = Areas(codes, (around.y0 // side, around.x0 // side))
    if not plan.gated:
        return Look(np.ones(part.shape, bool), areas)
    y, x = rows.nearest(part.y0, part.y1) - pixels.y0 + margin, columns.nearest(part.x0, part.x1) - pixels.x0 + margin
    return Look(gate.places(rgb).take(y, axis=0).take(x, axis=1), areas)


def whole_blocks(box: Box, side: int) -> Box:
    """Grow a box to whole blocks of the slide's lattice."""
    return Box(box.y0 // side * side, box.x0 // side * side, -(-box.y1 // side) * side, -(-box.x1 // side) * side)


def near_usable(plan: Plan, part: Box, look: Look) -> Look:
    """Leave the places of a box that lie in usable blocks or within `BEYOND_UM` of one.

    Blocks around the box are looked at only if places near its border depend on them.
    """
    reach = math.ceil(BEYOND_UM / plan.gate_mpp)
    kept = look.places & usable(plan, part, look.areas, reach)
    left = look.places & ~kept
    left[reach : max(reach, part.height - reach), reach : max(reach, part.width - reach)] = False
    if not left.any():
        return Look(kept, look.areas)
    areas = look_at(plan, part.grow(reach)).areas
    return Look(look.places & usable(plan, part, areas, reach), areas)


def usable(plan: Plan, part: Box, areas: Areas, reach: int) -> Mask:
    """Mark the points of a box within `reach` of a usable block."""
    codes = np.isin(areas.codes, [area.value for area in Area if area.usable]).astype(np.uint8)
    if codes.all():
        return np.ones(part.shape, bool)
    side = block_px(plan.gate_mpp)
    top, left = areas.corner[0] * side - part.y0, areas.corner[1] * side - part.x0
    blocks = codes.repeat(side, axis=0).repeat(side, axis=1)
    near = cv2.dilate(blocks, np.ones((2 * reach + 1,) * 2, np.uint8))
    return np.asarray(near[-top:, -left:][: part.height, : part.width], bool)


def tiles_over(places: Mask, box: Box, tile_px: int, halo_px: int, step: int) -> Iterator[TileJob]:
    """Lay tiles over the places of a box: one over each place that fits into a tile, a small lattice over larger ones.

    Parameters
    ----------
    places
        (H, W), a pixel for `step` x `step` px of the box.
    box
        Where the places lie, at the model's scale.
    """
    side = max(1, tile_px // step)
    _, ids = cv2.connectedComponents(places.view(np.uint8), connectivity=8)
    outlines, nesting = cv2.findContours(places.view(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    outer = (
        [outline for outline, (*_, parent) in zip(outlines, nesting[0], strict=True) if parent < 0] if outlines else []
    )
    for outline in reversed(outer):  # OpenCV lists them from the bottom up
        x, y = outline[0, 0]
        number = ids[y, x]
        left, top, width, height = cv2.boundingRect(outline)
        place = Box(top, left, top + height, left + width)
        for core in _cores(place, side, (places.shape[0], places.shape[1])):
            own = ids[core.slices] == number
            if own.any():
                yield _job(core, own, box, (tile_px, halo_px, step))


def _cores(place: Box, side: int, shape: tuple[int, int]) -> Iterator[Box]:
    rows, columns = -(-place.height // side), -(-place.width // side)
    top = place.y0 - (rows * side - place.height) // 2
    left = place.x0 - (columns * side - place.width) // 2
    for row in range(rows):
        for column in range(columns):
            y, x = top + row * side, left + column * side
            yield Box(y, x, y + side, x + side).clip(shape)


def _job(core: Box, own: Mask, box: Box, sizes: tuple[int, int, int]) -> TileJob:
    tile_px, halo_px, step = sizes
    y0, x0 = box.y0 + core.y0 * step, box.x0 + core.x0 * step
    whole = Box(y0, x0, y0 + core.height * step, x0 + core.width * step)
    inside = whole.overlap(box)
    spare = tile_px - whole.height, tile_px - whole.width
    top, left = y0 - halo_px - spare[0] // 2, x0 - halo_px - spare[1] // 2
    read = Box(top, left, top + tile_px + 2 * halo_px, left + tile_px + 2 * halo_px)
    keep = own.repeat(step, axis=0).repeat(step, axis=1)[: inside.height, : inside.width]
    return TileJob(Tile(inside, read), keep)
