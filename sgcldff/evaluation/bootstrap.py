"""Scores with their bootstrap distributions, resampled by patient or slide, so that paired scores can be subtracted."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri, stdtrit

from sgcldff.core.settings import EvalSpec
from sgcldff.evaluation.metrics import DEFINED, WEIGHTS_AT_ONCE, Doubles, Interval, Reduction, bootstrap, quantiles

FEWEST_GROUPS = 5
"""Groups that an interval needs."""
MANY_GROUPS = 40
"""Groups from which the percentiles of the bootstrap hold what they promise."""
Ends = tuple[float | None, float | None]
"""Low and high end of an interval; None where there is no interval."""


@dataclass(frozen=True)
class BootstrapScores:
    """M scores with their bootstrap distributions; NaN where a score is undefined."""

    values: Doubles
    """Scores on all images, (M,)."""
    draws: Doubles
    """Scores on R resamples of the groups, (R, M); R is 0 if there are fewer than `FEWEST_GROUPS`."""

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
    """Reduce all images, and `spec.resamples` resamples of their groups (see `metrics.bootstrap`).

    Resamples of few groups vary too little: for a mean by the factor sqrt((G - 1) / G), and the normal distribution in
    place of Student's. Below `MANY_GROUPS` groups they are spread by both, and every other one is mirrored, since the
    skewness of so few groups misleads: the interval of a mean is then Student's. Below `FEWEST_GROUPS` no score has an
    interval.
    """
    values = reduction(np.ones((1, len(groups))))[0]
    if len(set(groups)) < FEWEST_GROUPS:
        return BootstrapScores(values, np.empty((0, len(values))))
    draws = bootstrap(reduction, groups, spec)
    informative = _informative(reduction, groups, values)
    odd = (np.arange(len(draws)) % 2 == 1)[:, None] & (informative < MANY_GROUPS)
    return BootstrapScores(values, values + (draws - values) * np.where(odd, -1, 1) * _spread(informative, spec))


def _informative(reduction: Reduction, groups: Sequence[str], values: Doubles) -> NDArray[np.int64]:
    """Count the groups that matter to each score, (M,): those that define it alone, or change it by their absence.

    All of them where none does, as for an average of classes that is perfect.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    counts, step = np.zeros(len(values), np.int64), max(1, WEIGHTS_AT_ONCE // len(member))
    for at in range(0, len(names), step):
        own = (member == np.arange(at, min(at + step, len(names)))[:, None]).astype(float)
        counts += (
            np.isfinite(reduction(own)) | ~np.isclose(reduction(1 - own), values, rtol=1e-9, equal_nan=True)
        ).sum(axis=0)
    return np.where(counts > 0, counts, len(names))


def _spread(groups: NDArray[np.int64], spec: EvalSpec) -> Doubles:
    tail, few = (1 - spec.confidence) / 2, groups.clip(FEWEST_GROUPS)
    student = np.sqrt(few / (few - 1)) * stdtrit(few - 1, tail) / ndtri(tail)
    return np.where(groups < FEWEST_GROUPS, np.nan, np.where(groups < MANY_GROUPS, student, 1.0))


def intervals(
    reduction: Reduction, groups: Sequence[str], spec: EvalSpec, lowest: float | Sequence[float] = 0.0
) -> tuple[Interval | None, ...]:
    """Return a score with its percentile interval for each column of the reduction; None where it is undefined.

    A score has no interval if fewer than `FEWEST_GROUPS` groups or `DEFINED` of the resamples define it. Intervals end
    at `lowest`, of all columns or of each, and 1, what the scores can be: resamples of few groups are spread beyond.
    """
    scores = bootstrap_scores(reduction, groups, spec).intervals(spec)
    ends = np.broadcast_to(lowest, len(scores)).tolist()
    return tuple(score and score.clipped(end) for score, end in zip(scores, ends, strict=True))
