"""The label image of cells, whose values are the column `instance` of the table of cells."""

import numpy as np
import pytest
import shapely
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from sgcldff.inference.outputs import create_labels, instance_writer

SHAPE, SHARD = (300, 420), 64


def circle(y, x, radius):
    turns = np.linspace(0, 2 * np.pi, 60)
    return np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1)


def random_circles(rng):
    """Draw circles, in the order of the shards in which their centres lie."""
    places = rng.uniform((0, 0, 3), (*SHAPE, 20), (40, 3))
    return [circle(*place) for place in sorted(places, key=lambda place: (place[0] // SHARD, place[1] // SHARD))]


def numbered(outlines):
    """Number every pixel by an independent test of its centre; the last of overlapping cells wins."""
    rows, columns = np.mgrid[0.5 : SHAPE[0], 0.5 : SHAPE[1]]
    truth = np.zeros(SHAPE, np.uint32)
    for number, outline in enumerate(outlines, start=1):
        truth[shapely.contains_xy(shapely.Polygon(outline), columns, rows)] = number
    return truth


@pytest.mark.slow
@pytest.mark.parametrize("in_order", [True, False])
@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_every_pixel_holds_the_number_of_its_cell(tmp_path_factory, in_order, seed):
    root, rng = tmp_path_factory.mktemp("instances"), np.random.default_rng(seed)
    labels, outlines = create_labels(root, SHAPE, 32, SHARD), random_circles(rng)
    if not in_order:
        rng.shuffle(outlines)
    with instance_writer(root, labels, in_order=in_order) as write:
        for number, outline in enumerate(outlines, start=1):
            write(number, outline)
    image = zarr.open_array(root / "labels" / "cells" / "0", mode="r")
    assert (image.dtype, image.chunks, image.shards) == (np.uint32, labels.chunks, labels.shards)
    assert (image[:] != numbered(outlines)).sum() <= 2


def test_shards_without_cells_are_not_written(tmp_path):
    labels = create_labels(tmp_path, SHAPE, 32, SHARD)
    with instance_writer(tmp_path, labels) as write:
        write(1, circle(30, 30, 10))
    assert len([path for path in (tmp_path / "labels" / "cells" / "0" / "c").rglob("*") if path.is_file()]) == 1
