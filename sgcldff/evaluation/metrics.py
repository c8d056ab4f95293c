"""Scores of outlines and types: counts per image first, pure reductions over weighted images after.

Every reduction takes `weights` of shape (R, N): R weightings of the N images at once. A row of ones gives the score
itself; rows with the number of times a bootstrap drew each image give its distribution. NaN means that a score is
undefined (for a class that does not occur, say); it becomes None, never a number.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, distance_transform_edt

from sgcldff.core.label_codes import BACKGROUND, MAY_BE_BACKGROUND, MAY_BE_NUCLEUS, NUCLEUS
from sgcldff.core.settings import EvalSpec

Doubles = NDArray[np.float64]
"""float64, any shape."""
Bools = NDArray[np.bool_]
Reduction = Callable[[Doubles], Doubles]
"""From weights (R, N) to scores (R, M)."""

DEFINED = 0.9
"""Share of resamples that must define a score for an interval; not reached by a class in only one or two groups."""
LABEL_GROUPS = 10
"""Groups that a label must occur in to be part of averages over classes."""
WEIGHTS_AT_ONCE = 4_000_000
"""Weights held in memory at a time (32 MB)."""
BOUNDARY_TOLERANCE_UM = 0.4
"""Largest distance of matching boundaries, um: two px at 0.2 um/px.

