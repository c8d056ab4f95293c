"""Shares of a count, with intervals that allow for chance and for cells of one place being alike."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, chdtrc, ndtri, stdtrit


@dataclass(frozen=True)
class Range:
    """A value with the ends of its interval."""

    value: float
    low: float
    high: float


def beyond_chance(share: float, chance: float) -> float:
    """Rescale a share to 0 where it is that of chance, and to 1 where it is all; `chance` is below 1."""
    return (share - chance) / (1 - chance)


@dataclass(frozen=True)
class Clustering:
    """How alike the cells of one part (shard, slide, patient) are, compared with cells drawn one by one."""

    design_effect: float
    """Variance of the shares divided by that of as many independent cells; at least 1."""
    parts: int
    """Parts with cells, from which it was estimated."""
    freedom: int
    """Degrees of freedom of the estimate."""

    def effective(self, counted: int, confidence: float) -> float:
        """Return how many independent cells would say as much, at this level, as `counted` of these."""
        tail = (1 - confidence) / 2
        allowance = float(ndtri(tail) / stdtrit(self.freedom, tail)) ** 2
        return min(counted, max(1.0, counted / self.design_effect * allowance)) if counted else 0.0

    def uneven(self, factor: float = 2.0, chance: float = 0.001) -> bool:
        """Return whether the parts differ: by more than chance (chi-square), and so that variances grow by `factor`."""
        return self.design_effect >= factor and chdtrc(self.freedom, self.design_effect * self.freedom) < chance


def clustering(counts: NDArray[np.int64]) -> Clustering | None:
    """Estimate the design effect from counts by part and type, int (G, K); None if fewer than two parts have cells.

    The mean over the types, weighted by their variances (J. N. K. Rao and A. J. Scott, JASA 76, 1981, 221-230): one
    type alone says too little where it is rare.
    """
    counts = counts[counts.sum(axis=1) > 0]
    shares = counts.sum(axis=0) / max(1, counts.sum())
    expected = float((shares * (1 - shares)).sum())
    if len(counts) < 2 or expected == 0:
        return None
    size, parts, types = counts.sum(axis=1), len(counts), int((shares > 0).sum())
    apart = ((counts - size[:, None] * shares) ** 2).sum() * parts / (parts - 1) / size.sum()
    return Clustering(max(1.0, float(apart / expected)), parts, (parts - 1) * (types - 1))


def exact_interval(
    count: float, counted: int, confidence: float, clusters: Clustering | None = None
) -> tuple[float, float]:
    """Return the ends of a share's exact binomial interval (Clopper and Pearson, Biometrika 26, 1934).

    With `clusters`, that of the effective number of cells (E. L. Korn and B. I. Graubard, Survey Methodology 24, 1998).
    0 and 1 where no cell was counted.
    """
    if counted == 0:
        return 0.0, 1.0
    number = float(counted) if clusters is None else clusters.effective(counted, confidence)
    part, tail = count / counted * number, (1 - confidence) / 2
    low = float(betaincinv(part, number - part + 1, tail)) if count > 0 else 0.0
    return low, float(betaincinv(part + 1, number - part, 1 - tail)) if count < counted else 1.0
