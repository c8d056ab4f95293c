"""Typicality: how similar a cell is to those that a model was trained on, for the in-distribution limit.

A network assigns a type to anything. The embeddings of training cells are modelled by one Gaussian per class with a
shared covariance, and the distance of a cell is the squared Mahalanobis distance to the nearest class (Lee et al.,
NeurIPS 2018). The covariance is shrunk (Ledoit and Wolf, J. Multivariate Analysis 2004), since embeddings have many
dimensions and classes may have few cells. A distance means little by itself, and training cells lie nearer than others;
it is therefore reported as the share of held-out cells that are at least as far, a conformal p-value (Vovk et al. 2005;
Bates et al., Annals of Statistics 2023): of cells like the held-out ones, at most a share `p` scores `p` or less.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.spatial.distance import cdist

from sgcldff.core.arrays import Floats

FEWEST = 2
"""With fewer labelled cells, classes are not separated: one Gaussian represents all."""
NOISE = 1e-3
"""Minimum variance of a direction, relative to the mean: rounding of embeddings must not count as distance."""


@dataclass(frozen=True, eq=False)
class Typicality:
    """Gaussians of K classes in D dimensions, and the distances of N held-out cells."""

    means: Floats
    """(K, D)."""
    whitening: Floats
    """(D, D); differences from a mean, multiplied by its transpose, have the identity as covariance."""
    held_out: Floats
    """Squared distances, ascending; (N,)."""

    @property
    def resolution(self) -> float:
        """Lowest possible score, 1 / (N + 1)."""
        return 1 / (len(self.held_out) + 1)

    def distance(self, embedding: Floats) -> Floats:
        """Return the squared Mahalanobis distance to the nearest class, float32 (B,), of embeddings (B, D)."""
        points, means = (np.asarray(rows, np.float64) @ self.whitening.T for rows in (embedding, self.means))
        return np.asarray(cdist(points, means, "sqeuclidean").min(axis=1), np.float32)

    def __call__(self, embedding: Floats) -> Floats:
        """Return the share of held-out cells, including this one, that are at least as far; float32 (B,) in (0, 1]."""
        nearer = np.searchsorted(self.held_out, self.distance(embedding), side="left")
        return np.asarray((len(self.held_out) - nearer + 1) * self.resolution, np.float32)

    def arrays(self) -> dict[str, Floats]:
        """Return the arrays by name, such that `Typicality(**arrays)` restores the object."""
        return {name: np.ascontiguousarray(part) for name, part in asdict(self).items()}


def fit(embedding: Floats, types: Sequence[str], held_out: Floats) -> Typicality | None:
    """Fit the Gaussians to training cells and measure held-out cells; None if there are too few of either.

    Parameters
    ----------
    embedding
        Embeddings of the training cells, (M, D).
    types
        Class of each; empty if unknown. Cells of unknown class are used only if there are no others.
    held_out
        Embeddings of cells that were not used in training, (N, D), labelled or not.
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
    fitted = Typicality(means.astype(np.float32), whitening, np.empty(0, np.float32))
    return replace(fitted, held_out=np.sort(fitted.distance(held_out)))


def _whitening(residuals: NDArray[np.float64]) -> Floats:
    """Return the inverse Cholesky factor of the shrunk covariance of residuals (M, D)."""
    from sklearn.covariance import LedoitWolf  # slow to import, and only fitting needs it

    covariance = LedoitWolf(assume_centered=True).fit(residuals).covariance_
    floor = max(float(np.trace(covariance)) / len(covariance), 1e-6) * NOISE
    factor = cholesky(covariance + floor * np.eye(len(covariance)), lower=True)
    return np.asarray(solve_triangular(factor, np.eye(len(factor)), lower=True), np.float32)
