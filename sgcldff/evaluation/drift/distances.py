"""Distances between two samples, and random splits that show how large they are by chance.

Measurements are compared by the energy statistic (Szekely and Rizzo, J. Statistical Planning and Inference 2013), which
detects any difference of distributions in any number of dimensions and needs no bandwidth, divided by its largest
possible value; proportions of types by the Jensen-Shannon distance. Both lie in [0, 1].
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.spatial.distance import cdist, jensenshannon

from sgcldff.evaluation.metrics import Doubles


def energy_coefficients(
    points: NDArray[np.float32], first: NDArray[np.bool_], second: NDArray[np.bool_] | None = None
) -> Doubles:
    """Compare two parts of a sample, for several splits at once.

    H = (2 E|X - Y| - E|X - X'| - E|Y - Y'|) / (2 E|X - Y|), 0 if both parts are alike. In one dimension a shift by
    half, one and two standard deviations of a normal distribution gives 0.06, 0.19 and 0.48.

    Parameters
    ----------
    points
        (N, D).
    first
        Which points are in the first part, for each of R splits; (R, N), neither part empty.
    second
        Which are in the second; by default all others.

    Returns
    -------
    ndarray
        float64 (R,) in [0, 1].
    """
    between = cdist(points, points)
    parts = first, ~first if second is None else second
    shares = [part / part.sum(axis=1, keepdims=True) for part in parts]
    to = [share @ between for share in shares]
    across, within, without = (
        np.einsum("rn,rn->r", to[a], shares[b], dtype=np.float64) for a, b in ((0, 1), (0, 0), (1, 1))
    )
    apart = 2 * across - within - without
    return np.asarray(np.divide(apart, 2 * across, out=np.zeros_like(apart), where=across > 0).clip(0, 1))


def share_distances(
    labels: NDArray[np.str_], first: NDArray[np.bool_], second: NDArray[np.bool_] | None = None
) -> Doubles:
    """Compare the proportions of types in two parts of N labels; arguments as of `energy_coefficients`.

    The Jensen-Shannon distance with logarithms to base 2. Population stability indices of 0.1 (stable below) and 0.25
    (changed above) correspond to distances of about 0.13 and 0.21.
    """
    types, codes = np.unique(labels, return_inverse=True)
    one = np.eye(len(types))[codes]
    parts = first @ one, (~first if second is None else second) @ one
    return np.atleast_1d(jensenshannon(*parts, base=2, axis=1)).clip(0, 1)


def random_parts(
    groups: NDArray[np.int64], sizes: Sequence[int], count: int, rng: Generator
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Draw as many groups at random as there are new ones, at most half of all; two bool arrays (count, N).

    Images of a patient are alike, so a part of a set differs by its patients, not its images. Of each group drawn, at
    most as many members are taken as a new group has. The second array marks the members of all other groups.

    Parameters
    ----------
    sizes
        Members of each new group.
    """
    codes = np.unique(groups, return_inverse=True)[1]
    number = codes.max() + 1
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    first, second = np.zeros((2, count, len(codes)), bool)
    for row in range(count):
        drawn = rng.permutation(number)[: max(1, min(len(sizes), number // 2))]
        for group, size in zip(drawn, rng.permutation(sizes), strict=False):
            first[row, rng.permutation(members[group])[:size]] = True
        second[row] = ~np.isin(codes, drawn)
    return first, second
