"""Images brought to sides, and batches to sizes, that networks take."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.settings import STRIDE
from sgcldff.models.runtimes.base import Labels


def filled(rgb: Rgb, prior: NDArray[np.float32]) -> tuple[Rgb, NDArray[np.float32]]:
    """Enlarge images and priors to multiples of `STRIDE` px, as `sgcldff.models.model.fill` does."""
    rows, columns = (_margins(side) for side in rgb.shape[1:3])
    if not any(rows + columns):
        return np.ascontiguousarray(rgb), np.ascontiguousarray(prior, np.float32)
    wide = np.pad(rgb, ((0, 0), rows, columns, (0, 0)), mode="edge")
    return wide, np.pad(prior.astype(np.float32, copy=False), ((0, 0), (0, 0), rows, columns), mode="edge")


def cropped(labels: Labels, height: int, width: int) -> Labels:
    """Undo `filled` on labels (B, H, W)."""
    (top, _), (left, _) = _margins(height), _margins(width)
    return np.ascontiguousarray(labels[:, top : top + height, left : left + width])


def whole(images: NDArray[Any], count: int) -> NDArray[Any]:
    """Fill a batch up to `count` images by repeating the last."""
    missing = count - len(images)
    return np.concatenate((images, images[-1:].repeat(missing, axis=0))) if missing else images


def _margins(length: int) -> tuple[int, int]:
    missing = -length % STRIDE
    return missing // 2, missing - missing // 2
