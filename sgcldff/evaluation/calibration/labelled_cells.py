"""Cells whose types are known, wholly or in part, beside what a model says of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class TypedCells:
    """N cells with labels that each allow some of C classes, and embeddings of D dimensions."""

    logits: Floats
    """(N, C); log-probabilities do as well, since a constant added to a row changes nothing."""
    embedding: Floats
    """(N, D); what the model's last layer turns into logits."""
    allowed: Bools
    """(N, C); at least one class of every cell, and not all of them."""
    groups: tuple[str, ...]
    """Slide or patient of each cell."""

    def __len__(self) -> int:
        return len(self.logits)

    def take(self, rows: Sequence[int] | NDArray[np.intp]) -> "TypedCells":
        """Choose cells by their places."""
        groups = tuple(self.groups[row] for row in rows)
        return TypedCells(self.logits[rows], self.embedding[rows], self.allowed[rows], groups)


def log_losses(logits: Floats, allowed: Bools) -> tuple[Floats, Floats]:
    """Give -ln of the probability of the allowed classes, (N,), and its gradient with respect to the logits, (N, C)."""
    every, everything = _exponentials(logits)
    inside, within = _exponentials(np.where(allowed, logits, -np.inf))
    return everything - within, every - inside


def _exponentials(logits: Floats) -> tuple[Floats, Floats]:
    """Give the softmax and the logarithm of the sum of exponentials of every row; faster on few cells than SciPy's."""
    highest = logits.max(axis=1, keepdims=True)
    powers = np.exp(logits - highest)
    totals = powers.sum(axis=1, keepdims=True)
    return powers / totals, (highest + np.log(totals))[:, 0]


def are_right(logits: Floats, allowed: Bools) -> Bools:
    """Tell where the allowed classes together are more probable than any other class, (N,)."""
    chances, _ = _exponentials(logits)
    return np.asarray((chances * allowed).sum(axis=1) > (chances * ~allowed).max(axis=1))
