"""Cells with known, or partly known, types and a model's predictions of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sgcldff.evaluation.metrics import Bools, Doubles


@dataclass(frozen=True, eq=False)
class LabelledCells:
    """N cells with labels that each allow some of C classes, and embeddings of D dimensions."""

    logits: Doubles
    """(N, C); or log-probabilities, since a constant added to a row makes no difference."""
    embedding: Doubles
    """(N, D); input of the model's last layer."""
    allowed: Bools
    """(N, C); at least one class for each cell, and not all of them."""
    groups: tuple[str, ...]
    """Slide or patient of each cell."""

    def __len__(self) -> int:
        return len(self.logits)

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> "LabelledCells":
        """Select cells by index."""
        groups = tuple(self.groups[row] for row in rows)
        return LabelledCells(self.logits[rows], self.embedding[rows], self.allowed[rows], groups)


def log_losses(logits: Doubles, allowed: Bools) -> tuple[Doubles, Doubles]:
    """Return -ln of the probability of the allowed classes, (N,), and its gradient by the logits, (N, C)."""
    softmax, total = _softmax_and_total(logits)
    allowed_softmax, allowed_total = _softmax_and_total(np.where(allowed, logits, -np.inf))
    return total - allowed_total, softmax - allowed_softmax


def _softmax_and_total(logits: Doubles) -> tuple[Doubles, Doubles]:
    """Return softmax and log-sum-exp of each row; faster than SciPy's on few cells."""
    highest = logits.max(axis=1, keepdims=True)
    exponentials = np.exp(logits - highest)
    totals = exponentials.sum(axis=1, keepdims=True)
    return exponentials / totals, (highest + np.log(totals))[:, 0]


def are_correct(logits: Doubles, allowed: Bools) -> Bools:
    """Return where the allowed classes together are more probable than any other class, (N,)."""
    probabilities, _ = _softmax_and_total(logits)
    return np.asarray((probabilities * allowed).sum(axis=1) > (probabilities * ~allowed).max(axis=1))
