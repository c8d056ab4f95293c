"""Adaptation of a model to a laboratory from some twenty of its cells, chosen by cross-validation.

On unseen stains, cells are misclassified because of a shifted decision boundary rather than poor features. A bias per
class or, with more cells, a linear function of the embedding is added to the logits. Both are regularised towards 0: a
class without reviewed cells keeps its probability unless cells of other classes were mistaken for it.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.optimize import minimize
from scipy.stats import binomtest
from sklearn.model_selection import GroupKFold

from sgcldff.core.settings import require
from sgcldff.evaluation.calibration.labelled_cells import LabelledCells, are_correct, log_losses
from sgcldff.evaluation.metrics import Bools, Floats

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

    weight: Floats
    """(C, D)."""
    bias: Floats
    """(C,)."""

    def __call__(self, cells: LabelledCells) -> Floats:
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


def _fit_coefficients(logits: Floats, design: Floats, allowed: Bools, penalty: float) -> Floats:
    """Return the coefficients (C, K) for a design (N, K) that minimise the penalised log loss."""

    def cost(flat: Floats) -> tuple[float, Floats]:
        coefficients = flat.reshape(logits.shape[1], -1)
        losses, slopes = log_losses(logits + design @ coefficients.T, allowed)
        slope = slopes.T @ design + penalty * coefficients
        return float(losses.sum() + penalty / 2 * flat @ flat), slope.ravel()

    start = np.zeros(logits.shape[1] * design.shape[1])
    result = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-9, "gtol": 1e-5})
    return np.asarray(result.x).reshape(logits.shape[1], -1)


CANDIDATES = (Candidate(Kind.NOTHING), *(Candidate(kind, p) for kind in (Kind.BIAS, Kind.HEAD) for p in PENALTIES))


@dataclass(frozen=True)
class HeldOut:
    """Cross-validated results of a candidate."""

    log_loss: float
    """Mean over the cells."""
    right: int
    """Cells that are classified correctly."""
    cells: int

    @property
    def accuracy(self) -> float:
        """Share of the cells that are classified correctly."""
        return self.right / self.cells

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the exact binomial interval of the accuracy (Clopper and Pearson 1934)."""
        interval = binomtest(self.right, self.cells).proportion_ci(confidence, method="exact")
        return float(interval.low), float(interval.high)


@dataclass(frozen=True, eq=False)
class Adaptation:
    """The chosen change with its cross-validated effect."""

    chosen: Candidate
    adjustment: Adjustment
    before: HeldOut
    """Results of the unchanged model."""
    after: HeldOut
    """Results of the chosen candidate; `before` if it is `NOTHING`."""
    p_value: float
    """Two-sided exact test (McNemar 1947) of whether as many cells were gained as lost; 1 if none was."""

    @property
    def helps(self) -> bool:
        """Whether the model should be changed."""
        return self.chosen.kind is not Kind.NOTHING


def adapt(cells: LabelledCells) -> Adaptation:
    """Choose a change of a model by cross-validation on a laboratory's cells, and fit it on all of them.

    Cells of one slide are held out together if there are at least `FOLDS` slides. The candidate with the lowest log
    loss is chosen, among those that classify at least as many cells correctly as the unchanged model. The model is left
    unchanged unless the reduction of the log loss exceeds its standard error, since a spurious change does some harm.

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
    unchanged, *_ = CANDIDATES
    held_out = {candidate: _held_out_logits(candidate, cells) for candidate in CANDIDATES}
    correct = {candidate: are_correct(logits, cells.allowed) for candidate, logits in held_out.items()}
    losses = {candidate: log_losses(logits, cells.allowed)[0] for candidate, logits in held_out.items()}
    as_good = [candidate for candidate in CANDIDATES if correct[candidate].sum() >= correct[unchanged].sum()]
    best = min(as_good, key=lambda candidate: losses[candidate].mean())
    gain = losses[unchanged] - losses[best]
    chosen = best if gain.mean() > gain.std(ddof=1) / np.sqrt(len(cells)) else unchanged
    before, after = (
        HeldOut(float(losses[one].mean()), int(correct[one].sum()), len(cells)) for one in (unchanged, chosen)
    )
    return Adaptation(chosen, chosen.fit(cells), before, after, _mcnemar(correct[unchanged], correct[chosen]))


def _held_out_logits(candidate: Candidate, cells: LabelledCells) -> Floats:
    """Return logits (N, C) of each cell by a fit from which it was held out."""
    by_slide = len(set(cells.groups)) >= FOLDS
    groups = cells.groups if by_slide else tuple(map(str, range(len(cells))))
    folds = GroupKFold(min(FOLDS, len(cells)), shuffle=True, random_state=0)
    logits = cells.logits.copy()
    for kept, held_out in folds.split(cells.logits, groups=groups):
        logits[held_out] = candidate.fit(cells.take(kept))(cells.take(held_out))
    return logits


def _mcnemar(before: Bools, after: Bools) -> float:
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
