"""Pairing of found and true cells, against an exhaustive search."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sgcldff.evaluation.matching import match_cells

points = st.integers(0, 5).flatmap(lambda n: arrays(np.float64, (n, 2), elements=st.integers(0, 12).map(float)))


def exhaustive(found, true, radius):
    """Most pairs within the radius."""
    few, many = (found, true) if len(found) <= len(true) else (true, found)
    options = permutations(range(len(many)), len(few))
    near = [[np.hypot(*(a - b)) <= radius for b in many] for a in few]
    return max(sum(near[i][j] for i, j in enumerate(option)) for option in options)


@settings(max_examples=120, deadline=None)
@given(points, points, st.sampled_from([1.0, 3.0, 6.0]))
def test_as_many_pairs_as_possible_each_cell_once(found, true, radius):
    got = match_cells(found, true, radius)
    assert len(got.pairs) == (exhaustive(found, true, radius) if len(found) and len(true) else 0)
    assert len(set(got.pairs[:, 0])) == len(set(got.pairs[:, 1])) == len(got.pairs)
    for f, t in got.pairs:
        assert np.hypot(*(found[f] - true[t])) <= radius


def test_shares():
    got = match_cells(np.array([[0.0, 0], [50, 50], [90, 90]]), np.array([[1.0, 1], [51, 50]]), 5)
    assert (got.recall, got.missed, got.false_positives) == (1.0, 0, 1)
    assert got.precision == pytest.approx(2 / 3)
    nothing = match_cells(np.empty((0, 2)), np.empty((0, 2)), 5)
    assert (nothing.recall, nothing.precision) == (1.0, 1.0)


@pytest.mark.slow
def test_many_cells_far_apart_are_no_burden():
    grid = np.stack(np.meshgrid(np.arange(200.0), np.arange(200.0)), -1).reshape(-1, 2) * 40
    got = match_cells(grid + 1, grid[::-1], 5)
    assert got.recall == got.precision == 1
    assert (got.pairs[:, 0] + got.pairs[:, 1] == len(grid) - 1).all()
