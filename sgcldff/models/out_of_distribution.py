"""How much a cell is like those that a model was trained for: the score behind the in-distribution limit.

A network names a type for anything. Its embeddings of training cells are described by one Gaussian a class with a
covariance that all classes share, and a cell is as far away as the nearest class by the squared Mahalanobis distance
(Lee et al., NeurIPS 2018). The covariance is shrunk (Ledoit and Wolf, J. Multivariate Analysis 2004), since embeddings
have many dimensions and classes may have few cells. A distance says nothing by itself, and training cells lie nearer
than others; so it is told as the share of cells held out of the training that are at least as far, a conformal p-value
(Vovk et al. 2005; Bates et al., Annals of Statistics 2023). Of cells like those held out, a share `p` at the most
scores `p` or less.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.spatial.distance import cdist

Floats = NDArray[np.float32]

FEWEST = 2
"""Labelled cells without which types are not told apart: one Gaussian then stands for all."""
NOISE = 1e-3
"""Least variance of a direction, over the mean one: what fewer bits of precision do to an embedding is no distance."""


@dataclass(frozen=True, eq=False)
class Typicality:
    """Gaussians of K classes in D dimensions, and the distances of N cells that the training did not see."""

    means: Floats
    """(K, D)."""
    whitening: Floats
    """(D, D); differences from a mean, multiplied by its transpose, have the identity as covariance."""
    held_out: Floats
    """Squared distances, ascending; (N,)."""

    @property
    def finest(self) -> float:
        """Return the least score that there can be, 1 / (N + 1)."""
        return 1 / (len(self.held_out) + 1)

    def distance(self, embedding: Floats) -> Floats:
        """Return the squared Mahalanobis distance to the nearest class, float32 (B,), of embeddings (B, D)."""
        points, means = (np.asarray(rows, np.float64) @ self.whitening.T for rows in (embedding, self.means))
        return np.asarray(cdist(points, means, "sqeuclidean").min(axis=1), np.float32)

    def __call__(self, embedding: Floats) -> Floats:
        """Return the share of held-out cells, this one among them, that are at least as far; float32 (B,) in (0, 1]."""
        nearer = np.searchsorted(self.held_out, self.distance(embedding), side="left")
        return np.asarray((len(self.held_out) - nearer + 1) * self.finest, np.float32)

    def arrays(self) -> dict[str, Floats]:
        """Return the parts by name; `Typicality(**arrays)` puts them together again."""
        return {name: np.ascontiguousarray(part) for name, part in asdict(self).items()}


def fit(embedding: Floats, types: Sequence[str], held_out: Floats) -> Typicality | None:
    """Describe training cells, and measure how far others are; None where there are too few of either.

    Parameters
    ----------
    embedding
        Of the training cells, (M, D).
    types
        Class of each; empty where it is not known. Such cells do not shape the Gaussians unless no other is there.
    held_out
        Embeddings of cells that the training did not see, (N, D), labelled or not.
    """
    names = np.asarray(types)
    known = names != ""
    if known.sum() < FEWEST:
        names, known = np.full(len(names), "any"), np.ones(len(names), bool)
    if known.sum() < FEWEST or not len(held_out):
        return None
    classes, codes = np.unique(names[known], return_inverse=True)
    cells = np.asarray(embedding, np.float64)[known]
    means = np.stack([cells[codes == code].mean(axis=0) for code in range(len(classes))])
    whitening = _whitening(cells - means[codes])
    described = Typicality(means.astype(np.float32), whitening, np.empty(0, np.float32))
    return Typicality(described.means, whitening, np.sort(described.distance(held_out)))


def _whitening(residuals: NDArray[np.float64]) -> Floats:
    """Invert the Cholesky factor of the shrunk covariance of residuals (M, D)."""
    from sklearn.covariance import LedoitWolf  # takes most of a second, which only fitting needs to spend

    covariance = LedoitWolf(assume_centered=True).fit(residuals).covariance_
    floor = max(float(np.trace(covariance)) / len(covariance), 1e-6) * NOISE
    factor = cholesky(covariance + floor * np.eye(len(covariance)), lower=True)
    return np.asarray(solve_triangular(factor, np.eye(len(factor)), lower=True), np.float32)
