"""Slides at other scales than they are stored at, their overviews and surveys."""

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sgcldff.core.geometry import Box
from sgcldff.slides import ScaledSlide, open_slide
from sgcldff.slides.images import rescale, scaled_shape
from sgcldff.slides.scaled import UNIT, taps
from tests.sgcldff.slides.stored import MPP, PICTURE, SHAPE, drawn, write_tiff


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    path = tmp_path_factory.mktemp("slides") / "pyramid.tif"
    area_levels = (PICTURE, rescale(PICTURE, 1, 2), rescale(PICTURE, 1, 4))
    write_tiff(path, area_levels)
    source = open_slide(path)
    yield source
    source.close()


SCALES = st.sampled_from([0.2, 0.25, 0.31, 0.4, 0.5, 0.77, 1.0, 1.3])
QUICK = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(mpp=SCALES, data=st.data())
def test_a_pixel_does_not_depend_on_the_box(pyramid, mpp, data):
    scaled = ScaledSlide(pyramid, mpp)
    height, width = scaled.shape
    y, x = data.draw(st.integers(-30, height + 5)), data.draw(st.integers(-30, width + 5))
    box = Box(y, x, y + data.draw(st.integers(1, 90)), x + data.draw(st.integers(1, 90)))
    around = Box(-40, -40, height + 100, width + 100)
    for read in (scaled.read, scaled.read_mirrored):
        assert np.array_equal(read(box), read(around)[box.within(around).slices])


@QUICK
@given(mpp=SCALES)
def test_bands_leave_no_seams(pyramid, mpp):
    from sgcldff.slides import scaled as module

    scaled = ScaledSlide(pyramid, mpp)
    whole = scaled.read(Box.of(scaled.shape))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_SOURCE_PX", 5000)
        assert np.array_equal(scaled.read(Box.of(scaled.shape)), whole)


@pytest.mark.parametrize("mpp", [0.125, 0.2, 0.3, 0.45, 0.5])
def test_scaling_agrees_with_opencv(tmp_path, mpp):
    """`cv2.resize` fits the rounded size, so the picture is cut to a size that needs no rounding."""
    picture = drawn((540, 360))
    write_tiff(tmp_path / "a.tif", (picture,))
    scaled = ScaledSlide(open_slide(tmp_path / "a.tif"), mpp)
    assert scaled.shape == scaled_shape((540, 360), MPP, mpp)
    difference = np.abs(scaled.read(Box.of(scaled.shape)).astype(int) - rescale(picture, MPP, mpp))
    assert difference.max() <= 3
    assert difference.mean() < 0.5


@given(st.integers(1, 400), st.floats(0.2, 40), st.data())
def test_weights_are_integers_and_sum_to_one(size, scale, data):
    count = max(1, round(size / scale))
    start = data.draw(st.integers(0, count - 1))
    part = taps(start, count, scale, size)
    assert (part.weight.sum(axis=0) == UNIT).all()
    assert part.index.min() >= 0
    assert part.index.max() < size
    whole = taps(0, count, scale, size)
    ramp = np.arange(size, dtype=np.float64)
    places = [(ramp[t.index] * t.weight).sum(axis=0) / UNIT for t in (part, whole)]
    assert np.array_equal(places[0], places[1][start:])
    inside = (np.arange(start, count) + 0.5) * scale - 0.5
    kept = (inside >= scale) & (inside <= size - 1 - scale)
    assert np.abs(places[0] - inside)[kept].max(initial=0) <= 1 + scale / 16


def test_the_coarsest_sufficient_level_is_read(pyramid):
    assert [ScaledSlide(pyramid, mpp).level for mpp in (0.1, 0.25, 0.4, 0.5, 0.9, 1.0, 8.0)] == [0, 0, 0, 1, 1, 2, 2]


def test_mirrored_reads_fold_at_the_border(pyramid):
    scaled = ScaledSlide(pyramid, MPP)
    folded = np.pad(PICTURE, ((60, 60), (60, 60), (0, 0)), mode="reflect")
    for box in (Box(-60, -60, 30, 30), Box(650, 470, 760, 583), Box(-9, 200, 3, 210)):
        assert np.array_equal(scaled.read_mirrored(box), folded[box.shift(60, 60).slices])


def test_overviews_show_the_entire_slide(pyramid):
    scaled = ScaledSlide(pyramid, 0.2)
    image, mpp = scaled.overview(200)
    assert max(image.shape) in (199, 200)
    assert image.shape[:2] == scaled_shape(SHAPE, MPP, mpp)
    assert np.abs(image.astype(int) - cv2.resize(PICTURE, image.shape[1::-1], interpolation=cv2.INTER_AREA)).mean() < 4
    large, mpp = scaled.overview(10_000)
    assert (large.shape[:2], mpp) == (SHAPE, MPP)


def test_surveys_sample_evenly_at_full_scale(pyramid):
    scaled = ScaledSlide(pyramid, MPP)
    assert np.array_equal(scaled.survey(1000), PICTURE)
    survey = scaled.survey(256, patch_px=64)
    assert survey.shape == (256, 256, 3)
    assert np.abs(survey.mean(axis=(0, 1)) - PICTURE.mean(axis=(0, 1))).max() < 12
    assert ScaledSlide(pyramid, 2.5).survey(64, patch_px=64).shape == (64, 64, 3)
