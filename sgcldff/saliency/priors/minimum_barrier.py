"""MB+: minimum barrier distance to the image's border, with the border's colours as a second cue."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.saliency.priors.frequency_tuned import lab
from sgcldff.saliency.priors.registry import Saliency, register
from sgcldff.saliency.priors.resize import DecimatedPrior

ROUNDS = 2
"""Rounds of four sweeps (down, right, up, left)."""
HALF_SATURATION = 100.0
"""Barrier plus colour distance, in CIELAB, at which the prior is 0.5."""


@register("mbplus")
@dataclass(frozen=True)
class MinimumBarrier(DecimatedPrior):
    """Zhang, Sclaroff, Lin, Shen, Price, Mech: Minimum Barrier Salient Object Detection at 80 FPS (ICCV 2015).

    The paper's raster scan is replaced by sweeps along one axis at a time, in which entire rows or columns advance
    together; its centre bias is omitted, since cells may be anywhere. Distances are mapped to [0, 1) by d / (d + 100).
    """

    def working_saliency(self, rgb: Rgb) -> Saliency:
        """Return the distance of every pixel to the border, scaled to [0, 1), float32 (h, w)."""
        colours = cv2.GaussianBlur(lab(rgb), (3, 3), 0)
        distance = minimum_barrier(np.moveaxis(colours, 2, 0)).sum(axis=0) + border_contrast(colours)
        return np.asarray(distance / (distance + np.float32(HALF_SATURATION)), np.float32)


def minimum_barrier(channels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Approximate the minimum barrier distance to the border, float32 (C, H, W), for each channel separately.

    The barrier of a path is its highest minus its lowest value; a pixel's distance is that of the best path found.
    """
    state = np.stack([channels, channels, np.zeros_like(channels)])
    state[2, :, 1:-1, 1:-1] = np.inf
    for turn in range(2 * ROUNDS):
        axis = 1 + turn % 2
        values = np.ascontiguousarray(np.moveaxis(channels, axis, 0))
        lines = np.ascontiguousarray(np.moveaxis(state, axis + 1, 0))
        _sweep(lines, values)
        _sweep(lines[::-1], values[::-1])
        state = np.moveaxis(lines, 0, axis + 1)
    return np.asarray(state[2])


def _sweep(lines: NDArray[np.float32], values: NDArray[np.float32]) -> None:
    """Extend paths from line to line: `lines` (L, 3, C, N) is highest, lowest and barrier; `values` is (L, C, N)."""
    reached = np.empty_like(lines[0])
    highest, lowest, barrier = reached
    for before, line, value in zip(lines, lines[1:], values[1:], strict=False):
        np.maximum(before[0], value, out=highest)
        np.minimum(before[1], value, out=lowest)
        np.subtract(highest, lowest, out=barrier)
        np.copyto(line, reached, where=barrier < line[2])


def border_contrast(colours: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sum each pixel's Mahalanobis distances to the colours of the three most similar borders, (H, W).

    The fourth border is ignored, since a cell may be on it. Distances are scaled to CIELAB units.
    """
    width = max(1, round(0.1 * min(colours.shape[:2])))
    strips = (colours[:width], colours[-width:], colours[:, :width], colours[:, -width:])
    distances = np.stack([_distance(colours, strip.reshape(-1, 3)) for strip in strips])
    return np.asarray(distances.sum(axis=0) - distances.max(axis=0), np.float32)


def _distance(colours: NDArray[np.float32], strip: NDArray[np.float32]) -> NDArray[np.float32]:
    covariance = np.cov(strip, rowvar=False, bias=True) + np.eye(3)
    scale = np.sqrt(np.trace(covariance) / 3)
    factor = np.linalg.cholesky(np.linalg.inv(covariance)).astype(np.float32)
    whitened = (colours - strip.mean(axis=0)) @ factor
    return np.asarray(scale * np.linalg.norm(whitened, axis=2), np.float32)
