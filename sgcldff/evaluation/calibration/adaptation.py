"""A model that fits a laboratory, from some twenty of its cells: chosen by cross-validation, or left as it is.

On stains that a model never saw, types are lost by a shifted decision rather than by poor features. What is added to
its logits is a bias per class or, with more cells, a linear function of the embedding. Both are drawn towards 0: a
class nobody reviewed keeps its probability unless cells of others were mistaken for it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.optimize import minimize
from scipy.stats import binomtest
from sklearn.model_selection import GroupKFold

from sgcldff.core.settings import require
from sgcldff.evaluation.calibration.labelled_cells import Bools, Floats, TypedCells, are_right, log_losses

FEWEST = 10
"""Cells below which nothing can be chosen."""
FOLDS = 20
"""Parts of which each is held out once; fewer cells than these are held out one by one."""
PENALTIES = (0.03, 0.1, 0.3, 1.0, 3.0)
"""Candidates for the inverse variance that the added logits of a typical cell are expected to have."""


class Kind(StrEnum):
    """What is added to the logits of a model."""

    NOTHING = "nothing"
    BIAS = "bias"
    """A number per class."""
    HEAD = "head"
    """A number per class, and a linear function of the embedding."""


@dataclass(frozen=True, eq=False)
class Adjustment:
    """A change of the layer that turns embeddings into logits."""

    weight: Floats
    """(C, D)."""
    bias: Floats
    """(C,)."""

    def __call__(self, cells: TypedCells) -> Floats:
        """Give the changed logits, (N, C)."""
        return cells.logits + cells.embedding @ self.weight.T + self.bias


@dataclass(frozen=True)
class Candidate:
    """A kind of change, and how strongly it is drawn towards none."""

    kind: Kind
    penalty: float = 0.0

    def fit(self, cells: TypedCells) -> Adjustment:
        """Find the change that is most probable given some cells.

        Minimises the summed log loss plus half the penalty times the sum of squared coefficients, embeddings being
        scaled to a root mean square length of 1.
        """
        classes, width = cells.logits.shape[1], cells.embedding.shape[1]
        if self.kind is Kind.NOTHING:
            return Adjustment(np.zeros((classes, width)), np.zeros(classes))
        scale = float(np.sqrt((cells.embedding**2).sum(axis=1).mean())) or 1.0
        inputs = [np.ones((len(cells), 1))] + [cells.embedding / scale] * (self.kind is Kind.HEAD)
        design = np.hstack(inputs)
        found = _penalised(cells.logits, design, cells.allowed, self.penalty)
        weight = found[:, 1:] / scale if self.kind is Kind.HEAD else np.zeros((classes, width))
        return Adjustment(weight, found[:, 0])


def _penalised(logits: Floats, design: Floats, allowed: Bools, penalty: float) -> Floats:
    """Give the coefficients (C, K) of a design (N, K) whose product, added to the logits, costs least."""

    def cost(flat: Floats) -> tuple[float, Floats]:
        coefficients = flat.reshape(logits.shape[1], -1)
        losses, slopes = log_losses(logits + design @ coefficients.T, allowed)
        slope = slopes.T @ design + penalty * coefficients
        return float(losses.sum() + penalty / 2 * flat @ flat), slope.ravel()

    start = np.zeros(logits.shape[1] * design.shape[1])
    found = minimize(cost, start, jac=True, method="L-BFGS-B", options={"maxiter": 500, "ftol": 1e-9, "gtol": 1e-5})
    return np.asarray(found.x).reshape(logits.shape[1], -1)


CANDIDATES = (Candidate(Kind.NOTHING), *(Candidate(kind, p) for kind in (Kind.BIAS, Kind.HEAD) for p in PENALTIES))


@dataclass(frozen=True)
class HeldOut:
    """How cells are classified by a candidate that was fitted without them."""

    log_loss: float
    """Mean over the cells."""
    right: int
    cells: int

    @property
    def accuracy(self) -> float:
        """Share of the cells that are classified rightly."""
        return self.right / self.cells

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Give the exact binomial interval of the accuracy (Clopper and Pearson 1934)."""
        found = binomtest(self.right, self.cells).proportion_ci(confidence, method="exact")
        return float(found.low), float(found.high)


@dataclass(frozen=True, eq=False)
class Adaptation:
    """The change that was chosen, and what it does to cells held out of its fit."""

    chosen: Candidate
    adjustment: Adjustment
    before: HeldOut
    """Of the model as it is."""
    after: HeldOut
    """Of the chosen candidate; `before` where it is `NOTHING`."""
    p_value: float
    """Two-sided exact test (McNemar 1947) of whether as many cells were gained as lost; 1 where none was."""

    @property
    def helps(self) -> bool:
        """Whether the model is to be changed."""
        return self.chosen.kind is not Kind.NOTHING


def adapt(cells: TypedCells) -> Adaptation:
    """Choose a change of a model by cross-validation on a laboratory's cells, and fit it on all of them.

    Cells of one slide are held out together if there are at least `FOLDS` slides. The candidate with the least log loss
    wins, among those that classify at least as many cells rightly as the model as it is. It has to save more log loss
    than one standard error of what it saves, or the model stays as it is: where it fits already, a change by chance
    costs a little.

    Raises
    ------
    InputError
        If there are fewer than `FEWEST` cells, or a label rules no class out.
    """
    require(len(cells) >= FEWEST, f"{len(cells)} cells with a type are too few to calibrate: review at least {FEWEST}")
    require(
        not cells.allowed.all(axis=1).any(), "a label that allows every class teaches nothing: leave such cells out"
    )
    nothing, *_ = CANDIDATES
    held_out = {candidate: _held_out_logits(candidate, cells) for candidate in CANDIDATES}
    right = {candidate: are_right(logits, cells.allowed) for candidate, logits in held_out.items()}
    losses = {candidate: log_losses(logits, cells.allowed)[0] for candidate, logits in held_out.items()}
    as_good = [candidate for candidate in CANDIDATES if right[candidate].sum() >= right[nothing].sum()]
    best = min(as_good, key=lambda candidate: losses[candidate].mean())
    saved = losses[nothing] - losses[best]
    chosen = best if saved.mean() > saved.std(ddof=1) / np.sqrt(len(cells)) else nothing
    before, after = (HeldOut(float(losses[one].mean()), int(right[one].sum()), len(cells)) for one in (nothing, chosen))
    return Adaptation(chosen, chosen.fit(cells), before, after, _mcnemar(right[nothing], right[chosen]))


def _held_out_logits(candidate: Candidate, cells: TypedCells) -> Floats:
    """Give logits (N, C) of every cell by a fit that did not see it."""
    logits = cells.logits.copy()
    for seen, unseen in _folds(cells):
        logits[unseen] = candidate.fit(cells.take(seen))(cells.take(unseen))
    return logits


def _folds(cells: TypedCells) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    by_slide = len(set(cells.groups)) >= FOLDS
    groups = cells.groups if by_slide else tuple(map(str, range(len(cells))))
    splitter = GroupKFold(min(FOLDS, len(cells)), shuffle=True, random_state=0)
    yield from splitter.split(cells.logits, groups=groups)


def _mcnemar(before: Bools, after: Bools) -> float:
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    return float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
