"""The gate: what it opens for, that shards agree to the last bit, and what it says of a smear."""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from sgcldff.core.geometry import Box
from sgcldff.core.settings import GateSpec
from sgcldff.data.synthetic import SmearSpec, random_smear, render_field
from sgcldff.data.synthetic.layout import Spot
from sgcldff.inference.gate import Area, Gate
from sgcldff.inference.gate.smear_areas import Blocks, block_px
from sgcldff.saliency.priors.ramf import matched_filter
from sgcldff.slides.images import rescale

MPP = 0.8


def afar(spec, shape=(1024, 1024), seed=0):
    """Draw a field and show it at the gate's scale; gives the image and the truth."""
    field = render_field(spec, shape, np.random.default_rng(seed))
    return rescale(field.rgb, spec.mpp, MPP), field


@pytest.fixture(scope="module")
def smear():
    return afar(SmearSpec(wbc_per_mm2=150))


@pytest.fixture(scope="module")
def gate(smear):
    return Gate.fit(GateSpec(), smear[0], MPP)


def test_scores_follow_the_filter_of_the_prior(smear, gate):
    image, _ = smear
    response = np.maximum(matched_filter(image, gate.stain), 0)
    core = response**2 / (response**2 + 0.25)
    expected = gaussian_filter(core.astype(np.float64), 0.15 * 13.5 / MPP, mode="mirror", truncate=3.2)
    scores = gate.scores(image)
    assert scores.dtype == np.float32
    assert np.abs(scores - expected).max() < 0.02
    assert np.abs(scores - expected).mean() < 0.004


def test_places_cover_every_white_cell_and_leave_most_of_the_smear_out(smear, gate):
    image, field = smear
    places = gate.places(image)
    assert places.dtype == bool
    assert places.shape == image.shape[:2]
    cells = rescale(field.target, 0.2, MPP, labels=True) > 0
    assert cells.any()
    assert places[cells].mean() > 0.99
    assert places.mean() < 0.25


def test_platelets_red_cells_and_glass_do_not_open_the_gate(gate):
    image, _ = afar(SmearSpec(wbc_per_mm2=0), seed=5)
    assert gate.places(image).mean() < 0.02
    glass = np.full((200, 200, 3), 236, np.uint8)
    assert not gate.places(glass).any()


@given(
    box=st.tuples(*[st.integers(0, 255)] * 4),
    margin_um=st.floats(0, 12),
    threshold=st.floats(0.01, 0.6),
    mpp=st.sampled_from([0.4, 0.8, 1.2, 1.6]),
)
def test_a_part_with_its_reach_answers_as_the_whole_does(smear, box, margin_um, threshold, mpp):
    image = smear[0]
    gate = Gate.fit(GateSpec(threshold=threshold, margin_um=margin_um), image, mpp)
    (y0, y1), (x0, x1) = sorted(box[:2]), sorted(box[2:])
    part = Box(y0, x0, y1 + 1, x1 + 1)
    read = part.grow(gate.reach_px).clip(image.shape[:2])
    for answer in (gate.scores, gate.places):
        alone = answer(np.ascontiguousarray(image[read.slices]))[part.within(read).slices]
        np.testing.assert_array_equal(alone, answer(image)[part.slices])


@pytest.mark.parametrize("glass", [0, 3, 30])
def test_glass_around_a_smear_changes_little(smear, glass):
    image, field = smear
    blank, _ = afar(SmearSpec(wbc_per_mm2=0, red_coverage=0, illumination=0), seed=9)
    gate = Gate.fit(GateSpec(threshold=0.25), np.vstack([image, *[blank] * glass]), MPP)
    assert (gate.areas(image) == Area.MONOLAYER).all()
    places = gate.places(image)
    assert places[rescale(field.target, 0.2, MPP, labels=True) > 0].mean() > 0.99
    assert places.mean() < 0.2


def test_glass_alone_is_background_and_not_read():
    blank, _ = afar(SmearSpec(wbc_per_mm2=0, red_coverage=0, illumination=0), seed=9)
    for survey in (np.full((300, 300, 3), 236, np.uint8), blank):
        gate = Gate.fit(GateSpec(threshold=0.25), survey, MPP)
        assert gate.places(survey).mean() < 0.1
        assert (gate.areas(survey) == Area.BACKGROUND).all()


