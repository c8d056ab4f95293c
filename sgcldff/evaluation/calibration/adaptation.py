"""Adaptation of a model to a laboratory from some twenty of its cells, chosen by cross-validation.

On unseen stains, cells are misclassified because of a shifted decision boundary rather than poor features. A bias per
class or, with more cells, a linear function of the embedding is added to the logits. Both are regularised towards 0: a
class without reviewed cells keeps its probability unless cells of other classes were mistaken for it.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import numpy as np
from scipy.optimize import minimize
from sklearn.model_selection import GroupKFold

from sgcldff.core.settings import require
from sgcldff.evaluation.calibration.labelled_cells import LabelledCells, are_correct, log_losses
from sgcldff.evaluation.metrics import Bools, Doubles, TypePredictions, type_scores

MIN_CELLS = 10
"""Smallest number of cells from which anything is chosen."""
FOLDS = 20
"""Folds of the cross-validation; leave-one-out with fewer cells."""
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Candidates for the inverse prior variance of the logits added to a typical cell."""


class Kind(StrEnum):
    """What is added to the logits of a model."""

    NOTHING = "nothing"
    BIAS = "bias"
    """A bias per class."""
    HEAD = "head"
    """A bias per class and a linear function of the embedding."""


@dataclass(frozen=True, eq=False)
class Adjustment:
    """A change of the layer that maps embeddings to logits."""

    weight: Doubles
    """(C, D)."""
    bias: Doubles
    """(C,)."""

    def __call__(self, cells: LabelledCells) -> Doubles:
        """Return the adjusted logits, (N, C)."""
        return cells.logits + cells.embedding @ self.weight.T + self.bias


@dataclass(frozen=True)
class Candidate:
    """A kind of change with its regularisation."""

    kind: Kind
    penalty: float = 0.0

    def fit(self, cells: LabelledCells) -> Adjustment:
        """Return the maximum a posteriori change given some cells.

        Minimises the summed log loss plus half the penalty times the sum of squared coefficients, with embeddings
        scaled to a root mean square length of 1.
        """
        classes, width = cells.logits.shape[1], cells.embedding.shape[1]
        if self.kind is Kind.NOTHING:
            return Adjustment(np.zeros((classes, width)), np.zeros(classes))
        scale = float(np.sqrt((cells.embedding**2).sum(axis=1).mean())) or 1.0
        inputs = [np.ones((len(cells), 1))] + [cells.embedding / scale] * (self.kind is Kind.HEAD)
        design = np.hstack(inputs)
        coefficients = _fit_coefficients(cells.logits, design, cells.allowed, self.penalty)
        weight = coefficients[:, 1:] / scale if self.kind is Kind.HEAD else np.zeros((classes, width))
        return Adjustment(weight, coefficients[:, 0])


def _fit_coefficients(logits: Doubles, design: Doubles, allowed: Bools, penalty: float) -> Doubles:
    """Return the coefficients (C, K) for a design (N, K) that minimise the penalised log loss."""

    def cost(flat: Doubles) -> tuple[float, Doubles]:
        coefficients = flat.reshape(logits.shape[1], -1)
        losses, slopes = log_losses(logits + design @ coefficients.T, allowed)
        slope = slopes.T @ design + penalty * coefficients
        return float(losses.sum() + penalty / 2 * flat @ flat), slope.ravel()

    start = np.zeros(logits.shape[1] * design.shape[1])
    result = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-9, "gtol": 1e-5})
    return np.asarray(result.x).reshape(logits.shape[1], -1)


