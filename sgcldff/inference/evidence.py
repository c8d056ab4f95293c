"""Where a cell's type was read from: on the cell, or beside it."""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sgcldff.core.geometry import Box
from sgcldff.core.proportions import beyond_chance
from sgcldff.inference.instances import Cell


class Evidence(NamedTuple):
    """The evidence for a cell's type, by position."""

    map: NDArray[np.uint8]
    """How much each position of the crop adds to the type's logit, its maximum 255; (h, w)."""
    on_cell: float | None
    """Share of it on the cell, rescaled to 0 for an even map and 1 for one that lies on the cell; in [-1, 1]. None if
    there is no evidence for the type."""


def evidence_of(contribution: NDArray[np.float32], cell: Cell, crop: Box) -> Evidence:
    """Return the evidence for a cell's type, and how much of it lies on the cell.

    Parameters
    ----------
    contribution
        Float32, at least 0; (h, w), covering the crop.
    cell
        The cell, at the model's scale.
    crop
        The place of the crop, px of the model's scale.
    """
    peak = float(contribution.max())
    if not peak > 0:
        return Evidence(np.zeros(contribution.shape, np.uint8), None)
    height, width = contribution.shape
    mask = np.zeros(crop.shape, np.float32)
    cv2.fillPoly(mask, [np.round(cell.outline - (crop.x0, crop.y0)).astype(np.int32)], 1.0)
    covered = cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
    share, chance = float((contribution * covered).sum() / contribution.sum()), float(covered.mean())
    on_cell = max(-1.0, beyond_chance(share, chance)) if chance < 1 else 1.0
    return Evidence(np.round(contribution * (255 / peak)).astype(np.uint8), on_cell)
