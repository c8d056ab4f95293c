"""Temperature scaling (Guo et al., ICML 2017): one number that makes a model as sure as it is right.

A model is too sure on stains that it never saw, so its temperature is fitted there: on data sets that were left out of
trainings with the same recipe, each of which counts alike however large it is.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from sgcldff.evaluation.calibration.labelled_cells import Bools, Floats, log_losses

COLDEST, HOTTEST = 0.05, 20.0


def fit_temperature(logits: Floats, allowed: Bools, stains: Sequence[str]) -> float:
    """Find the T in [`COLDEST`, `HOTTEST`] for which softmax(logits / T) has the least mean log loss over stains.

    Parameters
    ----------
    logits
        (N, C), of cells that the model was not trained on.
    allowed
        bool, (N, C): classes that the label of each cell allows.
    stains
        Data set of each cell.
    """
    _, codes, counts = np.unique(np.asarray(stains), return_inverse=True, return_counts=True)
    weights = 1 / (counts[codes] * len(counts))

    def cost(log_temperature: float) -> float:
        losses, _ = log_losses(logits / np.exp(log_temperature), allowed)
        return float(weights @ losses)

    found = minimize_scalar(cost, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded", options={"xatol": 1e-6})
    return float(np.exp(found.x))
