"""Integer decimation before a prior and enlargement after it: block means are the fastest way of resizing."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import cv2
import numpy as np

from sgcldff.core.arrays import Rgb
from sgcldff.saliency.priors.registry import Saliency


@dataclass(frozen=True)
class DecimatedPrior(ABC):
    """A prior that is computed on a decimated image, and enlarged to the size of the image."""

    cell_px: float
    """Width of a white blood cell, px."""
    working_cell_px: ClassVar[float] = 32.0
    """Width to which images are shrunk, about, px."""

    def __call__(self, rgb: Rgb) -> Saliency:
        """Return the saliency of every pixel, float32 (H, W) in [0, 1]."""
        return enlarge(self.working_saliency(decimate(rgb, self.factor)), self.factor, (rgb.shape[0], rgb.shape[1]))

    @property
    def factor(self) -> int:
        """Integer factor, at least 1, by which images are shrunk."""
        return max(1, round(self.cell_px / self.working_cell_px))

    def fit(self, overview: Rgb) -> Self:
        """Return the prior unchanged; those that take statistics from a whole image override this."""
        return self

    @abstractmethod
    def working_saliency(self, rgb: Rgb) -> Saliency:
        """Return the saliency of a decimated image, float32 (h, w) in [0, 1]."""


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
