import math
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely import Polygon

from sgcldff.core.geometry import Box, TileGrid
from sgcldff.inference.instances import REACH_UM, find_cells
from sgcldff.slides.images import read_grey, rescale

MPP = 0.2
REAL = Path(os.environ.get("SGCLDFF_DATA", "../shared/datasets"))
QUICK = settings(deadline=None, max_examples=25)
UM = 1 / MPP


def disc(labels, y, x, radius_um, value):
    """Paint a disc; places and radius in um."""
    centre = (round(x * UM * 16), round(y * UM * 16))
    cv2.circle(labels, centre, round(radius_um * UM * 16), value, -1, shift=4)


def blank(side_um=60):
    return np.zeros((int(side_um * UM),) * 2, np.uint8)


def round_cell(labels, y, x, radius=6.0, nucleus=4.0):
    disc(labels, y, x, radius, 1)
    disc(labels, y, x, nucleus, 2)


def lobes(labels, y, x, count, turn, size=1.9, spread=3.0):
    for at in range(count):
        angle = turn + 2 * math.pi * at / max(count, 3)
        disc(labels, y + spread * math.sin(angle), x + spread * math.cos(angle), size, 2)


PLACES = st.floats(22, 38)
TURNS = st.floats(0, 2 * math.pi)


@QUICK
@given(y=PLACES, x=PLACES, radius=st.floats(3.5, 9.5), share=st.floats(0.45, 0.95))
def test_a_round_cell_is_found_as_drawn(y, x, radius, share):
    labels = blank()
    round_cell(labels, y, x, radius, radius * share)
    (cell,) = find_cells(labels, MPP)
    assert cell.area_px == (labels > 0).sum()
    assert cell.nucleus_px == (labels == 2).sum()
    assert np.allclose(cell.centroid, (y * UM, x * UM), atol=1.1)
    rows, columns = np.nonzero(labels)
    assert cell.box == Box(rows.min(), columns.min(), rows.max() + 1, columns.max() + 1)
    assert Polygon(cell.outline).area == pytest.approx(cell.area_px, rel=0.03)


@QUICK
@given(y=PLACES, x=PLACES, count=st.integers(2, 5), turn=TURNS, spread=st.floats(2.2, 3.6))
def test_the_lobes_of_a_neutrophil_are_one_cell(y, x, count, turn, spread):
    labels = blank()
    disc(labels, y, x, 6.5, 1)
    lobes(labels, y, x, count, turn, spread=spread)
    (cell,) = find_cells(labels, MPP)
    assert cell.area_px == (labels > 0).sum()
    assert cell.nucleus_px == (labels == 2).sum()


@QUICK
@given(y=PLACES, x=PLACES, count=st.integers(3, 5), turn=TURNS, spread=st.floats(2.4, 3.3))
def test_lobes_without_cytoplasm_are_one_cell_with_one_outline(y, x, count, turn, spread):
    labels = blank()
    lobes(labels, y, x, count, turn, size=2.1, spread=spread)
    (cell,) = find_cells(labels, MPP, min_area_um2=20)
    assert cell.nucleus_px == (labels == 2).sum()
    outline = Polygon(cell.outline)
    assert outline.is_valid
    inside = shapely.contains_xy(outline.buffer(1), *(np.argwhere(labels == 2).T[::-1] + 0.5))
    assert inside.mean() > 0.99


