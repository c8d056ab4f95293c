import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgcldff.core.errors import InputError
from sgcldff.core.geometry import Box, TileGrid

SIDES = st.integers(-40, 40)
BOXES = st.builds(lambda y, x, h, w: Box(y, x, y + h, x + w), SIDES, SIDES, st.integers(0, 40), st.integers(0, 40))
GRIDS = st.builds(
    lambda shape, tile, halo, many: TileGrid(shape, tile, halo, tile * many),
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.integers(1, 24),
    st.integers(0, 9),
    st.integers(1, 4),
)


def painted(box, shape=(60, 60)):
    """Mark a box pixel by pixel: slow but certain."""
    return np.array([[box.contains(y, x) for x in range(shape[1])] for y in range(shape[0])])


@given(GRIDS)
def test_cores_and_shards_partition_the_slide(grid):
    by_tile, by_shard = np.zeros(grid.shape, int), np.zeros(grid.shape, int)
    for shard in grid.shards:
        by_shard[shard.slices] += 1
        for tile in grid.tiles(shard):
            by_tile[tile.core.slices] += 1
            assert tile.core.overlap(shard) == tile.core
    assert (by_tile == 1).all()
    assert (by_shard == 1).all()


@given(GRIDS, st.integers(1, 5))
def test_tiles_lie_on_one_lattice_whatever_the_shard(grid, many):
    other = TileGrid(grid.shape, grid.tile_px, grid.halo_px, grid.tile_px * many)
    ours, theirs = ({tile for shard in g.shards for tile in g.tiles(shard)} for g in (grid, other))
    assert ours == theirs
    side = grid.tile_px + 2 * grid.halo_px
    assert {tile.read.shape for tile in ours} == {(side, side)}
    assert all(tile.read.grow(-grid.halo_px).y0 % grid.tile_px == 0 for tile in ours)


@given(GRIDS)
def test_reads_contain_core_and_halo(grid):
    for tile in grid.tiles(grid.shard(len(grid) - 1)):
        wanted = tile.core.grow(grid.halo_px)
        assert wanted.overlap(tile.read) == wanted


@given(BOXES, BOXES)
def test_overlap_contains_the_pixels_of_both(one, other):
    both = painted(one) & painted(other)
    assert (painted(one.overlap(other)) == both).all()
    assert one.intersects(other) == bool(np.intersect1d(*(list(pixels(b)) for b in (one, other))).size)


def pixels(box):
    return (y * 1000 + x for y in range(box.y0, box.y1) for x in range(box.x0, box.x1))


@given(BOXES, st.integers(1, 60), st.integers(1, 60))
def test_clip_keeps_the_part_inside(box, height, width):
    clipped = box.clip((height, width))
    image = np.arange(height * width).reshape(height, width)
    assert image[clipped.slices].size == (painted(box)[:height, :width]).sum()
    assert image[clipped.slices].shape == clipped.shape


@given(BOXES, BOXES, st.integers(0, 9))
def test_moves_undo_each_other(box, outer, margin):
    assert box.grow(margin).grow(-margin) == box
    assert box.within(outer).shift(outer.y0, outer.x0) == box
    assert box.within(box) == Box.of(box.shape)


def test_shards_are_numbered_row_by_row():
    grid = TileGrid((100, 250), 50, 10, 100)
    assert len(grid) == len(grid.shards) == 3
    assert grid.shard(2) == Box(0, 200, 100, 250)
    assert pickle.loads(pickle.dumps(grid)) == grid
    for outside in (-1, 3):
        with pytest.raises(IndexError, match="of 3"):
            grid.shard(outside)


@pytest.mark.parametrize(
    "settings", [((10, 10), 32, 8, 48), ((0, 10), 32, 8, 32), ((10, 10), 0, 8, 32), ((10, 10), 32, -1, 32)]
)
def test_impossible_grids_are_refused(settings):
    with pytest.raises(InputError):
        TileGrid(*settings)
