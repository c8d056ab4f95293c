"""The confidence below which a model abstains, chosen on stains that were not in the training data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sgcldff.core.settings import EvalSpec
from sgcldff.evaluation.bootstrap import intervals
from sgcldff.evaluation.metrics import Bools, Doubles, Interval, mean_of


@dataclass(frozen=True)
class ConfidenceLimit:
    """A confidence below which cells are not classified, with its mean effect over stains."""

    confidence: float
    accuracy: float
    """Accuracy of the classified cells, mean over stains."""
    kept: float
    """Share of the cells that are classified, mean over stains."""


def choose_limit(confidence: Doubles, correct: Bools, stains: Sequence[str], goal: float) -> ConfidenceLimit | None:
    """Choose the lowest limit from which on the mean accuracy reaches its goal; None if there is none.

    A laboratory is one more stain, so each stain has the same weight, however many cells it has; one with all cells
    below a limit has an accuracy of 1. With few stains, the limit describes those stains and guarantees nothing for the
    next.

    Parameters
    ----------
    confidence
        Probability of each cell's predicted type, (N,).
    correct
        Whether the prediction is correct, (N,).
    stains
        Data set of each cell.
    goal
        Required mean accuracy, in [0, 1].
    """
    stain_of_cell = np.asarray(stains)
    limits = np.unique(np.append(confidence, 0.0))
    curves = [
        _curve(confidence[stain_of_cell == stain], correct[stain_of_cell == stain], limits)
        for stain in np.unique(stain_of_cell)
    ]
    accuracy, kept = np.mean(curves, axis=0)
    short = np.flatnonzero(accuracy < goal)
    lowest = short[-1] + 1 if len(short) else 0
    if lowest == len(limits):
        return None
    return ConfidenceLimit(float(limits[lowest]), float(accuracy[lowest]), float(kept[lowest]))


def _curve(confidence: Doubles, correct: Bools, limits: Doubles) -> tuple[Doubles, Doubles]:
    """Return accuracy and share of the cells of one stain at or above each limit."""
    order = np.argsort(confidence)
    below = np.searchsorted(confidence[order], limits, side="left")
    hits = np.append(np.cumsum(correct[order][::-1])[::-1], 0)[below]
    classified = len(confidence) - below
    accuracy = np.where(classified > 0, hits / np.maximum(classified, 1), 1.0)
    return accuracy, classified / len(confidence)


@dataclass(frozen=True)
class Abstention:
    """What a limit of confidence does to labelled images."""

    min_confidence: float
    """Images below this confidence stay unidentified."""
    kept: float
    """Share of the images that are classified."""
    accuracy: float | None
    """Accuracy of the classified images; None if there is none."""
    rejected: Mapping[str, float]
    """Share of the images that stay unidentified, by true label; it may vary strongly."""


def abstention(confidence: Doubles, correct: Bools, labels: Sequence[str], limit: float) -> Abstention:
    """Return the effect of a limit.

    Parameters
    ----------
    confidence
        Probability of each image's predicted type, (N,).
    correct
        Whether the prediction is correct, (N,).
    labels
        True label of each image.
    """
    names, classified = np.asarray(labels), confidence >= limit
    rejected = {str(name): float(1 - classified[names == name].mean()) for name in np.unique(names)}
    accuracy = float(correct[classified].mean()) if classified.any() else None
    return Abstention(limit, float(classified.mean()), accuracy, rejected)


ATYPICAL_SHARE = 0.05
"""Typicality below which about one in twenty cells like the held-out ones lies, all types together."""


@dataclass(frozen=True)
class AtypicalShare:
    """The images of one label whose typicality is below `ATYPICAL_SHARE`."""

    label: str
    images: int
    share: Interval


def atypical_shares(
    typicality: Doubles, labels: Sequence[str], groups: Sequence[str], spec: EvalSpec
) -> tuple[AtypicalShare, ...]:
    """Return by true label how many images are atypical: a limit that holds on the whole may reject most of one type.

    Parameters
    ----------
    typicality
        Of each image's cell, (N,).
    labels
        True label of each image.
    groups
        Patient or slide of each.
    """
    names = np.asarray(labels)
    below = (typicality < ATYPICAL_SHARE).astype(float)
    kinds = [str(name) for name in np.unique(names)]
    of_kind = np.column_stack([np.where(names == kind, below, np.nan) for kind in kinds])
    shares = intervals(mean_of(of_kind), groups, spec)
    return tuple(
        AtypicalShare(kind, int((names == kind).sum()), share)
        for kind, share in zip(kinds, shares, strict=True)
        if share is not None
    )
