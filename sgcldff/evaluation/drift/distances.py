"""Distances between two samples, and how large they are by chance alone.

Measurements are compared by the energy statistic (Szekely and Rizzo, J. Statistical Planning and Inference 2013), which
sees any difference of distributions in any number of dimensions and needs no bandwidth, divided by its largest possible
value; shares of types by the Jensen-Shannon distance. Both lie in [0, 1].
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, jensenshannon

Floats = NDArray[np.float64]


def energy_coefficients(points: NDArray[np.float32], first: NDArray[np.bool_]) -> Floats:
    """Compare two parts of a sample, for several partings at once.

    H = (2 E|X - Y| - E|X - X'| - E|Y - Y'|) / (2 E|X - Y|), 0 where both parts are alike. In one dimension a shift by
    half, one and two standard deviations of a normal distribution gives 0.06, 0.19 and 0.48.

    Parameters
    ----------
    points
        (N, D).
    first
        Which points are in the first part, for each of R partings; (R, N), neither part empty.

    Returns
    -------
    ndarray
        float64 (R,) in [0, 1].
    """
    between = cdist(points, points)
    shares = first / first.sum(axis=1, keepdims=True), ~first / (~first).sum(axis=1, keepdims=True)
    to = [share @ between for share in shares]
    across, within, without = (
        np.einsum("rn,rn->r", to[a], shares[b], dtype=np.float64) for a, b in ((0, 1), (0, 0), (1, 1))
    )
    apart = 2 * across - within - without
    return np.asarray(np.divide(apart, 2 * across, out=np.zeros_like(apart), where=across > 0).clip(0, 1))


def share_distances(labels: NDArray[np.str_], first: NDArray[np.bool_]) -> Floats:
    """Compare the shares of types in two parts of N labels; as `energy_coefficients`.

    The Jensen-Shannon distance with logarithms to base 2. Shares that a population stability index calls stable (below
    0.1), and changed (above 0.25), are about 0.13 and 0.21 apart.
    """
    types, codes = np.unique(labels, return_inverse=True)
    one = np.eye(len(types))[codes]
    return np.atleast_1d(jensenshannon(first @ one, ~first @ one, base=2, axis=1)).clip(0, 1)


def random_parts(groups: NDArray[np.int64], size: int, count: int, rng: Generator) -> NDArray[np.bool_]:
    """Draw whole groups at random until they have about `size` members, at most half of all; bool (count, N).

    Images of a patient are alike, so a part of a set is as different as its patients are, not its images. Where there
    is only one group, its members are drawn.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    codes = codes if codes.max(initial=0) > 0 else np.arange(len(codes))
    members = np.bincount(codes)
    return np.stack([_part(members, min(size, len(codes) / 2), rng)[codes] for _ in range(count)])


def _part(members: NDArray[np.int64], size: float, rng: Generator) -> NDArray[np.bool_]:
    order = rng.permutation(len(members))
    before = np.cumsum(members[order]) - members[order]
    chosen = order[: max(1, min(int((before < size).sum()), len(members) - 1))]
    return np.isin(np.arange(len(members)), chosen)
