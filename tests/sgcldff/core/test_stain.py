"""Augmentation moves stains, not cells: the same everywhere in an image, bounded, repeatable."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sgcldff.core.stain import augment, colour_cast, other_stain, restain, similar_stain, stain_statistics

seeds = st.integers(0, 2**32)
strengths = st.floats(0.05, 1.0)


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8)


@given(seeds, strengths, st.floats(0, 1))
def test_the_same_seed_gives_the_same_image_and_strength_0_the_image_itself(seed, strength, recoloured):
    rgb = picture(seed)
    once, again = (augment(rgb, strength, np.random.default_rng(seed), recoloured) for _ in range(2))
    assert np.array_equal(once, again)
    assert (once.shape, once.dtype) == (rgb.shape, np.uint8)
    assert augment(rgb, 0, np.random.default_rng(seed), recoloured) is rgb


@given(seeds, st.booleans())
def test_equal_pixels_are_restained_equally(seed, other):
    rgb, rng = picture(seed), np.random.default_rng(seed)
    rgb[5:9, 5:9] = rgb[0, 0]
    varied = restain(rgb, other_stain(rng) if other else similar_stain(1.0, rng), rng.normal(0, 0.1, 3))
    np.testing.assert_allclose(varied[5:9, 5:9], np.broadcast_to(varied[0, 0], (4, 4, 3)), rtol=1e-5)


@given(seeds)
def test_identity_mixing_without_a_cast_changes_nothing(seed):
    rgb = picture(seed)
    np.testing.assert_allclose(restain(rgb, np.eye(3), np.zeros(3)), rgb, atol=1e-3)


def test_recolouring_removes_an_eosinophils_red_that_a_similar_stain_keeps():
    red = np.full((4, 4, 3), (200, 90, 100), np.uint8)  # granules: red is brightest

    def kept(recoloured: float) -> float:
        seen = [augment(red, 0.5, np.random.default_rng(seed), recoloured)[2, 2] for seed in range(200)]
        return float(np.mean([pixel.argmax() == 0 for pixel in seen]))

    assert kept(0.0) > 0.95
    assert kept(1.0) < 0.8


def test_one_stain_in_four_has_a_single_dye():
    ranks = [np.linalg.matrix_rank(other_stain(np.random.default_rng(seed))) for seed in range(1000)]
    assert 0.2 < np.mean(np.array(ranks) == 1) < 0.3


@given(seeds, strengths)
def test_a_cast_only_darkens_and_within_bounds(seed, strength):
    added = colour_cast(strength, np.random.default_rng(seed))
    assert added.shape == (3,)
    assert (added >= 0).all()
    assert (added <= 0.8 * strength).all()


def test_a_third_of_the_images_is_tinted_and_backgrounds_become_as_yellow_as_a_rapid_stains():
    rng = np.random.default_rng(0)
    drawn = np.array([colour_cast(1.0, rng) for _ in range(3000)])
    tinted = drawn.any(axis=1).mean()
    assert 0.25 < tinted < 0.33  # a third, less one in eight of them that draws no channel
    yellow = (drawn[:, 2] > 0.5) & (drawn[:, :2] < 0.1).all(axis=1)
    assert yellow.any()


def test_statistics_follow_the_stain_and_not_the_empty_glass():
    stained = np.full((40, 40, 3), 250, np.uint8)
    stained[10:30, 10:30] = (120, 60, 150)
    alone = stain_statistics(np.full((5, 5, 3), (120, 60, 150), np.uint8))
    np.testing.assert_allclose(stain_statistics(stained), alone, atol=1e-5)
