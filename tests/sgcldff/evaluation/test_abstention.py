"""Limits of confidence by brute force, and rejection by type."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sgcldff.evaluation.calibration.abstention import abstention, choose_limit


def cells(seed, n=60):
    make = np.random.default_rng(seed)
    confidence = make.integers(2, 11, n) / 10
    return confidence, make.random(n) < confidence, make.choice(["a", "b", "c"], n)


def means(confidence, right, stains, limit):
    kept = {stain: (confidence >= limit) & (stains == stain) for stain in np.unique(stains)}
    accuracy = np.mean([right[rows].mean() if rows.any() else 1.0 for rows in kept.values()])
    return accuracy, np.mean([rows.sum() / (stains == stain).sum() for stain, rows in kept.items()])


@given(st.integers(0, 2**31), st.floats(0.3, 1.0))
def test_the_limit_is_the_lowest_at_and_above_which_the_goal_is_kept(seed, goal):
    confidence, right, stains = cells(seed)
    limit = choose_limit(confidence, right, stains, goal)
    tried = [0.0, *sorted(set(confidence))]
    keeps = [means(confidence, right, stains, one)[0] >= goal for one in tried]
    expected = next((one for k, one in enumerate(tried) if all(keeps[k:])), None)
    assert (limit and limit.confidence) == expected
    if limit is not None:
        assert (limit.accuracy, limit.kept) == pytest.approx(means(confidence, right, stains, limit.confidence))


def test_a_large_stain_that_is_easy_does_not_hide_a_small_one_that_is_not():
    confidence = np.array([0.9] * 98 + [0.6, 0.95])
    right = np.array([True] * 98 + [False, True])
    stains = ["easy"] * 98 + ["hard"] * 2
    assert choose_limit(confidence, right, stains, 0.9).confidence == 0.9
    assert choose_limit(confidence, right, ["one"] * 100, 0.9).confidence == 0


def test_no_limit_is_given_where_the_surest_cells_are_wrong():
    confidence = np.linspace(0.3, 1, 20)
    assert choose_limit(confidence, confidence < 0.8, ["a"] * 20, 0.9) is None


def test_rejection_is_told_by_type():
    confidence, right = np.array([0.9, 0.4, 0.5, 0.49, 0.8]), np.array([True, True, False, True, True])
    effect = abstention(confidence, right, ["monocyte"] * 2 + ["basophil"] * 2 + ["eosinophil"], 0.5)
    assert effect.rejected == {"monocyte": 0.5, "basophil": 0.5, "eosinophil": 0.0}
    assert (effect.kept, effect.accuracy) == (pytest.approx(3 / 5), pytest.approx(2 / 3))
    assert abstention(confidence, right, ["monocyte"] * 5, 0.95).accuracy is None
