"""Saliency priors: values, robustness, oracles; and computing them for many images, killed or not."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from skimage.color import rgb2lab
from sklearn.metrics import roc_auc_score

from sgcldff.core.errors import InputError
from sgcldff.core.settings import PriorSpec
from sgcldff.saliency.priors import PRIORS, build, register
from sgcldff.saliency.priors.frequency_tuned import FrequencyTuned, lab
from sgcldff.saliency.priors.minimum_barrier import minimum_barrier
from sgcldff.saliency.priors.ramf import Ramf, fit_statistics
from sgcldff.saliency.priors.resize import decimate, enlarge
from tests.sgcldff.saliency.smears import smear

ALL = tuple(sorted(PRIORS))


@st.composite
def images(draw):
    height, width = draw(st.tuples(st.integers(1, 70), st.integers(1, 70)))
    seed, kind = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from(["noise", "uniform", "two", "black", "white"]))
    rng = np.random.default_rng(seed)
    if kind == "noise":
        return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    colours = {"black": np.zeros((2, 3)), "white": np.full((2, 3), 255)}.get(kind, rng.integers(0, 256, (2, 3)))
    pattern = rng.integers(0, 2, (height, width)) if kind == "two" else np.zeros((height, width), int)
    return colours.astype(np.uint8)[pattern]


@given(image=images(), overview=images(), mpp=st.sampled_from([0.03, 0.07, 0.2, 1.0, 8.0]))
@pytest.mark.parametrize("name", ALL)
def test_every_image_gets_finite_values_in_0_to_1(name, image, overview, mpp):
    stack = build(PriorSpec((name,), mpp=mpp))
    for prior in (stack, stack.fit(overview)):
        saliency = prior(image)
        assert saliency.dtype == np.float32
        assert saliency.shape == (1, *image.shape[:2])
        assert np.isfinite(saliency).all()
        assert saliency.min() >= 0
        assert saliency.max() <= 1


@pytest.mark.parametrize("name", ALL)
def test_priors_are_deterministic_and_leave_the_image_unchanged(name):
    image, _, _ = smear()
    before, prior = image.copy(), build(PriorSpec((name,)))
    np.testing.assert_array_equal(prior(image), prior(image))
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("name", "cells", "nuclei"),
    [("ramf", 0.99, 0.99), ("mbplus", 0.97, 0.97), ("frequency_tuned", 0.85, 0.97), ("spectral_residual", 0.6, 0.6)],
)
def test_white_cells_stand_out_from_red_ones(name, cells, nuclei):
    image, cell, nucleus = smear()
    saliency = build(PriorSpec((name,)))(image)[0]
    assert roc_auc_score(cell.ravel(), saliency.ravel()) >= cells
    assert roc_auc_score(nucleus.ravel(), saliency.ravel()) >= nuclei


@pytest.mark.parametrize("name", ["ramf", "frequency_tuned", "mbplus"])
def test_cells_are_found_at_any_scale_of_the_image(name):
    image, cell, _ = smear()
    for factor in (0.5, 2, 3):
        size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
        scaled = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        truth = cv2.resize(cell.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        saliency = build(PriorSpec((name,), mpp=0.2 / factor))(scaled)[0]
        assert roc_auc_score(truth.ravel(), saliency.ravel()) > 0.85


def test_a_stack_gives_its_priors_in_the_order_of_the_spec():
    image, _, _ = smear()
    both = build(PriorSpec(("mbplus", "ramf")))(image)
    np.testing.assert_array_equal(both[0], build(PriorSpec(("mbplus",)))(image)[0])
    np.testing.assert_array_equal(both[1], build(PriorSpec(("ramf",)))(image)[0])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
    ],
)
def test_other_than_rgb_images_are_refused(image):
    stack = build(PriorSpec())
    for use in (stack, stack.fit):
        with pytest.raises(InputError, match="uint8 images of shape"):
            use(image)


def test_unknown_and_repeated_names_are_refused():
    with pytest.raises(InputError, match=r"'rmaf' is unknown: name one of .*ramf"):
        build(PriorSpec(("rmaf",)))
    with pytest.raises(InputError, match="registered twice"):
        register("ramf")(Ramf)


def test_a_new_prior_needs_only_the_decorator(monkeypatch):
    class Half:
        def __init__(self, cell_px):
            self.cell_px = cell_px

        def __call__(self, rgb):
            return np.full(rgb.shape[:2], 0.5, np.float32)

        def fit(self, overview):
            return self

    monkeypatch.setattr("sgcldff.saliency.priors.registry.PRIORS", dict(PRIORS))
    register("half")(Half)

    saliency = build(PriorSpec(("half", "ramf")))(smear()[0])
    np.testing.assert_array_equal(saliency[0], np.full((200, 260), 0.5, np.float32))


def ramf_by_the_book(image, cell_px):
    """Follow the six steps in plain floating point, one pixel at a time where it matters."""
    pixels = image.reshape(-1, 3).astype(float)
    density = np.log((np.percentile(pixels, 97, axis=0) + 1) / (pixels + 1))
    red, green, blue = density.T
    contrast = green - (blue + red) / 2
    background = density[contrast <= np.quantile(contrast, 0.75, method="lower")]
    centred = background - background.mean(axis=0)
    inverse = np.linalg.inv(centred.T @ centred / len(centred) + 5e-4 * np.eye(3))
    signature = np.array([0.4, 0.7, 0.0])
    weights = inverse @ signature / (signature @ inverse @ signature)
    response = np.maximum(0, (density - background.mean(axis=0)) @ weights).reshape(image.shape[:2])
    core = response**2 / (response**2 + 0.25)
    return (core + ndimage.gaussian_filter(core, 0.2 * cell_px, mode="mirror")) / 2


def test_ramf_follows_its_description():
    image, _, _ = smear()
    small = decimate(image, 2)
    saliency = Ramf(32.0)(small)
    np.testing.assert_allclose(saliency, ramf_by_the_book(small, 32.0), atol=3e-3)


def test_ramf_shrinks_by_an_integer_and_never_enlarges():
    assert [Ramf(width).factor for width in (5, 32, 47, 49, 67, 180)] == [1, 1, 1, 2, 2, 6]


def test_frozen_statistics_do_not_depend_on_what_else_is_in_a_tile():
    image, _, _ = smear()
    fitted = Ramf(64.0).fit(image)
    whole, part = fitted(image), fitted(image[:, :180])
    np.testing.assert_allclose(part[:, :120], whole[:, :120], atol=1e-6)
    assert np.abs(Ramf(64.0)(image[:, :180])[:, :120] - Ramf(64.0)(image)[:, :120]).max() > 1e-3


def test_statistics_of_an_overview_serve_at_full_scale():
    image, cell, _ = smear()
    overview = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    saliency = Ramf(64.0).fit(overview)(image)
    assert roc_auc_score(cell.ravel(), saliency.ravel()) > 0.98
    assert saliency[~cell].mean() < 0.1 < saliency[cell].mean()


def test_a_field_without_white_cells_stays_dark_with_the_slides_statistics():
    image, cell, _ = smear()
    empty, _, _ = smear(cells=(), seed=3)
    fitted = Ramf(64.0).fit(image)
    assert fitted(empty).max() < 0.15 < fitted(image)[cell].mean()


def test_statistics_of_a_large_overview_are_sampled_alike():
    image, _, _ = smear((900, 1100), [(200, 300), (500, 700)])
    large, small = fit_statistics(image), fit_statistics(image[::2, ::2])
    np.testing.assert_allclose(large.mean, small.mean, atol=0.01)
    np.testing.assert_allclose(large.weights, small.weights, atol=0.15)


def test_frequency_tuned_is_the_distance_to_the_mean_colour():
    image, _, _ = smear()
    colours = rgb2lab(image)
    smooth = cv2.GaussianBlur(colours, (5, 5), 0)
    distance = np.linalg.norm(smooth - colours.mean(axis=(0, 1)), axis=2)
    saliency = FrequencyTuned(32.0)(image)
    np.testing.assert_allclose(saliency / (1 - saliency) * 30, distance, atol=0.5)
    np.testing.assert_allclose(lab(image), colours, atol=0.3)


def exact_barrier(image):
    """Try every lower bound: below the best path's highest value, the border is reached through values in between."""
    levels, best = np.unique(image), np.full(image.shape, np.inf)
    for low in levels:
        for high in levels[levels >= low]:
            regions, _ = ndimage.label((image >= low) & (image <= high))
            rim = np.ones(image.shape, bool)
            rim[1:-1, 1:-1] = False
            reached = (regions > 0) & np.isin(regions, regions[rim & (regions > 0)])
            best[reached] = np.minimum(best[reached], high - low)
    return best


@given(st.integers(0, 10**6), st.integers(1, 9), st.integers(1, 9))
def test_minimum_barrier_is_that_of_a_real_path(seed, height, width):
    image = np.random.default_rng(seed).integers(0, 6, (height, width)).astype(np.float32)
    found = minimum_barrier(image[None])[0]
    exact = exact_barrier(image)
    assert (found >= exact).all()
    assert (found - exact).mean() <= 1


def test_minimum_barrier_of_a_disc_is_its_contrast():
    image = np.zeros((1, 40, 40), np.float32)
    cv2.circle(image[0], (20, 20), 10, 7, -1)
    np.testing.assert_array_equal(minimum_barrier(image), image)


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 5))
def test_decimation_averages_whole_blocks_and_enlargement_keeps_the_size(height, width, factor):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    small = decimate(image, factor)
    assert small.shape == (-(-height // factor), -(-width // factor), 3)
    if height >= factor and width >= factor:
        block = image[:factor, :factor].astype(float).mean(axis=(0, 1))
        assert np.abs(small[0, 0] - block).max() <= 0.51
    back = enlarge(np.full(small.shape[:2], 0.25, np.float32), factor, (height, width))
    np.testing.assert_array_equal(back, np.full((height, width), 0.25, np.float32))