CANDIDATES = (Candidate(Kind.NOTHING), *(Candidate(kind, p) for kind in (Kind.BIAS, Kind.HEAD) for p in PENALTIES))


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Cross-validated predictions of a candidate."""

    logits: Doubles
    """Of each cell, by a fit from which it was held out; (N, C)."""
    allowed: Bools
    """Classes that the label of each cell allows, (N, C)."""

    @cached_property
    def losses(self) -> Doubles:
        """Log loss of each cell, (N,)."""
        return log_losses(self.logits, self.allowed)[0]

    @property
    def log_loss(self) -> float:
        """Mean log loss of the cells."""
        return float(self.losses.mean())

    @cached_property
    def correct(self) -> Bools:
        """Whether each cell is classified correctly, (N,)."""
        return are_correct(self.logits, self.allowed)

    @cached_property
    def right(self) -> int:
        """Cells that are classified correctly."""
        return int(self.correct.sum())

    @cached_property
    def macro_f1(self) -> float:
        """Mean F1 over the labels that occur; NaN if only one does."""
        count, classes = self.allowed.shape
        both = np.vstack((self.allowed, np.eye(classes, dtype=bool)))
        labels, codes = np.unique(both, axis=0, return_inverse=True)
        true, wrong = codes[:count], codes[count:][self.logits.argmax(axis=1)]
        predicted = np.where(self.correct, true, wrong)
        types = TypePredictions(tuple(map(str, range(len(labels)))), true, predicted, np.ones(count))
        return float(type_scores(types)(np.ones((1, count)))[0, 2])

    def is_as_good_as(self, other: "HeldOut") -> bool:
        """Whether neither accuracy nor macro F1 is lower than that of `other`."""
        return self.right >= other.right and not self.macro_f1 < other.macro_f1


@dataclass(frozen=True, eq=False)
class Adaptation:
    """The chosen change with its cross-validated effect."""

    chosen: Candidate
    adjustment: Adjustment
    before: HeldOut
    """Predictions of the unchanged model."""
    after: HeldOut
    """Predictions of the chosen candidate; `before` if it is `NOTHING`."""

    @property
    def helps(self) -> bool:
        """Whether the model should be changed."""
        return self.chosen.kind is not Kind.NOTHING


def adapt(cells: LabelledCells) -> Adaptation:
    """Choose a change of a model by cross-validation on a laboratory's cells, and fit it on all of them.

    Cells of one slide are held out together if there are at least `FOLDS` slides. The candidate with the lowest log
    loss is chosen, among those whose accuracy and macro F1 are at least those of the unchanged model. The model is left
    unchanged unless the reduction of the log loss exceeds its standard error, since a spurious change does some harm,
    and if all cells have the same label, since a change would only make that label more probable.

    Raises
    ------
    InputError
        If there are fewer than `MIN_CELLS` cells, or a label allows every class.
    """
    require(
        len(cells) >= MIN_CELLS,
        f"{len(cells)} cells with a type are too few to calibrate: review at least {MIN_CELLS}",
    )
    require(
        not cells.allowed.all(axis=1).any(),
        "a label that allows every class carries no information: leave such cells out",
    )
    unchanged, *changes = CANDIDATES
    before = after = HeldOut(cells.logits, cells.allowed)
    chosen = unchanged
    if len(np.unique(cells.allowed, axis=0)) > 1:
        held_out = {candidate: HeldOut(_held_out_logits(candidate, cells), cells.allowed) for candidate in changes}
        as_good = [candidate for candidate in changes if held_out[candidate].is_as_good_as(before)]
        best = min(as_good, key=lambda candidate: held_out[candidate].losses.mean(), default=unchanged)
        gain = before.losses - held_out.get(best, before).losses
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(cells)):
            chosen, after = best, held_out[best]
    return Adaptation(chosen, chosen.fit(cells), before, after)


def _held_out_logits(candidate: Candidate, cells: LabelledCells) -> Doubles:
    """Return logits (N, C) of each cell by a fit from which it was held out."""
    by_slide = len(set(cells.groups)) >= FOLDS
    groups = cells.groups if by_slide else tuple(map(str, range(len(cells))))
    folds = GroupKFold(min(FOLDS, len(cells)), shuffle=True, random_state=0)
    logits = cells.logits.copy()
    for kept, held_out in folds.split(cells.logits, groups=groups):
        logits[held_out] = candidate.fit(cells.take(kept))(cells.take(held_out))
    return logits
