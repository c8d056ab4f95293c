"""The label image of cells, whose values are the column `instance` of the table of cells."""

import pickle
from collections import Counter

import numpy as np
import pytest
import shapely
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_zarr_models import open_ome_zarr, v05

from sgcldff.core.geometry import Box, lattice
from sgcldff.inference import Step, read_cells, write_label_images
from sgcldff.inference.outputs import ShardFiles, create_instances, create_labels, finest_labels, paint_shard
from sgcldff.slides import ScaledSlide
from tests.sgcldff.inference.reading import inferred

SHAPE, SHARD = (300, 420), 64


def circle(y, x, radius):
    turns = np.linspace(0, 2 * np.pi, 60)
    return np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1)


def random_circles(rng):
    return [circle(*place) for place in rng.uniform((0, 0, 3), (*SHAPE, 20), (40, 3))]


def numbered(outlines):
    """Number every pixel by an independent test of its centre; the last of overlapping cells wins."""
    rows, columns = np.mgrid[0.5 : SHAPE[0], 0.5 : SHAPE[1]]
    truth = np.zeros(SHAPE, np.uint32)
    for number, outline in enumerate(outlines, start=1):
        truth[shapely.contains_xy(shapely.Polygon(outline), columns, rows)] = number
    return truth


def painted(root, outlines):
    """Write all shards of the label image of cells."""
    create_labels(root, SHAPE, 32, SHARD)
    files = create_instances(root, ShardFiles.of(finest_labels(root)))
    for row, column in lattice(Box.of(SHAPE), SHARD):
        paint_shard(files, row, column, list(enumerate(outlines, start=1)))
    return root / "labels" / "cells" / "0"


@pytest.mark.slow
@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_every_pixel_holds_the_number_of_its_cell(tmp_path_factory, seed):
    root, rng = tmp_path_factory.mktemp("instances"), np.random.default_rng(seed)
    outlines = random_circles(rng)
    rng.shuffle(outlines)
    image = zarr.open_array(painted(root, outlines), mode="r")
    assert (image.dtype, image.chunks, image.shards) == (np.uint32, (32, 32), (SHARD, SHARD))
    assert (image[:] != numbered(outlines)).sum() <= 2


def test_shards_without_cells_are_not_written(tmp_path):
    array = painted(tmp_path, [circle(30, 30, 10)])
    assert len([path for path in (array / "c").rglob("*") if path.is_file()]) == 1


def test_the_numbers_of_cells_are_those_of_the_table(slide, tmp_path):
    """Numbers run through the shards in their order, also where a cell reaches into others."""
    plan = inferred(slide, tmp_path)
    cells = list(read_cells(plan))
    counts = Counter(cell.shard for cell in cells)
    overview = np.zeros((10, 10, 3), np.uint8)

    def backwards(tasks):
        for task in reversed(tasks):
            pickle.loads(pickle.dumps(task))(None)

    write_label_images(plan, Step.TYPE, counts, (overview, 10.0), backwards)
    image = zarr.open_array(plan.labels / "labels" / "cells" / "0", mode="r")[:]
    for number, cell in enumerate(cells, start=1):
        y, x = (int(at / ScaledSlide(slide, plan.model.mpp).factor) for at in cell.centroid)
        assert image[y, x] == number
    assert set(np.unique(image)) == set(range(len(cells) + 1))
    groups = [zarr.open_group(plan.labels / part, mode="r") for part in ("", "labels", "labels/cells")]
    assert [type(open_ome_zarr(group)) for group in groups] == [v05.Image, v05.Labels, v05.ImageLabel]
