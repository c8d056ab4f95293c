"""When a model is to name no type: a limit of confidence, chosen on stains that the training never saw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sgcldff.evaluation.calibration.labelled_cells import Bools, Floats


@dataclass(frozen=True)
class Limit:
    """A confidence below which no type is named, and what that does on average over stains."""

    confidence: float
    accuracy: float
    """Share of the cells with a named type that are named rightly, mean over stains."""
    kept: float
    """Share of the cells for which a type is named, mean over stains."""


def choose_limit(confidence: Floats, right: Bools, stains: Sequence[str], goal: float) -> Limit | None:
    """Choose the lowest limit of confidence from which on the accuracy stays at its goal; None where none does.

    A laboratory brings one more stain, so stains count alike, however many cells each has; one all of whose cells lie
    below a limit counts as named rightly throughout. With few stains the limit says what held for them, and promises
    nothing for the next.

    Parameters
    ----------
    confidence
        Probability of the type that each cell would be given, (N,).
    right
        Whether that type is true, (N,).
    stains
        Data set of each cell.
    goal
        Mean accuracy asked for, in [0, 1].
    """
    places = np.asarray(stains)
    candidates = np.unique(np.append(confidence, 0.0))
    curves = [_curve(confidence[places == stain], right[places == stain], candidates) for stain in np.unique(places)]
    accuracy, kept = np.mean(curves, axis=0)
    short = np.flatnonzero(accuracy < goal)
    lowest = short[-1] + 1 if len(short) else 0
    if lowest == len(candidates):
        return None
    return Limit(float(candidates[lowest]), float(accuracy[lowest]), float(kept[lowest]))


def _curve(confidence: Floats, right: Bools, limits: Floats) -> tuple[Floats, Floats]:
    """Give accuracy and share of the cells of one stain that are at least as sure as each limit."""
    order = np.argsort(confidence)
    below = np.searchsorted(confidence[order], limits, side="left")
    hits = np.append(np.cumsum(right[order][::-1])[::-1], 0)[below]
    named = len(confidence) - below
    accuracy = np.where(named > 0, hits / np.maximum(named, 1), 1.0)
    return accuracy, named / len(confidence)


def rejected_by_type(confidence: Floats, limit: float, types: Sequence[str]) -> dict[str, float]:
    """Give the share of the cells of each true type for which none would be named; a type may suffer most of it."""
    names, below = np.asarray(types), confidence < limit
    return {str(name): float(below[names == name].mean()) for name in np.unique(names)}