def test_reach_is_enough_and_hardly_less_would_do(gate):
    glass = np.full((121, 121, 3), 236, np.uint8)
    stained = glass.copy()
    stained[:, :60] = (60, 20, 110)
    sensitive = replace(gate, spec=replace(gate.spec, threshold=float(gate.scores(glass).max()) + 1e-4))
    reached = np.flatnonzero(sensitive.places(stained)[60])
    assert gate.reach_px - 1 <= reached.max() - 59 <= gate.reach_px


def test_a_gate_travels_to_a_worker(smear, gate):
    packed = pickle.dumps(gate)
    assert len(packed) < 1000
    np.testing.assert_array_equal(pickle.loads(packed).places(smear[0]), gate.places(smear[0]))


def test_images_smaller_than_the_reach_are_judged(gate):
    for shape in ((1, 1), (1, 40), (3, 2)):
        assert gate.places(np.full((*shape, 3), 236, np.uint8)).shape == shape
        assert gate.areas(np.full((*shape, 3), 236, np.uint8)).tolist() == [[Area.BACKGROUND]]


@pytest.mark.parametrize("seed", range(4))
def test_areas_tell_glass_thick_thin_and_blurred_from_the_monolayer(seed):
    stain = replace(random_smear(seed, 0.2), illumination=0.03)
    middle, _ = afar(replace(stain, red_coverage=0.5), seed=seed)
    gate = Gate.fit(GateSpec(), middle, MPP)
    assert (gate.areas(middle) == Area.MONOLAYER).all()
    assert (gate.areas(cv2.GaussianBlur(middle, (0, 0), 2 / MPP)) == Area.OUT_OF_FOCUS).all()
    for cover, whites, area in ((1.5, 0, Area.THICK), (0.05, 0, Area.FEATHERED), (0, 0, Area.BACKGROUND)):
        image, _ = afar(replace(stain, red_coverage=cover, wbc_per_mm2=whites), seed=seed)
        assert (gate.areas(image) == area).mean() >= 0.75


def test_a_sheet_of_white_cells_is_not_called_thick(gate):
    lattice = [Spot("lymphocyte", y, x) for y in range(0, 700, 40) for x in range(0, 700, 40)]
    field = render_field(SmearSpec(), (640, 640), np.random.default_rng(0), lattice)
    assert (field.target > 0).mean() > 0.9
    assert not (gate.areas(rescale(field.rgb, 0.2, MPP)) == Area.THICK).any()


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 1), st.integers(0, 1), st.integers(0, 99))
def test_a_block_is_judged_alike_alone_and_in_the_whole(height, width, row, column, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 1 + seed % 3)
    gate = Gate.fit(GateSpec(), image, MPP)
    whole, side = gate.areas(image), block_px(MPP)
    assert whole.shape == (-(-height // side), -(-width // side))
    row, column = min(row, whole.shape[0] - 1), min(column, whole.shape[1] - 1)
    block = image[row * side : (row + 1) * side, column * side : (column + 1) * side]
    assert gate.areas(block)[0, 0] == whole[row, column]


def test_cells_are_counted_in_the_monolayer_alone():
    assert [area for area in Area if area.usable] == [Area.MONOLAYER]


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([2, 6, 16]), st.integers(1, 6), st.integers(0, 99))
def test_sums_over_blocks_are_those_of_each_block_alone(height, width, side, lag, seed):
    values = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    blocks = Blocks.of((height, width), side)
    shares, roughness = blocks.share((values > 99).astype(np.uint8)), blocks.roughness(values, lag)
    for row, column in np.ndindex(shares.shape):
        block = values[row * side : (row + 1) * side, column * side : (column + 1) * side].astype(int)
        apart = (block[:, lag:] - block[:, :-lag])[::2]
        assert blocks.sizes[row, column] == block.size
        assert shares[row, column] == pytest.approx((block > 99).mean())
        assert roughness[row, column] == pytest.approx((apart**2).mean() if apart.size else 0)