@QUICK
@given(
    y=PLACES,
    x=PLACES,
    turn=TURNS,
    radii=st.tuples(st.floats(4, 8), st.floats(4, 8)),
    gap=st.floats(-0.8, 1.0),
    lobed=st.booleans(),
)
def test_touching_cells_are_parted(y, x, turn, radii, gap, lobed):
    labels = blank()
    apart = sum(radii) + gap
    ends = [(y, x), (y + apart * math.sin(turn), x + apart * math.cos(turn))]
    for (cy, cx), radius in zip(ends, radii, strict=True):
        disc(labels, cy, cx, radius, 1)
    for (cy, cx), radius in zip(ends, radii, strict=True):
        disc(labels, cy, cx, 0.7 * radius, 2)
    cells = find_cells(labels, MPP)
    assert len(cells) == 2
    for (cy, cx), radius in zip(ends, radii, strict=True):
        nearest = min(cells, key=lambda c: math.dist(c.centroid, (cy * UM, cx * UM)))
        assert math.dist(nearest.centroid, (cy * UM, cx * UM)) * MPP < 1.0
        assert nearest.area_px * MPP**2 == pytest.approx(math.pi * radius**2, rel=0.15)
    assert sum(cell.area_px for cell in cells) >= 0.98 * (labels > 0).sum()


def test_a_touching_pair_of_lobed_cells_is_parted():
    labels = blank()
    for x in (22, 34.5):
        disc(labels, 30, x, 6.5, 1)
    for x in (22, 34.5):
        lobes(labels, 30, x, 4, 0.4)
    assert len(find_cells(labels, MPP)) == 2


def test_a_solid_clump_is_parted_by_its_nuclei():
    labels = blank(80)
    centres = [(20 + 11 * row, 20 + 11 * column + 5.5 * (row % 2)) for row in range(4) for column in range(4)]
    for y, x in centres:
        disc(labels, y, x, 7.5, 1)
    for y, x in centres:
        disc(labels, y, x, 4, 2)
    cells = find_cells(labels, MPP)
    assert len(cells) == 16
    assert all(min(math.dist(c.centroid, (y * UM, x * UM)) for c in cells) < 3 * UM for y, x in centres)


@pytest.mark.parametrize(("y", "x"), [(0, 30), (30, 0), (1.5, 1.5), (60, 30), (59, 59), (30, 55)])
def test_cells_at_the_border_are_found_with_the_part_that_shows(y, x):
    labels = blank()
    round_cell(labels, y, x)
    (cell,) = find_cells(labels, MPP, min_area_um2=15)
    assert cell.area_px == (labels > 0).sum()
    assert cell.box.clip(labels.shape) == cell.box
    assert Polygon(cell.outline).is_valid
    assert cell.outline.min() >= 0
    assert cell.outline.max() <= labels.shape[0]


def test_what_is_no_cell_is_left_out():
    labels = blank()
    disc(labels, 12, 12, 1.4, 2)  # a platelet
    disc(labels, 12, 40, 6, 1)  # no nucleus
    disc(labels, 40, 12, 6, 1)
    labels[round(40 * UM), round(12 * UM)] = 2  # a speck of nucleus
    round_cell(labels, 42, 42, radius=3.2, nucleus=2.6)
    assert [cell.area_px for cell in find_cells(labels, MPP)] == [(labels[150:, 150:] > 0).sum()]
    assert find_cells(labels, MPP, min_area_um2=40) == ()
    assert find_cells(blank(), MPP) == ()


def test_thick_stain_is_no_cell():
    labels = blank(90)
    disc(labels, 45, 45, 40, 2)
    assert find_cells(labels, MPP) == ()
    labels[labels == 2] = 1
    assert find_cells(labels, MPP) == ()


@pytest.mark.parametrize("mpp", [0.1, 0.25, 0.4, 0.5])
def test_scale_changes_nothing_but_the_pixels(mpp):
    labels = blank()
    round_cell(labels, 15, 15)
    round_cell(labels, 15, 26.5)
    disc(labels, 42, 42, 6.5, 1)
    lobes(labels, 42, 42, 3, 0.2)
    scaled = rescale(labels, MPP, mpp, labels=True)
    ours, theirs = find_cells(labels, MPP), find_cells(scaled, mpp)
    assert len(ours) == len(theirs) == 3
    for one, other in zip(ours, theirs, strict=True):
        assert other.area_px * mpp**2 == pytest.approx(one.area_px * MPP**2, rel=0.06)