Csurka et al. (BMVC 2013) use 0.75 % of an image's diagonal, which is the same for images of 38 um; a length in um does
not depend on the image's size.
"""


@dataclass(frozen=True)
class Overlap:
    """Overlap of a predicted area with the true one."""

    intersection: int
    """Pixels in both."""
    union: int
    """Pixels in either."""


@dataclass(frozen=True)
class Boundary:
    """Match of a predicted boundary with the true one within `BOUNDARY_TOLERANCE_UM`."""

    found: int
    """Pixels of the predicted boundary."""
    found_matched: int
    """Those that are near the true boundary."""
    true: int
    """Pixels of the true boundary."""
    true_matched: int
    """Those that are near the predicted boundary."""


@dataclass(frozen=True)
class Interval:
    """A score with its bootstrap interval; None where there are too few groups for an interval."""

    value: float
    low: float | None = None
    high: float | None = None

    def clipped(self, lowest: float = 0.0) -> "Interval":
        """Cut the ends at the values that the score can have, `lowest` to 1."""
        if self.low is None or self.high is None:
            return self
        return Interval(self.value, max(self.low, lowest), min(self.high, 1.0))

    def __str__(self) -> str:
        spread = "" if self.low is None or self.high is None else f" ({self.low:.3f} to {self.high:.3f})"
        return f"{self.value:.3f}{spread}"


def cell_overlap(labels: NDArray[np.uint8], target: NDArray[np.uint8]) -> Overlap | None:
    """Count the pixels that the predicted cell (cytoplasm and nucleus) shares with the true one.

    Parameters
    ----------
    labels
        uint8 (H, W): 0 background, 1 cytoplasm, 2 nucleus.
    target
        uint8 (H, W), bits of allowed classes: 1 background, 2 cytoplasm, 4 nucleus. Pixels that may be background as
        well as cell are ignored.

    Returns
    -------
    Overlap or None
        None if the truth is insufficient: it has unknown pixels and no known cell (boxes without masks, say).
    """
    return _overlap(labels != BACKGROUND, *_cell(target))


def nucleus_overlap(labels: NDArray[np.uint8], target: NDArray[np.uint8]) -> Overlap | None:
    """Count the pixels that the predicted nucleus shares with the true one.

    As `cell_overlap`; pixels of a cell that may be nucleus or cytoplasm are ignored.
    """
    return _overlap(labels == NUCLEUS, *_nucleus(target))


def _cell(target: NDArray[np.uint8]) -> tuple[Bools, Bools]:
    """Return masks of the true cell and of the pixels where it is known."""
    true = (target & MAY_BE_BACKGROUND == 0) & (target != 0)
    return true, true | (target == MAY_BE_BACKGROUND)


def _nucleus(target: NDArray[np.uint8]) -> tuple[Bools, Bools]:
    true = target == MAY_BE_NUCLEUS
    return true, true | ((target & MAY_BE_NUCLEUS == 0) & (target != 0))


def _overlap(found: Bools, true: Bools, known: Bools) -> Overlap | None:
    if not true.any() and not known.all():
        return None
    intersection, union = (found & true), (found | true) & known
    return Overlap(int(intersection.sum()), int(union.sum()))


def cell_boundary(labels: NDArray[np.uint8], target: NDArray[np.uint8], mpp: float) -> Boundary | None:
    """Match the boundary of the predicted cell with the true one, as Csurka et al. (BMVC 2013) do.

    A boundary consists of the outermost pixels of an area; the edge of the image is not a boundary. Pixels so near to
    unknown ones that a match could be hidden there do not count.

    Parameters
    ----------
    labels, target
        As in `cell_overlap`.
    mpp
        um/px of both.

    Returns
    -------
    Boundary or None
        None if the truth is insufficient: it has unknown pixels and no boundary away from them.
    """
    return _boundary(labels != BACKGROUND, *_cell(target), BOUNDARY_TOLERANCE_UM / mpp)


def nucleus_boundary(labels: NDArray[np.uint8], target: NDArray[np.uint8], mpp: float) -> Boundary | None:
    """Match the boundary of the predicted nucleus with the true one.

    As `cell_boundary`; pixels of a cell that may be nucleus or cytoplasm are unknown here.
    """
    return _boundary(labels == NUCLEUS, *_nucleus(target), BOUNDARY_TOLERANCE_UM / mpp)


def _boundary(found: Bools, true: Bools, known: Bools, reach_px: float) -> Boundary | None:
    boundaries = [area & ~binary_erosion(area, border_value=1) for area in (found, true)]
    away = _distance(~known) > reach_px + 1
    found_edge, true_edge = (boundary & away for boundary in boundaries)
    if not true_edge.any() and not known.all():
        return None
    near_found, near_true = (_distance(boundary) <= reach_px for boundary in boundaries)
    counted = (found_edge, found_edge & near_true, true_edge, true_edge & near_found)
    return Boundary(*(int(pixels.sum()) for pixels in counted))


def _distance(area: Bools) -> Doubles:
    """Return the distance of every pixel to the nearest one of an area, px; infinite if the area is empty."""
    return np.asarray(distance_transform_edt(~area)) if area.any() else np.full(area.shape, np.inf)


def iou(intersection: Doubles, union: Doubles) -> Doubles:
    """Jaccard index; NaN if both areas are empty."""
    return _ratio(intersection, union)


def dice(intersection: Doubles, union: Doubles) -> Doubles:
    """Dice coefficient; NaN if both areas are empty."""
    return _ratio(2 * intersection, intersection + union)


def boundary_f1(found: Doubles, found_matched: Doubles, true: Doubles, true_matched: Doubles) -> Doubles:
    """Harmonic mean of the matching shares of both boundaries; 0 if nothing matches, NaN if there is no boundary."""
    both = _ratio(2 * found_matched * true_matched, found_matched * true + true_matched * found)
    missed = (found_matched + true_matched == 0) & (found + true > 0)
    return np.asarray(np.where(missed, 0.0, both))


def _ratio(part: Doubles, whole: Doubles) -> Doubles:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))


def mean_of(values: Doubles) -> Reduction:
    """Average each column of `values` (N, M) over the images where it is defined (not NaN)."""
    defined = np.isfinite(values)
    filled = np.where(defined, values, 0)
    return lambda weights: _ratio(weights @ filled, weights @ defined.astype(float))


@dataclass(frozen=True)
class TypePredictions:
    """True and predicted types of N images, as indices of `labels`."""

    labels: tuple[str, ...]
    true: NDArray[np.int64]
    """(N,)."""
    predicted: NDArray[np.int64]
    """(N,)."""
    confidence: Doubles
    """Probability of the predicted type, (N,)."""


def confusion(types: TypePredictions, weights: Doubles) -> Doubles:
    """Count images by true type (rows) and predicted type (columns): (R, K, K)."""
    size = len(types.labels)
    entries = np.eye(size * size)[types.true * size + types.predicted]
    return np.asarray(weights @ entries).reshape(-1, size, size)


def averaged_labels(types: TypePredictions, groups: Sequence[str]) -> Bools:
    """Return which labels averages over classes are taken of, (K,): those in at least `LABEL_GROUPS` groups.

    A label in fewer groups is missing from many resamples, which would average other classes than the rest. Where fewer
    than two labels are in so many groups, all that occur are averaged.
    """
    _, members = np.unique(np.asarray(groups), return_inverse=True)
    numbers = np.array([len(np.unique(members[types.true == k])) for k in range(len(types.labels))])
    return numbers >= LABEL_GROUPS if (numbers >= LABEL_GROUPS).sum() > 1 else numbers > 0


def type_scores(types: TypePredictions, averaged: Bools | None = None) -> Reduction:
    """Score types: accuracy, balanced accuracy, macro F1, then recall, precision and F1 of every label.

    Balanced accuracy and macro F1 are means over the labels that are `averaged`, undefined where one of them does not
    occur in the truth; by default over the labels that occur. Undefined if only one label is. Columns: (R, 3 + 3 K).
    """

    def mean(scores: Doubles) -> Doubles:
        return nanmean(scores) if averaged is None else scores[:, averaged].mean(axis=1)

    def reduce(weights: Doubles) -> Doubles:
        counts = confusion(types, weights)
        hits, true, predicted = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2), counts.sum(axis=1)
        recall, precision = _ratio(hits, true), _ratio(hits, predicted)
        f1 = np.where(true > 0, _ratio(2 * hits, true + predicted), np.nan)
        accuracy = _ratio(hits.sum(axis=1), true.sum(axis=1))
        several = np.where((true > 0).sum(axis=1) > 1, 1, np.nan)
        return np.column_stack((accuracy, mean(recall) * several, mean(f1) * several, recall, precision, f1))

    return reduce


def nanmean(scores: Doubles) -> Doubles:
    """Average (R, K) over the defined columns: (R,); NaN if none is defined."""
    return _ratio(np.nansum(scores, axis=1), np.isfinite(scores).sum(axis=1).astype(float))


@dataclass(frozen=True)
class ConfidenceBin:
    """Images whose confidence lies between two limits."""

    low: float
    high: float
    images: int
    confidence: float
    """Mean of them."""
    correct: float
    """Share of them, 0 to 1."""


def reliability(confidence: Doubles, correct: Bools, bins: int) -> list[ConfidenceBin]:
    """Compare confidence with the share that is correct, in equal bins of confidence; empty bins are left out."""
    index = _bin_of(confidence, bins)
    return [
        ConfidenceBin(
            at / bins,
            (at + 1) / bins,
            int((index == at).sum()),
            float(confidence[index == at].mean()),
            float(correct[index == at].mean()),
        )
        for at in np.unique(index).tolist()
    ]


def _bin_of(confidence: Doubles, bins: int) -> NDArray[np.int64]:
    """Return the number of the bin of each confidence, from 0; a limit belongs to the bin below it."""
    return np.asarray(np.ceil(confidence * bins).astype(np.int64).clip(1, bins) - 1)


def calibration_error(types: TypePredictions, bins: int) -> Reduction:
    """Expected calibration error over `bins` equal bins of confidence (Naeini et al., AAAI 2015): (R, 1).

    With few images the bootstrap interval lies above the score itself, since noise alone widens the gaps, and a
    perfectly calibrated model has an error too: `calibration_by_chance`.
    """
    index = _bin_of(types.confidence, bins)
    gap = (types.true == types.predicted) - types.confidence
    table = np.eye(bins)[index] * gap[:, None]
    return lambda weights: _ratio(np.abs(weights @ table).sum(axis=1), weights.sum(axis=1))[:, None]


def calibration_by_chance(types: TypePredictions, bins: int, draws: int = 200) -> float:
    """Return the mean expected calibration error of a perfectly calibrated model with these confidences."""
    right = np.random.default_rng(0).random((draws, len(types.confidence))) < types.confidence
    wrong = np.full(len(types.true), -1)
    errors = (
        calibration_error(replace(types, predicted=np.where(one, types.true, wrong)), bins)(np.ones((1, len(one))))
        for one in right
    )
    return float(np.mean([error[0, 0] for error in errors]))


def auroc(scores: Doubles, positive: Bools, weights: Doubles) -> Doubles:
    """Probability that a positive image scores above a negative one, ties counting half: (R,)."""
    order = np.argsort(scores, kind="stable")
    ranked, drawn = scores[order], weights[:, order]
    ties = np.flatnonzero(np.append(True, np.diff(ranked) != 0))
    above = np.add.reduceat(drawn * positive[order], ties, axis=1)
    below = np.add.reduceat(drawn * ~positive[order], ties, axis=1)
    won = (above * (np.cumsum(below, axis=1) - below / 2)).sum(axis=1)
    return _ratio(won, above.sum(axis=1) * below.sum(axis=1))


def macro_auroc(scores: Doubles, positive: Bools, negative: Bools) -> Reduction:
    """Average one-versus-rest AUROC over the columns of `scores` (N, K): (R, 1).

    Images that are neither positive nor negative for a label are excluded from its AUROC.
    """

    def reduce(weights: Doubles) -> Doubles:
        counted = positive | negative
        columns = [auroc(scores[:, k], positive[:, k], weights * counted[:, k]) for k in range(scores.shape[1])]
        return nanmean(np.column_stack(columns))[:, None] if columns else np.full((len(weights), 1), np.nan)

    return reduce


def bootstrap(reduction: Reduction, groups: Sequence[str], spec: EvalSpec) -> Doubles:
    """Reduce `spec.resamples` samples of groups, drawn with replacement: (R, M).

    Images of one patient or slide are alike, so groups are resampled, not images (Field and Welsh, JRSS B 2007). The
    samples depend only on the groups and the seed: two models scored on the same images share them.
    """
    names, member = np.unique(np.asarray(groups), return_inverse=True)
    rng = np.random.default_rng(spec.seed)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=spec.resamples)
    step = max(1, WEIGHTS_AT_ONCE // len(member))
    parts = [reduction(draws[at : at + step, member].astype(float)) for at in range(0, spec.resamples, step)]
    return np.concatenate(parts)


def quantiles(draws: Doubles, spec: EvalSpec) -> tuple[float, float]:
    """Return the ends of the central interval that contains `spec.confidence` of the defined draws."""
    tail = (1 - spec.confidence) / 2
    low, high = np.nanquantile(draws, (tail, 1 - tail))
    return float(low), float(high)
