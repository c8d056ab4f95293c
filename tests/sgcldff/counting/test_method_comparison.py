"""Bias, limits of agreement, regression and power, against oracles and simulations."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.stats import norm, ttest_1samp

from sgcldff.counting.method_comparison import deming, detectable_effect, differences, passing_bablok

RUNS = 300
LEAST = 0.95 - 3 * math.sqrt(0.95 * 0.05 / RUNS)
"""Coverage that intervals of 95 % fall short of with a probability of about 0.1 %."""


def measured(seed, slope=1.0, intercept=0.0, samples=50, cells=(400, 800)):
    """Draw percentages of two methods that count so many cells; the second errs by slope and intercept."""
    rng = np.random.default_rng(seed)
    shares = 0.1 + 0.7 * rng.beta(3, 3, samples)
    one = rng.binomial(cells[0], shares) / cells[0]
    return 100 * one, 100 * rng.binomial(cells[1], intercept / 100 + slope * shares) / cells[1]


@given(st.integers(0, 10**6), st.floats(0.2, 5))
def test_demings_line_has_the_least_weighted_distance(seed, ratio):
    x, y = measured(seed, 0.8, 3, samples=15)

    def distance(line):
        slope, intercept = line
        return ((y - intercept - slope * x) ** 2).sum() / (ratio + slope**2)

    best = minimize(
        distance, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10, "maxiter": 4000}
    )
    line = deming(x, y, ratio)
    assert distance((line.slope.value, line.intercept.value)) <= best.fun * (1 + 1e-9)
    assert line.slope.value == pytest.approx(best.x[0], rel=1e-3)


def by_the_book(x, y):
    """Compute slope and interval as Passing and Bablok write them, pair by pair, counted from 1."""
    slopes, number = [], len(x)
    for i in range(number):
        for j in range(i + 1, number):
            run, rise = x[i] - x[j], y[i] - y[j]
            if run == 0 and rise == 0:
                continue
            slope = math.copysign(math.inf, rise) if run == 0 else rise / run
            if slope != -1:
                slopes.append(slope)
    slopes.sort()
    n, k = len(slopes), sum(slope < -1 for slope in slopes)
    half = norm.ppf(0.975) * math.sqrt(number * (number - 1) * (2 * number + 5) / 18)
    m1 = round((n - half) / 2)
    m2 = n - m1 + 1
    middle = slopes[(n + 1) // 2 + k - 1] if n % 2 else (slopes[n // 2 + k - 1] + slopes[n // 2 + k]) / 2
    return middle, slopes[m1 + k - 1], slopes[m2 + k - 1]


@given(st.integers(0, 10**6), st.integers(12, 25))
def test_passing_and_bablok_line_is_theirs(seed, samples):
    x, y = measured(seed, 1.1, -1, samples)
    line = passing_bablok(x, y)
    assume(line is not None)
    assert (line.slope.value, line.slope.low, line.slope.high) == pytest.approx(by_the_book(x, y))
    assert line.intercept.value == pytest.approx(np.median(y - line.slope.value * x))
    mirrored = passing_bablok(y, x)
    assert line.slope.value * mirrored.slope.value == pytest.approx(1, rel=0.02), "neither method is the reference"


@pytest.mark.slow
@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 0.0), (0.85, 4.0)])
def test_lines_recover_what_is_put_in_and_their_intervals_cover(slope, intercept):
    held = np.zeros(4)
    found = []
    for seed in range(RUNS):
        x, y = measured(seed, slope, intercept)
        lines = (deming(x, y, 0.5), passing_bablok(x, y))
        found.append([line.slope.value for line in lines])
        inside = [
            part.low <= true <= part.high
            for line in lines
            for part, true in ((line.slope, slope), (line.intercept, intercept))
        ]
        held += inside
    assert np.mean(found, axis=0) == pytest.approx([slope, slope], rel=0.02)
    assert (held / RUNS >= LEAST - 0.01).all(), held / RUNS


@pytest.mark.slow
def test_bias_and_limits_of_agreement_cover():
    rng, held = np.random.default_rng(0), np.zeros(3)
    for _ in range(RUNS):
        reference = rng.normal(50, 10, 25)
        found = differences(reference, reference + rng.normal(1.5, 3, 25))
        true = {found.bias: 1.5, found.lower: 1.5 - 1.95996 * 3, found.upper: 1.5 + 1.95996 * 3}
        held += [part.low <= value <= part.high for part, value in true.items()]
    assert (held / RUNS >= LEAST).all(), held / RUNS


@pytest.mark.slow
@pytest.mark.parametrize("samples", [10, 60])
def test_a_bias_that_is_said_to_be_detectable_is_found_in_four_of_five_studies(samples):
    rng, effect = np.random.default_rng(1), detectable_effect(samples)
    drawn = rng.normal(effect, 1, (2000, samples))
    shown = (ttest_1samp(drawn, 0, axis=1).pvalue < 0.05).mean()
    assert shown == pytest.approx(0.8, abs=0.03)


def test_values_that_do_not_vary_give_no_line():
    zeros, some = np.zeros(12), np.arange(12.0)
    assert deming(zeros, some, 1.0) is None
    assert passing_bablok(zeros, zeros) is None
    assert passing_bablok(zeros, some) is None
    rare = np.array([0.0] * 11 + [0.5])
    assert deming(rare, rare, 1.0) is None, "without its one cell the type does not vary"
    assert differences(zeros, zeros).bias.value == 0
