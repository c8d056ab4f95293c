"""Comparison of two methods that measured the same samples: bias, limits of agreement, regression and power."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.proportions import Range

Values = NDArray[np.float64]
"""Measurements, float, shape (N,); those of two methods in the same order of samples."""

POWER = 0.8
"""Probability with which a study shows the bias that it is said to detect."""


@dataclass(frozen=True)
class Differences:
    """Differences between two methods, in the unit of the values."""

    bias: Range
    """Mean difference."""
    spread: float
    """Standard deviation of the differences."""
    lower: Range
    """Limit of agreement below which 2.5 % of the differences lie if they are normal."""
    upper: Range
    """Limit above which 2.5 % lie."""
    detectable: float
    """Smallest true bias that as many samples show with a probability of `POWER`."""


@dataclass(frozen=True)
class FittedLine:
    """A straight line through pairs of measurements, both of which err."""

    slope: Range
    """1 if the methods do not differ in proportion."""
    intercept: Range
    """0 if they do not differ by a constant."""


def differences(reference: Values, method: Values, level: float = 0.95) -> Differences:
    """Describe how a method differs from the reference (J. M. Bland and D. G. Altman, SMMR 8, 1999, 135-160).

    The interval of the bias is Student's; those of the limits of agreement take their variance as
    s2 (1 / n + z2 / (2 (n - 1))).
    """
    from scipy.stats import norm, t  # takes longer to load than to check what a command is given

    away = method - reference
    number, mean, spread = len(away), float(away.mean()), float(away.std(ddof=1))
    z, student = float(norm.ppf(0.975)), float(t.ppf((1 + level) / 2, number - 1))
    half = student * spread / math.sqrt(number)
    wide = student * spread * math.sqrt(1 / number + z**2 / (2 * (number - 1)))
    lower, upper = mean - z * spread, mean + z * spread
    return Differences(
        Range(mean, mean - half, mean + half),
        spread,
        Range(lower, lower - wide, lower + wide),
        Range(upper, upper - wide, upper + wide),
        spread * detectable_effect(number, level),
    )


def detectable_effect(number: int, level: float = 0.95, power: float = POWER) -> float:
    """Return the smallest bias, in standard deviations of the differences, that a paired t test shows with `power`."""
    from scipy.optimize import brentq
    from scipy.stats import nct, t

    critical = float(t.ppf((1 + level) / 2, number - 1))
    shift = brentq(lambda shift: nct.sf(critical, number - 1, shift) - power, 0, critical + 10)
    return float(shift) / math.sqrt(number)


def deming(reference: Values, method: Values, ratio: float, level: float = 0.95) -> FittedLine | None:
    """Fit Deming's line, with jackknife intervals (K. Linnet, Clinical Chemistry 39, 1993, 424-432).

    Parameters
    ----------
    ratio
        Variance of the method's errors divided by that of the reference's.

    Returns
    -------
    None where the values do not vary together, so that there is no line.
    """
    from scipy.stats import t

    number = len(reference)
    whole = _deming(reference, method, ratio)
    kept = [np.arange(number) != at for at in range(number)]
    left_out = np.array([_deming(reference[rest], method[rest], ratio) for rest in kept])
    if not (np.isfinite(whole).all() and np.isfinite(left_out).all()):
        return None
    pseudo = number * whole - (number - 1) * left_out
    half = t.ppf((1 + level) / 2, number - 2) * pseudo.std(axis=0, ddof=1) / math.sqrt(number)
    return FittedLine(
        *(Range(float(one), float(one - part), float(one + part)) for one, part in zip(whole, half, strict=True))
    )


def _deming(reference: Values, method: Values, ratio: float) -> NDArray[np.float64]:
    """Return slope and intercept, shape (2,); NaN where there is no line."""
    x, y = reference - reference.mean(), method - method.mean()
    xx, yy, xy = float(x @ x), float(y @ y), float(x @ y)
    if xx <= 0 or xy <= 0:
        return np.full(2, np.nan)
    slope = (yy - ratio * xx + math.sqrt((yy - ratio * xx) ** 2 + 4 * ratio * xy**2)) / (2 * xy)
    return np.array([slope, method.mean() - slope * reference.mean()])


def passing_bablok(reference: Values, method: Values, level: float = 0.95) -> FittedLine | None:
    """Fit the line of H. Passing and W. Bablok (J. Clin. Chem. Clin. Biochem. 21, 1983, 709-720).

    The shifted median of the slopes between all pairs of samples; robust against outliers, whatever the law of the
    errors.

    Returns
    -------
    None where too many values are equal, as zeros of a rare type are, for the line and its interval to be finite.
    """
    from scipy.stats import norm

    number = len(reference)
    one, other = np.triu_indices(number, 1)
    run, rise = reference[other] - reference[one], method[other] - method[one]
    apart = (run != 0) | (rise != 0)
    with np.errstate(divide="ignore"):
        slopes = np.sort(rise[apart] / np.where(run[apart] == 0, 0.0, run[apart]))
    slopes = slopes[slopes != -1]
    pairs, shift = len(slopes), int((slopes < -1).sum())
    half = norm.ppf((1 + level) / 2) * math.sqrt(number * (number - 1) * (2 * number + 5) / 18)
    first = round((pairs - half) / 2)
    places = (first + shift - 1, pairs - first + shift)
    if first < 1 or places[1] >= pairs:
        return None
    middle = float(np.median(slopes[2 * shift :] if shift else slopes)) if pairs > 2 * shift else math.nan
    slope = Range(middle, float(slopes[places[0]]), float(slopes[places[1]]))
    if not all(map(math.isfinite, (slope.value, slope.low, slope.high))):
        return None
    intercepts = (float(np.median(method - each * reference)) for each in (slope.value, slope.high, slope.low))
    return FittedLine(slope, Range(*intercepts))
