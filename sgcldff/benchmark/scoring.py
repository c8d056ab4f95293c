"""Scores of contenders on the same images and the same draws of groups, and how far each leads the reference.

A contender's score is the mean over its seeds; so is its value on every draw of groups, of which the intervals are.
Images of all data sets of a protocol are drawn together, which is what lets means over data sets be drawn as well; so
are those of two protocols where a mean is over both.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from sgcldff.benchmark.protocols import REFERENCE, Protocol
from sgcldff.core.errors import InputError
from sgcldff.core.settings import EvalSpec
from sgcldff.evaluation.bootstrap import Sampled, sampled
from sgcldff.evaluation.metrics import (
    Bools,
    Floats,
    Interval,
    Reduction,
    calibration_error,
    mean_of,
    nanmean,
    type_scores,
)
from sgcldff.evaluation.predictions import Predictions
from sgcldff.evaluation.report import OUTLINES, outline_scores, typing_of

TYPES = ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")
FIGURES = (*OUTLINES, *TYPES)
GOALS, TYPE_GOALS = ("cell_iou", "nucleus_iou", "accuracy", "macro_f1"), ("accuracy", "macro_f1")
SCORE, TYPE_SCORE = "score", "type_score"
"""Means over all data sets of `GOALS` and of `TYPE_GOALS`, as far as the images tell them."""
LOWER_IS_BETTER = frozenset({"calibration_error"})
OVERALL = "all"
"""Name under which data sets, or changes, are taken together."""

Run = Mapping[str, Predictions]
"""What one seed's models said: data set -> predictions."""
Runs = Mapping[str, Mapping[int, Run]]
"""Contender -> seed -> what its models said."""


@dataclass(frozen=True)
class Entry:
    """One figure of one contender."""

    protocol: Protocol
    contender: str
    data: str
    """Data set, or kind of change; `OVERALL` for means over them, `together.TOGETHER` for means over protocols too."""
    figure: str
    """A name of `FIGURES`, a score, or a strength of a change."""
    score: Interval
    """Mean over the seeds."""
    least: float
    """Over the seeds."""
    most: float
    seeds: int
    lead: Interval | None = None
    """Score less the reference's, paired; None for the reference itself and where it has no such figure."""

    @property
    def place(self) -> tuple[str, str]:
        """Give the column of the table."""
        return self.data, self.figure

    @property
    def verdict(self) -> int:
        """Give 1 where it is better than the reference, -1 where it is worse, 0 where the interval holds 0."""
        if self.lead is None or self.lead.low is None or self.lead.high is None or self.lead.low <= 0 <= self.lead.high:
            return 0
        sign = 1 if self.lead.low > 0 else -1
        return -sign if self.figure in LOWER_IS_BETTER else sign


