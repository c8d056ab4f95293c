"""Scatter plots of a study as they stand in its page: places in an SVG of 100 x 100."""

import math
from dataclasses import dataclass

import numpy as np

from sgcldff.results.validation.by_type import TypeComparison

PLOT_SIDE = 100.0


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis."""

    place: float
    text: str


@dataclass(frozen=True)
class Stroke:
    """A straight line."""

    kind: str
    """`line` (regression), `identity`, `bias` or `limit`."""
    ends: tuple[float, float, float, float]
    """x and y of both ends."""


@dataclass(frozen=True)
class Plot:
    """One plot."""

    title: str
    across: str
    """Name of the axis."""
    up: str
    points: tuple[tuple[float, float], ...]
    strokes: tuple[Stroke, ...]
    across_ticks: tuple[Tick, ...]
    up_ticks: tuple[Tick, ...]


@dataclass(frozen=True)
class _Axis:
    low: float
    high: float

    def __call__(self, value: float) -> float:
        """Return how far along the axis a value lies."""
        return PLOT_SIDE * (value - self.low) / (self.high - self.low)

    def down(self, value: float) -> float:
        """The same on an upright axis, whose places count from above."""
        return PLOT_SIDE - self(value)

    def ticks(self) -> list[float]:
        return [self.low, (self.low + self.high) / 2, self.high]


def plots_of(one: TypeComparison) -> tuple[Plot, Plot]:
    """Draw a type: model against readers, and differences against means."""
    return _regression(one), _bland_altman(one)


def _regression(one: TypeComparison) -> Plot:
    axis = _Axis(0, _round_up(max(*one.reference, *one.found)))
    strokes = [Stroke("identity", (0, PLOT_SIDE, PLOT_SIDE, 0))]
    if one.deming is not None:
        slope, intercept = one.deming.slope.value, one.deming.intercept.value
        ends = (min(one.reference), max(one.reference))
        (x0, y0), (x1, y1) = ((axis(end), axis.down(intercept + slope * end)) for end in ends)
        strokes.append(Stroke("line", (x0, y0, x1, y1)))
    points = tuple((axis(x), axis.down(y)) for x, y in zip(one.reference, one.found, strict=True))
    return _plot("Regression", ("readers, %", "model, %"), points, strokes, (axis, axis))


def _bland_altman(one: TypeComparison) -> Plot:
    reference, found = np.array(one.reference), np.array(one.found)
    means, away, limits = (reference + found) / 2, found - reference, one.differences
    across = _Axis(0, _round_up(float(means.max())))
    reach = _round_up(float(max(np.abs(away).max(), abs(limits.lower.value), abs(limits.upper.value))))
    up = _Axis(-reach, reach)
    levels = [
        ("identity", 0.0),
        ("bias", limits.bias.value),
        *(("limit", end.value) for end in (limits.lower, limits.upper)),
    ]
    strokes = [Stroke(kind, (0, up.down(level), PLOT_SIDE, up.down(level))) for kind, level in levels]
    points = tuple((across(x), up.down(y)) for x, y in zip(means.tolist(), away.tolist(), strict=True))
    return _plot("Differences", ("mean of both, %", "model less readers"), points, strokes, (across, up))


def _plot(
    title: str,
    names: tuple[str, str],
    points: tuple[tuple[float, float], ...],
    strokes: list[Stroke],
    axes: tuple[_Axis, _Axis],
) -> Plot:
    across, up = axes
    across_ticks = tuple(Tick(across(value), f"{value:g}") for value in across.ticks())
    up_ticks = tuple(Tick(up.down(value), f"{value:g}") for value in up.ticks())
    return Plot(title, *names, points, tuple(strokes), across_ticks, up_ticks)


def _round_up(value: float) -> float:
    """Return the next round number: 1, 1.2, 1.6, 2, 3, 4, 5, 6, 8 or 10 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(factor * power for factor in (1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10) if factor * power >= value)
