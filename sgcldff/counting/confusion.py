"""Shares adjusted for the confusion of types that a model showed on labelled cells."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.atomic import atomic_write
from sgcldff.core.boundary import reading
from sgcldff.core.records import UNIDENTIFIED

FEWEST_LABELLED = 5
"""Labelled cells of every class without which shares are not adjusted."""
DRAWS = 1000
"""Random confusions and counts from which the ends of intervals are taken."""


@dataclass(frozen=True)
class AdjustedShare:
    """A share adjusted for the model's confusion; the interval allows for chance in the count and in the confusion."""

    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Confusion:
    """Labelled cells with the classes that a model predicted for them, N of each."""

    classes: tuple[str, ...]
    true: tuple[int, ...]
    """Index of the true class."""
    predicted: tuple[int, ...]
    """Index of the most probable class."""
    confidence: tuple[float, ...]
    """Probability of the broader type to which it belongs, to which a limit of confidence is applied."""

    def counts(self, min_confidence: float) -> NDArray[np.int64]:
        """Count cells by true class and prediction, (K, K + 1); the last column holds those that stay unidentified."""
        size = len(self.classes)
        predicted = np.where(np.array(self.confidence) < min_confidence, size, self.predicted)
        table = np.zeros((size, size + 1), np.int64)
        np.add.at(table, (np.array(self.true, int), predicted.astype(int)), 1)
        return table

    def among(self, classes: Sequence[str]) -> "Confusion":
        """Leave out the cells that are of other classes, or were predicted to be."""
        place = {self.classes.index(label): at for at, label in enumerate(classes)}
        rows = zip(self.true, self.predicted, self.confidence, strict=True)
        kept = [(place[true], place[one], chance) for true, one, chance in rows if true in place and one in place]
        true, predicted, confidence = zip(*kept, strict=True) if kept else ((), (), ())
        return Confusion(tuple(classes), true, predicted, confidence)

    def write(self, path: str | Path) -> None:
        """Write as JSON; the file appears whole or not at all."""
        with atomic_write(path) as draft:
            draft.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, path: str | Path) -> "Confusion | None":
        """Read what `write` wrote; None if there is no such file.

        Raises
        ------
        InputError
            If the file is damaged.
        """
        if not Path(path).exists():
            return None
        with reading(path, "not a model's confusion", "remove it or register again"):
            content = json.loads(Path(path).read_text("utf-8"))
            return cls(**{name: tuple(values) for name, values in content.items()})


def adjusted_shares(
    counts: Mapping[str, float], confusion: Confusion, min_confidence: float, level: float
) -> dict[str, AdjustedShare]:
    """Adjust the shares of a count for a model's confusion (adjusted classify and count; G. Forman, DMKD 17, 2008).

    What was counted is a mixture: a cell of type i is counted as type j with the probability a_ij. Solving for the
    shares p in q = p a gives them without the model's bias. For the interval, a is drawn from its posterior (Dirichlet,
    one pseudo-cell per type) and q such that intervals would be Clopper-Pearson's where the model never errs.

    Parameters
    ----------
    counts
        Cells by class, and "unidentified"; may be effective numbers.
    min_confidence
        The limit below which cells were left unidentified.

    Returns
    -------
    dict
        By class; empty where a class has fewer than `FEWEST_LABELLED` labelled cells, or nothing was counted.
    """
    size, table = len(confusion.classes), confusion.counts(min_confidence)
    seen = np.array([counts.get(name, 0) for name in (*confusion.classes, UNIDENTIFIED)], float)
    if table.sum(axis=1).min() < FEWEST_LABELLED or seen[:size].sum() == 0:
        return {}
    rng = np.random.default_rng(0)
    cells = rng.standard_gamma(np.broadcast_to(table + 1 / (size + 1), (DRAWS, size, size + 1)))
    drawn, own = rng.standard_gamma(np.broadcast_to(seen, (DRAWS, size + 1))), rng.standard_exponential((DRAWS, size))
    rates = cells / cells.sum(axis=2, keepdims=True)
    more = drawn[:, None, :size] + own[:, :, None] * np.eye(size)
    highs = np.diagonal(_solved(rates[:, None, :, :size], more), axis1=1, axis2=2)
    lows = _solved(rates[:, :, :size], drawn[:, :size])
    tail = (1 - level) / 2
    mean = (table + 1 / (size + 1)) / (table.sum(axis=1, keepdims=True) + 1)
    share = _solved(mean[:, :size], seen[:size]).clip(0)
    low, high = np.quantile(lows, tail, axis=0).clip(0, 1), np.quantile(highs, 1 - tail, axis=0).clip(0, 1)
    ends = zip(confusion.classes, share / share.sum(), low, high, strict=True)
    return {
        name: AdjustedShare(float(one), min(float(a), float(one)), max(float(b), float(one)))
        for name, one, a, b in ends
    }


def _solved(rates: NDArray[np.float64], seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the shares of true types, (..., K), that these rates (..., K, K) turn into what was seen (..., K)."""
    cells = np.linalg.solve(np.swapaxes(rates, -1, -2), seen[..., None])[..., 0]
    return np.asarray(cells / cells.sum(axis=-1, keepdims=True))
