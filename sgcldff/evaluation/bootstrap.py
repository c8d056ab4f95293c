"""Scores with their bootstrap distributions, resampled by patient or slide, so that paired scores can be subtracted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgcldff.core.settings import EvalSpec
from sgcldff.evaluation.metrics import DEFINED, Floats, Interval, Reduction, bootstrap, quantiles

Ends = tuple[float | None, float | None]
"""Low and high end of an interval; None where there is no interval."""


@dataclass(frozen=True)
class BootstrapScores:
    """M scores with their bootstrap distributions; NaN where a score is undefined."""

    values: Floats
    """Scores on all images, (M,)."""
    draws: Floats
    """Scores on R resamples of the groups, (R, M); R is 0 if all images are of one group."""

    def __sub__(self, other: "BootstrapScores") -> "BootstrapScores":
        """Return the paired difference to other scores on the same images, resample by resample."""
        return BootstrapScores(self.values - other.values, self.draws - other.draws)

    def ends(self, spec: EvalSpec) -> tuple[Ends, ...]:
        """Return the ends of each score's percentile interval, if at least `DEFINED` of the resamples define it."""
        return tuple(
            quantiles(column, spec) if len(column) and np.isfinite(column).mean() >= DEFINED else (None, None)
            for column in self.draws.T
        )

    def intervals(self, spec: EvalSpec) -> tuple[Interval | None, ...]:
        """Return the scores with their intervals; None where a score is undefined."""
        pairs = zip(self.values, self.ends(spec), strict=True)
        return tuple(Interval(float(value), *ends) if np.isfinite(value) else None for value, ends in pairs)


def bootstrap_scores(reduction: Reduction, groups: Sequence[str], spec: EvalSpec) -> BootstrapScores:
    """Reduce all images, and `spec.resamples` resamples of their groups (see `metrics.bootstrap`)."""
    values = reduction(np.ones((1, len(groups))))[0]
    single = len(set(groups)) < 2
    return BootstrapScores(values, np.empty((0, len(values))) if single else bootstrap(reduction, groups, spec))


def intervals(reduction: Reduction, groups: Sequence[str], spec: EvalSpec) -> tuple[Interval | None, ...]:
    """Return a score with its percentile interval for each column of the reduction; None where it is undefined.

    A score has no interval if there is a single group, or fewer than `DEFINED` of the resamples define it.
    """
    return bootstrap_scores(reduction, groups, spec).intervals(spec)