@dataclass(frozen=True)
class Layout:
    """The images of a protocol, in the order of data sets."""

    images: Mapping[str, Predictions]
    """Data set -> anybody's predictions, for the truth in them."""

    @classmethod
    def of(cls, runs: Iterable[Run]) -> "Layout":
        """Lay out what runs were asked about.

        Raises
        ------
        InputError
            If two of them were scored on other images or labels of a data set.
        """
        images: dict[str, Predictions] = {}
        for source, said in sorted((pair for run in runs for pair in run.items()), key=lambda pair: pair[0]):
            known = images.setdefault(source, said)
            if known.truth != said.truth:
                raise InputError(
                    f"models {known.model} and {said.model} were scored on other images or labels of {source}: "
                    "remove the folder `evaluations` of the benchmark and run it again"
                )
        return cls(images)

    @cached_property
    def groups(self) -> list[str]:
        """Group of every image."""
        return [group for said in self.images.values() for group in said.groups]

    @cached_property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Data set and figure of every column of `reduction`."""
        return tuple((source, figure) for source in self.images for figure in FIGURES)

    def reduction(self, run: Run, bins: int, *, outlines: bool = True) -> Reduction:
        """Prepare `FIGURES` of every data set: weights (R, N) to (R, M); NaN where the run lacks a data set."""
        ends = np.cumsum([len(said.groups) for said in self.images.values()])
        parts = [
            (
                slice(end - len(said.groups), end),
                figures(run[source], bins, outlines=outlines) if source in run else None,
            )
            for end, (source, said) in zip(ends.tolist(), self.images.items(), strict=True)
        ]
        missing = np.full(len(FIGURES), np.nan)

        def reduce(weights: Floats) -> Floats:
            columns = [
                np.broadcast_to(missing, (len(weights), len(FIGURES))) if part is None else part(weights[:, rows])
                for rows, part in parts
            ]
            return np.column_stack(columns)

        return reduce


def values(run: Run, bins: int, *, outlines: bool = True) -> dict[tuple[str, str], float]:
    """Give the defined figures of one run on its own, by data set and figure, its scores over all of them too."""
    layout = Layout.of([run])
    (row,) = layout.reduction(run, bins, outlines=outlines)(np.ones((1, len(layout.groups))))
    found = {place: float(value) for place, value in zip(layout.columns, row, strict=True) if np.isfinite(value)}
    for name, goals in ((SCORE, GOALS if outlines else ()), (TYPE_SCORE, TYPE_GOALS)):
        told = [value for (_, figure), value in found.items() if figure in goals]
        found |= {(OVERALL, name): float(np.mean(told))} if told else {}
    return found


def figures(said: Predictions, bins: int, *, outlines: bool = True) -> Reduction:
    """Prepare `FIGURES` of one data set: weights (R, N) to (R, F); those of outlines are NaN where none are learned."""
    measured = outline_scores(said)[:, : len(OUTLINES)]
    outlined, (typing, typed) = mean_of(measured if outlines else np.full_like(measured, np.nan)), typing_of(said)
    kinds, gap = type_scores(typing), calibration_error(typing, bins)

    def reduce(weights: Floats) -> Floats:
        if not typed.any():
            return np.column_stack((outlined(weights), np.full((len(weights), len(TYPES)), np.nan)))
        labelled = weights[:, typed]
        return np.column_stack((outlined(weights), kinds(labelled)[:, :3], gap(labelled)))

    return reduce


@dataclass(frozen=True)
class Contest:
    """What contenders said, and how it is scored."""

    runs: Runs
    spec: EvalSpec
    type_only: frozenset[str] = frozenset()
    """Contenders that learn no outlines."""
    rows: Mapping[str, str] = field(default_factory=dict)
    """Data set -> row in which the scores count it: a figure's mean over a row is one term. Its own where not named."""

    @cached_property
    def layout(self) -> Layout:
        """The images."""
        return Layout.of(run for seeds in self.runs.values() for run in seeds.values())

    @cached_property
    def sampled(self) -> Mapping[str, Mapping[int, Sampled]]:
        """Contender -> seed -> figures, with the scores over all data sets behind them."""
        bare = {
            name: {seed: self._figures(name, run) for seed, run in seeds.items()} for name, seeds in self.runs.items()
        }
        told = [np.isfinite(one.values) for seeds in bare.values() for one in seeds.values()]
        exists = np.any(told, axis=0) if told else np.zeros(len(self.layout.columns), bool)
        shares = (self._shares(exists, GOALS), self._shares(exists, TYPE_GOALS))
        return {
            name: {seed: _summed(one, shares, outlines=name not in self.type_only) for seed, one in seeds.items()}
            for name, seeds in bare.items()
        }

    def _shares(self, exists: Bools, goals: Sequence[str]) -> Floats:
        """Give each column's share in the mean of those goals that exist, (M,): 0 to 1."""
        terms = [
            (self.rows.get(source, source), figure) if told and figure in goals else None
            for (source, figure), told in zip(self.layout.columns, exists, strict=True)
        ]
        counted = Counter(term for term in terms if term)
        return np.array([1 / counted[term] / len(counted) if term else 0.0 for term in terms])

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Data set and figure of every column of `sampled`."""
        return (*self.layout.columns, (OVERALL, SCORE), (OVERALL, TYPE_SCORE))

    def _figures(self, name: str, run: Run) -> Sampled:
        reduction = self.layout.reduction(run, self.spec.calibration_bins, outlines=name not in self.type_only)
        return sampled(reduction, self.layout.groups, self.spec)

    def entries(self, protocol: Protocol) -> Iterator[Entry]:
        """Give all figures that are defined."""
        for name, seeds in self.sampled.items():
            yield from entries((protocol, name), self.columns, seeds.values(), self._reference(name), self.spec)

    def _reference(self, name: str) -> Sampled | None:
        seeds = self.sampled.get(REFERENCE, {})
        return mean_sampled(seeds.values()) if seeds and name != REFERENCE else None


def _summed(one: Sampled, shares: tuple[Floats, Floats], *, outlines: bool) -> Sampled:
    """Put means over columns, by their shares, behind the columns; undefined where a column that counts is."""
    goals, type_goals = shares

    def summed(rows: Floats) -> Floats:
        score = _mean(rows, goals) if outlines else np.full(len(rows), np.nan)
        return np.column_stack((rows, score, _mean(rows, type_goals)))

    return Sampled(summed(one.values[None])[0], summed(one.draws))


def _mean(rows: Floats, shares: Floats) -> Floats:
    counts = shares > 0
    return np.asarray(rows[:, counts] @ shares[counts]) if counts.any() else np.full(len(rows), np.nan)


def mean_sampled(seeds: Iterable[Sampled]) -> Sampled:
    """Average over the seeds for which a score is defined, draw by draw."""
    every = list(seeds)
    single = np.stack([one.values for one in every])
    counted = np.isfinite(single)
    draws = np.where(counted[:, None], np.stack([one.draws for one in every]), 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return Sampled(nanmean(single.T), draws / counted.sum(axis=0))


def entries(
    of: tuple[Protocol, str],
    columns: Sequence[tuple[str, str]],
    seeds: Iterable[Sampled],
    reference: Sampled | None,
    spec: EvalSpec,
) -> Iterator[Entry]:
    """Give the defined figures of one contender's seeds, and their leads over the reference."""
    every = list(seeds)
    mean, single = mean_sampled(every), np.stack([one.values for one in every])
    leads = (mean - reference).intervals(spec) if reference else (None,) * len(columns)
    for (data, figure), score, lead, own in zip(columns, mean.intervals(spec), leads, single.T, strict=True):
        if score is not None:
            told = own[np.isfinite(own)]
            spread = (float(told.min()), float(told.max()), len(told))
            yield Entry(of[0], of[1], data, figure, score, *spread, lead)
