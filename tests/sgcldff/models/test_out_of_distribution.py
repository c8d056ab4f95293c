"""Distances equal SciPy's, and scores of cells like the held-out ones are uniform."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import mahalanobis
from scipy.stats import kstest
from sklearn.covariance import LedoitWolf

from sgcldff.models.out_of_distribution import NOISE, fit

CLASSES = ("a", "b", "c")


def cells(n, seed, dims=12, shift=0.0):
    """Draw cells of three classes that share a covariance of unequal spreads."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, n)
    spread, centres = np.geomspace(0.05, 2, dims), np.random.default_rng(1).normal(0, 4, (3, dims))
    embedding = centres[kinds] + rng.normal(0, 1, (n, dims)) * spread + shift * spread
    return embedding.astype(np.float32), [CLASSES[kind] for kind in kinds]


def test_the_distance_is_mahalanobis_to_the_nearest_class():
    embedding, types = cells(150, 0)
    typicality, others = fit(embedding, types, cells(20, 1)[0]), cells(30, 2)[0]
    means = {name: embedding[np.array(types) == name].mean(axis=0, dtype=np.float64) for name in CLASSES}
    residuals = embedding - np.stack([means[name] for name in types])
    covariance = LedoitWolf(assume_centered=True).fit(residuals).covariance_
    covariance += NOISE * np.trace(covariance) / 12 * np.eye(12)
    inverse = np.linalg.inv(covariance)
    expected = [min(mahalanobis(point, mean, inverse) ** 2 for mean in means.values()) for point in others]
    np.testing.assert_allclose(typicality.distance(others), expected, rtol=1e-3)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_score_counts_the_held_out_cells_that_are_as_far(seed):
    held_out = cells(25, seed + 1)[0]
    typicality = fit(*cells(60, seed), held_out)
    others = np.concatenate((cells(10, seed + 2)[0], held_out[:5]))
    far = typicality.distance(held_out)[None] >= typicality.distance(others)[:, None] - 1e-6
    np.testing.assert_allclose(typicality(others), (1 + far.sum(axis=1)) / 26, atol=1e-6)
    assert typicality(others).min() >= np.float32(typicality.resolution) > 0


def test_scores_of_cells_like_those_held_out_are_uniform_and_of_others_are_small():
    typicality = fit(*cells(400, 0), cells(2000, 1)[0])
    assert kstest(typicality(cells(2000, 2)[0]), "uniform").pvalue > 0.01
    assert (typicality(cells(2000, 2)[0]) <= 0.05).mean() == pytest.approx(0.05, abs=0.015)
    assert (typicality(cells(500, 3, shift=3)[0]) <= 0.05).mean() > 0.99


def test_few_cells_in_many_dimensions_do_not_break_the_scores():
    """The covariance of 30 cells in 200 dimensions is singular before it is shrunk."""
    typicality = fit(*cells(30, 0, dims=200), cells(400, 1, dims=200)[0])
    assert kstest(typicality(cells(400, 2, dims=200)[0]), "uniform").pvalue > 0.001


def test_without_labels_one_gaussian_represents_all():
    embedding, types = cells(80, 0)
    typicality = fit(embedding, [""] * 80, cells(20, 1)[0])
    np.testing.assert_allclose(typicality.means, embedding.mean(axis=0)[None], rtol=1e-5)
    half = fit(embedding, [name if name == "a" else "" for name in types], cells(20, 1)[0])
    assert len(half.means) == 1


@pytest.mark.parametrize(("learned", "held_out"), [(0, 5), (1, 5), (20, 0)])
def test_too_few_cells_give_no_score(learned, held_out):
    assert fit(*cells(learned, 0), cells(held_out, 1)[0]) is None
