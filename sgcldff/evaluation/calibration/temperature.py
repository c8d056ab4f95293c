"""Temperature scaling (Guo et al., ICML 2017): one number that makes the confidence match the accuracy.

Models are overconfident on unseen stains, so the temperature is fitted there: on data sets left out of trainings with
the same recipe, with equal weight for each data set.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from sgcldff.evaluation.calibration.labelled_cells import log_losses
from sgcldff.evaluation.metrics import Bools, Doubles

MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0


def fit_temperature(logits: Doubles, allowed: Bools, stains: Sequence[str]) -> float:
    """Return the T in [`MIN_TEMPERATURE`, `MAX_TEMPERATURE`] that minimises the mean log loss over stains.

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

    bounds = np.log(MIN_TEMPERATURE), np.log(MAX_TEMPERATURE)
    result = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(np.exp(result.x))
