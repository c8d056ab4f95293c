"""Scores together with what they are on draws of whole groups, so that scores of the same images can be subtracted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgcldff.core.settings import EvalSpec
from sgcldff.evaluation.metrics import DEFINED, Floats, Interval, Reduction, bootstrap, quantiles

Ends = tuple[float | None, float | None]
"""Of an interval; None where none can be given."""


@dataclass(frozen=True)
class Sampled:
    """M scores; NaN where one is undefined."""

    values: Floats
    """On all images, (M,)."""
    draws: Floats
    """On R draws of groups, (R, M); no draws where all images are of one group."""

    def __sub__(self, other: "Sampled") -> "Sampled":
        """Give the lead over other scores on the same images, draw by draw."""
        return Sampled(self.values - other.values, self.draws - other.draws)

    def ends(self, spec: EvalSpec) -> tuple[Ends, ...]:
        """Give the ends of every score's percentile interval, where at least `DEFINED` of the draws define it."""
        return tuple(_ends(column, spec) for column in self.draws.T)

    def intervals(self, spec: EvalSpec) -> tuple[Interval | None, ...]:
        """Give the scores with their intervals; None where a score is undefined."""
        pairs = zip(self.values, self.ends(spec), strict=True)
        return tuple(Interval(float(value), *ends) if np.isfinite(value) else None for value, ends in pairs)


def _ends(drawn: Floats, spec: EvalSpec) -> Ends:
    told = len(drawn) > 0 and np.isfinite(drawn).mean() >= DEFINED
    return quantiles(drawn, spec) if told else (None, None)


def sampled(reduction: Reduction, groups: Sequence[str], spec: EvalSpec) -> Sampled:
    """Reduce all images, and `spec.resamples` draws of their groups (see `metrics.bootstrap`)."""
    values = reduction(np.ones((1, len(groups))))[0]
    alone = len(set(groups)) < 2
    return Sampled(values, np.empty((0, len(values))) if alone else bootstrap(reduction, groups, spec))


def intervals(reduction: Reduction, groups: Sequence[str], spec: EvalSpec) -> tuple[Interval | None, ...]:
    """Score with percentile intervals, one per column of the reduction; None where a score is undefined.

    With a single group there is a value but no interval; so it is where fewer than `DEFINED` of the draws define it.
    """
    return sampled(reduction, groups, spec).intervals(spec)
