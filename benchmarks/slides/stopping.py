"""Compute how often an interval holds the truth when counting stops as soon as it is narrow enough.

    python benchmarks/slides/stopping.py [--level 0.95 0.965] [--width 0.1 0.06 0.05 0.03 0.02] [--step 20]

Exact: the distribution of the cells counted and the cells of the type is carried from look to look, so no chance is in
the figures. Prints a Markdown table; takes about five minutes of one core.
"""

import argparse
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom

FIRST = 100
"""Cells before the first look."""
SHARES = np.concatenate([np.linspace(0.002, 0.01, 5), np.linspace(0.0125, 0.3, 116)])
LEFT = 1e-9
"""Probability of not having stopped that is neglected."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Stopped:
    """What a stopping rule does, one figure a true share."""

    coverage: Floats
    """Probability that the interval holds the share."""
    cells: Floats
    """Cells counted on the average."""


def ends(total: int, level: float) -> tuple[Floats, Floats]:
    """Give the Clopper-Pearson interval of every count of `total` cells."""
    count, tail = np.arange(total + 1), (1 - level) / 2
    low, high = beta.ppf(tail, count, total - count + 1), beta.ppf(1 - tail, count + 1, total - count)
    return np.nan_to_num(low, nan=0.0), np.nan_to_num(high, nan=1.0)


def stopped(shares: Floats, width: float, level: float, step: int) -> Stopped:
    """Follow counts until their interval is at most `width` wide."""
    total, kernel = FIRST, binom.pmf(np.arange(step + 1), step, shares[:, None])
    going = binom.pmf(np.arange(total + 1), total, shares[:, None])
    coverage, cells = np.zeros(len(shares)), np.zeros(len(shares))
    while True:
        low, high = ends(total, level)
        stop = high - low <= width
        holds = (low <= shares[:, None]) & (shares[:, None] <= high)
        coverage, cells = coverage + (going * (stop & holds)).sum(1), cells + total * (going * stop).sum(1)
        going = going * ~stop
        if going.sum(1).max() < LEFT:
            return Stopped(coverage, cells)
        going, total = added(going, kernel), total + step


def added(going: Floats, kernel: Floats) -> Floats:
    """Add the cells of the type among the next ones to the distribution of those counted."""
    size, more = going.shape[1], kernel.shape[1]
    sums = np.zeros((len(going), size + more - 1))
    for extra in range(more):
        sums[:, extra : extra + size] += going * kernel[:, extra : extra + 1]
    return sums


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", type=float, nargs="+", default=[0.95, 0.965])
    parser.add_argument("--width", type=float, nargs="+", default=[0.1, 0.06, 0.05, 0.03, 0.02])
    parser.add_argument("--step", type=int, default=20)
    asked = parser.parse_args()
    print("| interval | width | lowest coverage | at a share of | mean coverage | cells at 5 % | at 30 % |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for level in asked.level:
        for width in asked.width:
            found = stopped(SHARES, width, level, asked.step)
            worst = int(found.coverage.argmin())
            few, many = np.interp([0.05, 0.3], SHARES, found.cells)
            figures = f"{found.coverage[worst]:.1%} | {SHARES[worst]:.2%} | {found.coverage.mean():.1%}"
            print(f"| {level:.1%} | {width} | {figures} | {few:,.0f} | {many:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
