"""Scores of candidates on the same images and bootstrap samples, and each one's lead over the reference.

A candidate's score is the mean over its seeds, and so is its value on each bootstrap sample, from which the intervals
are computed. Groups of all data sets of a protocol are resampled together, so that means over data sets have intervals
too; likewise for means over two protocols.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import Field

from sgcldff.benchmark.protocols import REFERENCE, Protocol
from sgcldff.core.errors import InputError
from sgcldff.core.settings import EvalSpec
from sgcldff.evaluation import metrics
from sgcldff.evaluation.bootstrap import BootstrapScores, bootstrap_scores
from sgcldff.evaluation.metrics import Bools, Doubles, Interval, Reduction
from sgcldff.evaluation.predictions import Predictions
from sgcldff.evaluation.report import EXPLANATIONS, OUTLINES, image_scores, type_predictions

TYPE_FIGURES = ("accuracy", "balanced_accuracy", "macro_f1", "calibration_error")
FIGURES = (*OUTLINES, *EXPLANATIONS, *TYPE_FIGURES)
GOALS, TYPE_GOALS = ("cell_iou", "nucleus_iou", "accuracy", "macro_f1"), ("accuracy", "macro_f1")
SCORE, TYPE_SCORE = "score", "type_score"
"""Means over all data sets of `GOALS` and of `TYPE_GOALS`, as far as the images define them."""
PROPORTIONS = frozenset({*OUTLINES, *TYPE_FIGURES, SCORE, TYPE_SCORE})
"""Figures from 0 to 1."""
LOWER_IS_BETTER = frozenset({"calibration_error"})
OVERALL = "all"
"""Name of means over data sets or corruptions."""
BOTH_PROTOCOLS = "within and left-out"
"""Name of the scores over both protocols."""
LEFT_OUT_ROW = f"{Protocol.LEFT_OUT}/"
"""Row of the left-out data sets, and prefix of their names."""

SeedPredictions = Mapping[str, Predictions]
"""Predictions of one seed's models: data set -> predictions."""
CandidatePredictions = Mapping[str, Mapping[int, SeedPredictions]]
"""Candidate -> seed -> predictions."""


@dataclass(frozen=True)
class ScoreEntry:
    """One figure of one candidate."""

    protocol: Protocol
    candidate: Annotated[str, Field(alias="contender")]
    data: str
    """Data set, or kind of corruption; `OVERALL` for means over them, `BOTH_PROTOCOLS` for means over both."""
    figure: str
    """A name of `FIGURES`, a score, or a strength of a corruption."""
    score: Interval
    """Mean over the seeds."""
    least: float
    """Smallest value over the seeds."""
    most: float
    """Largest value over the seeds."""
    seeds: int
    lead: Interval | None = None
    """Paired difference to the reference; None for the reference itself, or if the reference has no such figure."""

    @property
    def column(self) -> tuple[str, str]:
        """Data and figure: the column of the table."""
        return self.data, self.figure

    @property
    def verdict(self) -> int:
        """1 if it is better than the reference, -1 if it is worse, 0 if the interval contains 0."""
        if self.lead is None or self.lead.low is None or self.lead.high is None or self.lead.low <= 0 <= self.lead.high:
            return 0
        sign = 1 if self.lead.low > 0 else -1
        return -sign if self.figure in LOWER_IS_BETTER else sign


