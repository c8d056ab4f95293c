"""What the gate sees of a slide: alike whatever the part, and through whichever level."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgcldff.core.geometry import Box
from sgcldff.core.settings import InferSpec, ModelSpec
from sgcldff.data.synthetic import SmearSpec, render_field
from sgcldff.inference import plan_slide
from sgcldff.inference.gate import Area
from sgcldff.inference.tile_selection import BEYOND_UM, look_at, near_usable, select_tiles
from sgcldff.slides import open_slide
from sgcldff.slides.images import rescale
from tests.sgcldff.inference.reading import REFERENCE
from tests.sgcldff.slides.stored import write_tiff

MPP = 0.25
SIDE = 1900
"""Of each half of the slide, px: 4.6 blocks."""


@pytest.fixture(scope="module")
def smear(tmp_path_factory):
    """A monolayer beside red cells that lie over each other; the file, and which of its pixels are white cell."""
    halves = [
        render_field(replace(SmearSpec(wbc_per_mm2=300, red_coverage=cover), mpp=MPP), (SIDE, SIDE), rng)
        for cover, rng in ((0.4, np.random.default_rng(1)), (1.5, np.random.default_rng(2)))
    ]
    rgb, target = (np.hstack([getattr(half, name) for half in halves]) for name in ("rgb", "target"))
    levels = [rescale(rgb, MPP, MPP * shrink) for shrink in (1, 4)]
    path = tmp_path_factory.mktemp("smear") / "smear.tiff"
    write_tiff(path, levels, resolution=(1e4 / MPP,) * 2, resolutionunit="CENTIMETER")
    return path, target > 0


@pytest.fixture(scope="module", params=["as stored", "brought to its scale"])
def plan(smear, tmp_path_factory, request):
    source = open_slide(smear[0], mpp=MPP if request.param == "as stored" else 0.15)
    spec = InferSpec(gate=replace(InferSpec().gate, smallest_um2=0))
    yield plan_slide(source, ModelSpec(), REFERENCE, spec, tmp_path_factory.mktemp("results"))
    source.close()


def whole(plan):
    return Box(0, 0, *(-(-side // plan.gate_step) for side in plan.grid.shape))


def test_a_slightly_coarser_level_is_looked_at_as_it_is(plan):
    scale = {MPP: 4 * MPP, 0.15: plan.gate_mpp}
    assert plan.gate.mpp == pytest.approx(scale[plan.slide.mpp])
    assert plan.gate_mpp == pytest.approx(0.8)


@given(data=st.data())
def test_every_part_is_seen_as_in_the_whole(plan, data):
    full, entire = whole(plan), look_at(plan, whole(plan))
    y, x = (data.draw(st.integers(0, side - 1)) for side in full.shape)
    part = Box(y, x, data.draw(st.integers(y + 1, full.y1)), data.draw(st.integers(x + 1, full.x1)))
    look = look_at(plan, part)
    np.testing.assert_array_equal(look.places, entire.places[part.slices])
    row, column = look.areas.corner
    rows, columns = look.areas.codes.shape
    np.testing.assert_array_equal(look.areas.codes, entire.areas.codes[row : row + rows, column : column + columns])
    np.testing.assert_array_equal(near_usable(plan, part, look).places, counted(plan)[part.slices])


def test_places_beside_usable_blocks_of_another_part_are_read(plan):
    full, side, reread = whole(plan), plan.block_px // plan.gate_step, 0
    for x in range(side, full.width, side):
        part = replace(full, x0=x)
        look = look_at(plan, part)
        kept = near_usable(plan, part, look)
        np.testing.assert_array_equal(kept.places, counted(plan)[part.slices])
        reread += kept.areas.corner != look.areas.corner
    assert reread


def counted(plan):
    """Return the places that lie in the usable area of the whole slide, or near it."""
    full = whole(plan)
    look, side = look_at(plan, full), plan.block_px // plan.gate_step
    codes = look.areas.codes.repeat(side, axis=0).repeat(side, axis=1)[full.slices]
    reach = int(np.ceil(BEYOND_UM / plan.gate_mpp))
    near = cv2.dilate((codes == Area.MONOLAYER).astype(np.uint8), np.ones((2 * reach + 1,) * 2, np.uint8))
    return look.places & near.astype(bool)


@pytest.mark.parametrize("plan", ["as stored"], indirect=True)
def test_white_cells_are_read_and_only_in_the_usable_area(smear, plan):
    selection = select_tiles(plan, Box.of(plan.grid.shape))
    kinds = {Area(code) for code in selection.areas.codes.ravel()}
    assert {Area.MONOLAYER, Area.THICK} <= kinds
    read = np.zeros(plan.grid.shape, bool)
    for job in selection.jobs:
        read[job.tile.core.slices] |= job.keep
    cells = rescale(smear[1].astype(np.uint8), MPP, plan.model.mpp, labels=True)[: read.shape[0], : read.shape[1]] > 0
    middle = read.shape[1] // 2
    assert read[:, : middle - 700][cells[:, : middle - 700]].mean() > 0.99
    assert read[:, middle:].mean() < read[:, :middle].mean() / 2 < 0.2
