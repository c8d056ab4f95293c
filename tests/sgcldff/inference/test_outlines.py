"""Outlines and the pixels inside."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.draw import polygon

from sgcldff.core.geometry import Box
from sgcldff.inference.outlines import fill_outline


@settings(max_examples=150, deadline=None)
@given(
    radii=st.lists(st.floats(1, 25), min_size=3, max_size=30),
    centre=st.tuples(st.floats(-20, 60), st.floats(-20, 60)),
    corner=st.tuples(st.integers(0, 500), st.integers(0, 500)),
)
def test_pixels_are_those_whose_centres_lie_inside_wherever_the_part_is(radii, centre, corner):
    turn = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    star = np.stack([np.cos(turn), np.sin(turn)], axis=1) * np.array(radii)[:, None] + centre
    part, expected = np.full((40, 45), 3, np.uint8), np.full((40, 45), 3, np.uint8)
    fill_outline(part, Box.of(part.shape).shift(*corner), star + corner[::-1], 7)
    expected[polygon(star[:, 1] - 0.5, star[:, 0] - 0.5, expected.shape)] = 7
    y, x = np.mgrid[:40, :45] + 0.5
    away = shapely.distance(shapely.LinearRing(star), shapely.points(x, y)) > 1e-6
    np.testing.assert_array_equal(part[away], expected[away], "centres on the outline itself may count or not")


@pytest.mark.parametrize("outline", [[(1, 1), (5, 5)], [(2, 2), (2, 2), (2, 2)], [(1, 1), (5, 5), (3, 3)]])
def test_an_outline_that_encloses_nothing_sets_nothing(outline):
    part = np.zeros((9, 9), np.uint8)
    fill_outline(part, Box.of(part.shape), np.array(outline, float), 1)
    assert not part.any()