@dataclass(frozen=True)
class ScoredImages:
    """The images of a protocol, ordered by data set."""

    images: Mapping[str, Predictions]
    """Data set -> predictions of any model, for the truth in them."""

    @classmethod
    def of(cls, runs: Iterable[SeedPredictions]) -> "ScoredImages":
        """Collect the images that were predicted.

        Raises
        ------
        InputError
            If two models were scored on different images or labels of a data set.
        """
        images: dict[str, Predictions] = {}
        for source, predictions in sorted((pair for run in runs for pair in run.items()), key=lambda pair: pair[0]):
            first = images.setdefault(source, predictions)
            if first.truth != predictions.truth:
                raise InputError(
                    f"models {first.model} and {predictions.model} were scored on different images or labels of "
                    f"{source}: remove the folder `evaluations` of the benchmark and run it again"
                )
        return cls(images)

    @cached_property
    def groups(self) -> list[str]:
        """Group of every image."""
        return [group for predictions in self.images.values() for group in predictions.groups]

    @cached_property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Data set and figure of every column of `reduction`."""
        return tuple((source, figure) for source in self.images for figure in FIGURES)

    def reduction(self, run: SeedPredictions, bins: int, *, outlines: bool = True) -> Reduction:
        """Prepare `FIGURES` of every data set: weights (R, N) to (R, M); NaN for data sets without predictions."""
        ends = np.cumsum([len(predictions.groups) for predictions in self.images.values()])
        parts = [
            (
                slice(end - len(predictions.groups), end),
                source_figures(run[source], bins, outlines=outlines) if source in run else None,
            )
            for end, (source, predictions) in zip(ends.tolist(), self.images.items(), strict=True)
        ]
        missing = np.full(len(FIGURES), np.nan)

        def reduce(weights: Doubles) -> Doubles:
            columns = [
                np.broadcast_to(missing, (len(weights), len(FIGURES))) if part is None else part(weights[:, rows])
                for rows, part in parts
            ]
            return np.column_stack(columns)

        return reduce


def scores_of_seed(run: SeedPredictions, bins: int, *, outlines: bool = True) -> dict[tuple[str, str], float]:
    """Return the defined figures of one seed by data set and figure, including the scores over all data sets."""
    images = ScoredImages.of([run])
    (row,) = images.reduction(run, bins, outlines=outlines)(np.ones((1, len(images.groups))))
    scores = {column: float(value) for column, value in zip(images.columns, row, strict=True) if np.isfinite(value)}
    for name, goals in ((SCORE, GOALS if outlines else ()), (TYPE_SCORE, TYPE_GOALS)):
        terms = [value for (_, figure), value in scores.items() if figure in goals]
        scores |= {(OVERALL, name): float(np.mean(terms))} if terms else {}
    return scores


def source_figures(predictions: Predictions, bins: int, *, outlines: bool = True) -> Reduction:
    """Prepare `FIGURES` of one data set: weights (R, N) to (R, F); those of outlines are NaN if none are learned."""
    per_image = image_scores(predictions)
    if not outlines:
        per_image[:, : len(OUTLINES)] = np.nan
    means = metrics.mean_of(per_image)
    types, labelled = type_predictions(predictions)
    groups = [group for group, use in zip(predictions.groups, labelled, strict=True) if use]
    scores = metrics.type_scores(types, metrics.averaged_labels(types, groups))
    gap = metrics.calibration_error(types, bins)

    def reduce(weights: Doubles) -> Doubles:
        if not labelled.any():
            return np.column_stack((means(weights), np.full((len(weights), len(TYPE_FIGURES)), np.nan)))
        own = weights[:, labelled]
        return np.column_stack((means(weights), scores(own)[:, :3], gap(own)))

    return reduce


@dataclass(frozen=True)
class Comparison:
    """Predictions of candidates, and how they are scored."""

    runs: CandidatePredictions
    spec: EvalSpec
    type_only: frozenset[str] = frozenset()
    """Candidates that do not learn outlines."""
    rows: Mapping[str, str] = field(default_factory=dict)
    """Data set -> row, by default its own: a figure's mean over the data sets of a row is one term of the scores."""

    @cached_property
    def images(self) -> ScoredImages:
        """The images."""
        return ScoredImages.of(run for seeds in self.runs.values() for run in seeds.values())

    @cached_property
    def scores(self) -> Mapping[str, Mapping[int, BootstrapScores]]:
        """Candidate -> seed -> figures, followed by the scores over all data sets."""
        figures = {
            name: {seed: self._figures(name, run) for seed, run in seeds.items()} for name, seeds in self.runs.items()
        }
        defined = [np.isfinite(one.values) for seeds in figures.values() for one in seeds.values()]
        exists = np.any(defined, axis=0) if defined else np.zeros(len(self.images.columns), bool)
        goals, type_goals = self._weights(exists, GOALS), self._weights(exists, TYPE_GOALS)
        return {
            name: {
                seed: _with_means(one, goals if name not in self.type_only else None, type_goals)
                for seed, one in seeds.items()
            }
            for name, seeds in figures.items()
        }

    def _weights(self, exists: Bools, goals: Sequence[str]) -> Doubles:
        """Return each column's weight in the mean of the goals that exist, (M,): 0 to 1."""
        terms = [
            (self.rows.get(source, source), figure) if defined and figure in goals else None
            for (source, figure), defined in zip(self.images.columns, exists, strict=True)
        ]
        counts = Counter(term for term in terms if term)
        return np.array([1 / counts[term] / len(counts) if term else 0.0 for term in terms])

    @property
    def columns(self) -> tuple[tuple[str, str], ...]:
        """Data set and figure of every column of `scores`."""
        return (*self.images.columns, (OVERALL, SCORE), (OVERALL, TYPE_SCORE))

    def _figures(self, name: str, run: SeedPredictions) -> BootstrapScores:
        reduction = self.images.reduction(run, self.spec.calibration_bins, outlines=name not in self.type_only)
        return bootstrap_scores(reduction, self.images.groups, self.spec)

    def entries(self, protocol: Protocol) -> Iterator[ScoreEntry]:
        """Return all defined figures."""
        own = self.scores.get(REFERENCE, {})
        reference = mean_over_seeds(own.values()) if own else None
        for name, seeds in self.scores.items():
            base = reference if name != REFERENCE else None
            yield from score_entries(protocol, name, self.columns, seeds.values(), base, self.spec)


