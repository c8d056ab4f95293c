"""Distances between two samples, and random splits that show how large they are by chance.

Measurements are compared by the energy statistic (Szekely and Rizzo, J. Statistical Planning and Inference 2013), which
detects any difference of distributions in any number of dimensions and needs no bandwidth, divided by its largest
possible value; proportions of types by the Jensen-Shannon distance. Both lie in [0, 1].
"""

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, jensenshannon

from sgcldff.evaluation.metrics import Floats


def energy_coefficients(points: NDArray[np.float32], first: NDArray[np.bool_]) -> Floats:
    """Compare two parts of a sample, for several splits at once.

    H = (2 E|X - Y| - E|X - X'| - E|Y - Y'|) / (2 E|X - Y|), 0 if both parts are alike. In one dimension a shift by
    half, one and two standard deviations of a normal distribution gives 0.06, 0.19 and 0.48.

    Parameters
    ----------
    points
        (N, D).
    first
        Which points are in the first part, for each of R splits; (R, N), neither part empty.

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
    """Compare the proportions of types in two parts of N labels; arguments as of `energy_coefficients`.

    The Jensen-Shannon distance with logarithms to base 2. Population stability indices of 0.1 (stable below) and 0.25
    (changed above) correspond to distances of about 0.13 and 0.21.
    """
    types, codes = np.unique(labels, return_inverse=True)
    one = np.eye(len(types))[codes]
    return np.atleast_1d(jensenshannon(first @ one, ~first @ one, base=2, axis=1)).clip(0, 1)


def random_parts(groups: NDArray[np.int64], size: int, count: int, rng: Generator) -> NDArray[np.bool_]:
    """Draw groups at random until they have about `size` members, at most half of all; bool (count, N).

    Images of a patient are alike, so a part of a set differs by its patients, not its images. If there is only one
    group, its members are drawn.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    codes = codes if codes.max(initial=0) > 0 else np.arange(len(codes))
    members = np.bincount(codes)
    wanted = min(size, len(codes) / 2)

    def part() -> NDArray[np.bool_]:
        order = rng.permutation(len(members))
        before = np.cumsum(members[order]) - members[order]
        drawn = order[: max(1, min(int((before < wanted).sum()), len(members) - 1))]
        return np.isin(np.arange(len(members)), drawn)[codes]

    return np.stack([part() for _ in range(count)])
