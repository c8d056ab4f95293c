"""Confidence of a model, fitted on stains that it was not trained on: its temperature, and the limit of abstention."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from sgcldff.core.records import Sample
from sgcldff.core.settings import require
from sgcldff.evaluation.calibration.abstention import ConfidenceLimit, choose_limit
from sgcldff.evaluation.calibration.adaptation import MIN_CELLS
from sgcldff.evaluation.calibration.laboratory import labelled_cells
from sgcldff.evaluation.calibration.temperature import fit_temperature
from sgcldff.models.model import Model

GOAL = 0.9
"""Share of the classified cells that the limit has to keep right, mean over stains."""


@dataclass(frozen=True)
class HeldOutConfidence:
    """What was fitted, and to what."""

    temperature: float
    limit: ConfidenceLimit | None
    """The lowest that keeps `GOAL`; None if none does."""
    cells: Counter[str]
    """Cells by data set."""

    @property
    def min_confidence(self) -> float:
        """As in `ModelSpec`; where no limit keeps the goal, cells are classified only if they are certain."""
        return 1.0 if self.limit is None else self.limit.confidence

    def __str__(self) -> str:
        stains = ", ".join(f"{number} of {name}" for name, number in sorted(self.cells.items()))
        fitted = f"temperature {self.temperature:.2f}, fitted to {self.cells.total()} cells ({stains})"
        if self.limit is None:
            return f"{fitted}; no limit of confidence keeps {GOAL:.0%} right, so that all cells stay unidentified"
        effect = f"{self.limit.kept:.0%} are classified and {self.limit.accuracy:.0%} of those right"
        return f"{fitted}; limit {self.limit.confidence:.2f}, by which {effect}"


def fit_confidence(
    model: Model, samples: Sequence[Sample], trained_on: frozenset[str] = frozenset()
) -> HeldOutConfidence:
    """Fit the temperature, then the limit of confidence, on labelled cells; each data set has the same weight.

    Parameters
    ----------
    samples
        Images with a cell of known type at the centre, or shown by mask or box; others are ignored, as are labels that
        the model does not know.
    trained_on
        Digests of images that are ignored, since the model is too sure of those that it was trained on.

    Raises
    ------
    InputError
        If there are fewer than `MIN_CELLS` cells, or an image cannot be read.
    """
    space = model.spec.labels
    held_out = [one for one in samples if one.label in space.known and one.sha256 not in trained_on]
    cells, used = labelled_cells(model, held_out)
    require(
        len(used) >= MIN_CELLS,
        f"{len(used)} of {len(samples)} images show a cell of a type that the model knows and was not trained on; "
        f"name at least {MIN_CELLS}",
    )
    stains = [one.source for one in used]
    temperature = fit_temperature(cells.logits, cells.allowed, stains)
    probabilities = softmax(cells.logits / temperature, axis=1)
    allowed = np.stack([space.allowed(space.broaden(str(one.label))) for one in used])
    right = allowed[np.arange(len(used)), probabilities.argmax(axis=1)]
    limit = choose_limit(space.broad_confidence(probabilities), right, stains, GOAL)
    return HeldOutConfidence(temperature, limit, Counter(stains))