def _with_means(one: BootstrapScores, goals: Doubles | None, type_goals: Doubles) -> BootstrapScores:
    """Append weighted means of the columns; a mean is undefined if one of its columns is."""

    def mean(rows: Doubles, weights: Doubles | None) -> Doubles:
        if weights is None or not (weights > 0).any():
            return np.full(len(rows), np.nan)
        return np.asarray(rows[:, weights > 0] @ weights[weights > 0])

    def appended(rows: Doubles) -> Doubles:
        return np.column_stack((rows, mean(rows, goals), mean(rows, type_goals)))

    return BootstrapScores(appended(one.values[None])[0], appended(one.draws))


def mean_over_seeds(seeds: Iterable[BootstrapScores]) -> BootstrapScores:
    """Average over the seeds for which a score is defined, sample by sample."""
    every = list(seeds)
    values = np.stack([one.values for one in every])
    defined = np.isfinite(values)
    draws = np.where(defined[:, None], np.stack([one.draws for one in every]), 0).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return BootstrapScores(metrics.nanmean(values.T), draws / defined.sum(axis=0))


def score_entries(
    protocol: Protocol,
    candidate: str,
    columns: Sequence[tuple[str, str]],
    seeds: Iterable[BootstrapScores],
    reference: BootstrapScores | None,
    spec: EvalSpec,
) -> Iterator[ScoreEntry]:
    """Return the defined figures of one candidate, and their leads over the reference."""
    every = list(seeds)
    mean, values = mean_over_seeds(every), np.stack([one.values for one in every])
    leads = (mean - reference).intervals(spec) if reference else (None,) * len(columns)
    for (data, figure), score, lead, own in zip(columns, mean.intervals(spec), leads, values.T, strict=True):
        if score is not None:
            defined = own[np.isfinite(own)]
            spread = (float(defined.min()), float(defined.max()), len(defined))
            shown = score.clipped() if figure in PROPORTIONS else score
            yield ScoreEntry(protocol, candidate, data, figure, shown, *spread, lead)


def pooled_entries(
    within: CandidatePredictions,
    left_out: CandidatePredictions,
    spec: EvalSpec,
    type_only: frozenset[str] = frozenset(),
) -> Iterator[ScoreEntry]:
    """Return scores over both protocols, for seeds that were scored in both, as `BOTH_PROTOCOLS` of `LEFT_OUT`.

    The terms of the mean are the goals of every data set within, and each goal's mean over the left-out data sets.
    """
    runs = {
        name: {
            seed: {**within[name][seed], **{f"{LEFT_OUT_ROW}{source}": own for source, own in run.items()}}
            for seed, run in seeds.items()
            if seed in within[name]
        }
        for name, seeds in left_out.items()
        if name in within
    }
    sources = {source for seeds in left_out.values() for run in seeds.values() for source in run}
    rows = {f"{LEFT_OUT_ROW}{source}": LEFT_OUT_ROW for source in sources}
    for entry in Comparison(runs, spec, type_only, rows).entries(Protocol.LEFT_OUT):
        if entry.data == OVERALL:
            yield replace(entry, data=BOTH_PROTOCOLS)