def test_shifting_moves_every_part_of_a_cell():
    labels = blank()
    round_cell(labels, 30, 30)
    (cell,) = find_cells(labels, MPP)
    (moved,) = find_cells(np.pad(labels, ((7, 0), (0, 9)))[:, :300], MPP)
    there = cell.shifted(7, 0)
    assert (moved.box, moved.centroid) == (there.box, pytest.approx(there.centroid))
    assert np.array_equal(moved.outline, there.outline)
    assert np.array_equal(moved.nuclei[0], there.nuclei[0])


def test_the_parts_of_a_nucleus_are_outlined():
    labels = blank()
    disc(labels, 30, 30, 6.5, 1)
    for y in (27, 33):
        disc(labels, y, 30, 2, 2)
    disc(labels, 33, 30, 0.6, 1)  # a hole in the lower lobe
    (cell,) = find_cells(labels, MPP)
    areas = sorted(Polygon(part).area for part in cell.nuclei)
    upper = (labels[: 30 * 5] == 2).sum()
    assert areas == pytest.approx([upper, upper], rel=0.05)
    assert all(Polygon(part).is_valid and Polygon(part).within(Polygon(cell.outline)) for part in cell.nuclei)


def crowded(seed, count, side_px):
    """Cells strewn without mercy: overlapping, lobed, torn, in clumps."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side_px, side_px), np.uint8)
    for y, x in rng.uniform(0, side_px * MPP, (count, 2)):
        radius = rng.uniform(3, 9)
        disc(labels, y, x, radius, 1)
        for dy, dx in rng.normal(0, radius / 3, (rng.integers(1, 4), 2)):
            disc(labels, y + dy, x + dx, radius * rng.uniform(0.3, 0.6), 2)
    labels[rng.random(labels.shape) < 0.01] = 0
    return labels


def facts(cells):
    return sorted((cell.box, cell.area_px, cell.nucleus_px, np.round(cell.outline, 6).tobytes()) for cell in cells)


@pytest.mark.slow
@settings(deadline=None, max_examples=5)
@given(seed=st.integers(0, 2**32), count=st.sampled_from([20, 60, 180]), shard=st.sampled_from([128, 320, 448]))
def test_shards_give_the_cells_of_the_whole_once_each(seed, count, shard):
    labels = crowded(seed, count, 600)
    halo = math.ceil(REACH_UM / MPP)
    found = []
    for core in TileGrid(labels.shape, shard, 0, shard).shards:
        read = core.grow(halo).clip(labels.shape)
        cells = find_cells(labels[read.slices], MPP, core=core.within(read))
        found += [cell.shifted(read.y0, read.x0) for cell in cells]
    assert facts(found) == facts(find_cells(labels, MPP))


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 2**32), count=st.sampled_from([60, 400]))
def test_outlines_are_valid_polygons_that_do_not_overlap_much(seed, count):
    labels = crowded(seed, count, 500)
    for cell in find_cells(labels, MPP):
        outline = Polygon(cell.outline)
        assert outline.is_valid
        assert np.array_equal(cell.outline[0], cell.outline[-1])
        assert outline.area > 0.5 * cell.area_px
        low, high = cell.outline.min(axis=0), cell.outline.max(axis=0)
        assert (low >= [cell.box.x0, cell.box.y0]).all()
        assert (high <= [cell.box.x1, cell.box.y1]).all()


@pytest.mark.real
@pytest.mark.skipif(not REAL.is_dir(), reason="no real smears")
def test_single_cell_masks_hold_one_cell():
    masks = sorted((REAL / "zheng").rglob("*.png"))[::10]
    counts = []
    for path in masks:
        grey = read_grey(path)
        labels = (grey >= 64).astype(np.uint8) + (grey >= 192)
        counts.append(len(find_cells(rescale(labels, 13.5 / 65, MPP, labels=True), MPP)))
    assert counts == [1] * len(masks)
