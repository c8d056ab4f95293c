"""Cells of types that a model was not trained on: scores that detect them, and how well each does."""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import entropy

from sgcldff.core.settings import EvalSpec
from sgcldff.evaluation.bootstrap import intervals
from sgcldff.evaluation.metrics import Bools, Doubles, Interval, macro_auroc


def foreign_scores(
    probabilities: Doubles, classes: Sequence[str], usual: Sequence[str], distance: Doubles | None = None
) -> dict[str, Doubles]:
    """Return scores of how foreign cells are, from a model's predictions; higher is more foreign, (N,) each.

    Parameters
    ----------
    probabilities
        (N, C).
    classes
        Names of the C classes.
    usual
        Classes of cells that are not foreign; the model may have others, for immature cells, say.
    distance
        Squared Mahalanobis distance to the nearest class (`sgcldff.models.out_of_distribution`), if available.
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
    scores: Mapping[str, Doubles], foreign: Bools, groups: Sequence[str], spec: EvalSpec | None = None
) -> dict[str, Interval | None]:
    """Return the AUROC of each score with its bootstrap interval; None if all or no cells are foreign.

    Parameters
    ----------
    foreign
        Whether each cell is foreign, (N,).
    groups
        Patient or slide of each cell.
    """
    table, marked = np.column_stack(list(scores.values())), foreign[:, None]
    aurocs = (
        intervals(macro_auroc(table[:, [k]], marked, ~marked), groups, spec or EvalSpec()) for k in range(len(scores))
    )
    return {name: auroc for name, (auroc,) in zip(scores, aurocs, strict=True)}
