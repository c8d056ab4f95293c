"""Cells of no type that a model was taught: scores that tell them from others, and how well each does."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import entropy

from sgcldff.core.settings import EvalSpec
from sgcldff.evaluation.bootstrap import intervals
from sgcldff.evaluation.calibration.labelled_cells import Bools, Floats
from sgcldff.evaluation.metrics import Interval, macro_auroc


def foreign_scores(
    probabilities: Floats, classes: Sequence[str], usual: Sequence[str], distance: Floats | None = None
) -> dict[str, Floats]:
    """Score how foreign cells are by what a model says of them; higher is more foreign, (N,) each.

    Parameters
    ----------
    probabilities
        (N, C).
    classes
        Names of the C classes.
    usual
        Classes of the cells that are not foreign; others may be a model's own classes for immature cells, say.
    distance
        Squared Mahalanobis distance to the nearest class (`sgcldff.models.out_of_distribution`), where it is known.
    """
    own = np.isin(classes, usual)
    scores = {
        "unsure": 1 - probabilities.max(axis=1),
        "entropy": np.asarray(entropy(probabilities, axis=1)),
        "least usual": 1 - probabilities[:, own].max(axis=1),
    }
    if not own.all():
        scores["other classes"] = probabilities[:, ~own].sum(axis=1)
    if distance is not None:
        scores["distance"] = np.asarray(distance, float)
    return scores


def foreign_aurocs(
    scores: Mapping[str, Floats], foreign: Bools, groups: Sequence[str], spec: EvalSpec | None = None
) -> dict[str, Interval | None]:
    """Give the AUROC of every score, with its interval over draws of groups; None where all cells are of one kind.

    Parameters
    ----------
    foreign
        Whether each cell is foreign, (N,).
    groups
        Patient or slide of each cell.
    """
    table, marked = np.column_stack(list(scores.values())), foreign[:, None]
    found = (
        intervals(macro_auroc(table[:, [k]], marked, ~marked), groups, spec or EvalSpec()) for k in range(len(scores))
    )
    return {name: one for name, (one,) in zip(scores, found, strict=True)}
