"""Integer decimation before a prior and enlargement after it: block means are the fastest way of resizing."""

from collections.abc import Callable

import cv2
import numpy as np

from sgcldff.core.arrays import Rgb
from sgcldff.saliency.priors.registry import Saliency


def decimation_factor(cell_px: float, target_px: float) -> int:
    """Return the integer factor, at least 1, that shrinks a cell of `cell_px` to about `target_px`."""
    return max(1, round(cell_px / target_px))


def decimate(rgb: Rgb, factor: int) -> Rgb:
    """Average blocks of `factor` x `factor` px: shape (ceil(H / factor), ceil(W / factor), 3).

    Blocks that extend beyond the image are completed by repeating its last row and column.
    """
    if factor == 1:
        return rgb
    bottom, right = (-side % factor for side in rgb.shape[:2])
    padded = cv2.copyMakeBorder(rgb, 0, bottom, 0, right, cv2.BORDER_REPLICATE) if bottom or right else rgb
    size = (padded.shape[1] // factor, padded.shape[0] // factor)
    return np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_AREA), np.uint8)


def enlarge(saliency: Saliency, factor: int, shape: tuple[int, int]) -> Saliency:
    """Enlarge a map of the decimated image to `shape` (H, W) by linear interpolation between block centres."""
    if factor == 1:
        return saliency
    size = (saliency.shape[1] * factor, saliency.shape[0] * factor)
    enlarged = cv2.resize(saliency, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(enlarged[: shape[0], : shape[1]], np.float32)


def through_decimation(rgb: Rgb, factor: int, saliency: Callable[[Rgb], Saliency]) -> Saliency:
    """Compute `saliency` on the decimated image, and enlarge it to the size of `rgb`."""
    return enlarge(saliency(decimate(rgb, factor)), factor, (rgb.shape[0], rgb.shape[1]))
