"""The low-power look at a shard: which tiles are read, and what kind of smear its blocks are."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sgcldff.core.arrays import Mask
from sgcldff.core.geometry import Box, Tile
from sgcldff.inference.gate import Area, Gate
from sgcldff.inference.plan import Plan, at_gate_scale, gate_factor, opened

REACH_UM = 14.0
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


def select_tiles(plan: Plan, box: Box) -> TileSelection:
    """Select the tiles to be read in a box whose corner lies on the lattice of tiles."""
    step, gate = gate_factor(plan.spec, plan.model), plan.gate
    slide = at_gate_scale(opened(plan.slide), gate.mpp)
    seen = Box(box.y0 // step, box.x0 // step, -(-box.y1 // step), -(-box.x1 // step))
    whole = (-(-plan.grid.shape[0] // step), -(-plan.grid.shape[1] // step))
    around = whole_blocks(seen.grow(math.ceil(REACH_UM / gate.mpp)).clip(whole), gate.block_px).clip(whole)
    margin = gate.reach_px
    rgb = slide.read_mirrored(around.grow(margin))
    inner = Box.of(around.shape).shift(margin, margin)
    corner = (around.y0 // gate.block_px, around.x0 // gate.block_px)
    areas = Areas(gate.areas(rgb[inner.slices]), corner)
    if not plan.gated:
        return TileSelection(tuple(TileJob(tile, None) for tile in plan.grid.tiles(box)), areas, 0)
    places = gate.places(rgb)[inner.slices]
    if plan.spec.usable_only:
        places &= near_usable(areas, places.shape, gate)
    side = plan.spec.gate.tile_px
    jobs = tuple(tiles_over(places[seen.within(around).slices], box, side, plan.spec.halo_px, step))
    return TileSelection(jobs, areas, max(0, -(-box.height // side) * -(-box.width // side) - len(jobs)))


def whole_blocks(box: Box, side: int) -> Box:
    """Grow a box to whole blocks of the slide's lattice."""
    return Box(box.y0 // side * side, box.x0 // side * side, -(-box.y1 // side) * side, -(-box.x1 // side) * side)


def near_usable(areas: Areas, shape: tuple[int, int], gate: Gate) -> Mask:
    """Mark what lies in usable blocks or within `REACH_UM` of one."""
    usable = np.isin(areas.codes, [area.value for area in Area if area.usable]).astype(np.uint8)
    whole = usable.repeat(gate.block_px, axis=0).repeat(gate.block_px, axis=1)[: shape[0], : shape[1]]
    side = 2 * math.ceil(REACH_UM / gate.mpp) + 1
    return np.asarray(cv2.dilate(whole, np.ones((side, side), np.uint8)), bool)


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
    _, ids = cv2.connectedComponents(places.astype(np.uint8), connectivity=8)
    for number, (rows, columns) in enumerate(ndimage.find_objects(ids), start=1):
        place = Box(rows.start, columns.start, rows.stop, columns.stop)
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
