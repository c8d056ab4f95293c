"""RAMF: a regularised adaptive matched filter on optical density, the best prior over all measured stains."""

from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.saliency.priors.registry import Saliency, register
from sgcldff.saliency.priors.resize import DecimatedPrior

WHITE_PERCENTILE = 97.0
BACKGROUND_SHARE = 0.75
REGULARISATION = 5e-4
NUCLEAR_STAIN = np.array([0.4, 0.7, 0.0])
"""Optical density of nuclear stain in R, G, B: Romanowsky dyes absorb green most."""
BACKGROUND_CONTRAST = np.array([-0.5, 1.0, -0.5])
"""Green density above the mean of red and blue: low on plasma and red cells."""
HALF_SATURATION = 0.25
"""Square of the filter's response at which the prior is 0.5."""
MAX_FITTED_PX = 1 << 18


@dataclass(frozen=True)
class RamfStatistics:
    """The filter's statistics of a stain; channels are R, G, B."""

    white: tuple[float, float, float]
    """White point, grey values."""
    mean: tuple[float, float, float]
    """Mean optical density of the background."""
    weights: tuple[float, float, float]
    """The filter: response = weights . (density - mean)."""


@register("ramf")
@dataclass(frozen=True)
class Ramf(DecimatedPrior):
    """Matched filter for nuclear stain, whitened by the covariance of the background.

    Based on Robey, Fuhrmann, Kelly, Nitzberg: A CFAR Adaptive Matched Filter Detector (1992), with diagonal loading, in
    the optical density space of Ruifrok and Johnston (2001).
    """

    statistics: RamfStatistics | None = None
    """Frozen statistics of a slide; None: those of each image."""

    def fit(self, overview: Rgb) -> Self:
        """Freeze the statistics of `overview`, which may have any scale, since they are per pixel."""
        return replace(self, statistics=fit_statistics(overview))

    def working_saliency(self, rgb: Rgb) -> Saliency:
        """Return the filter's response, smoothed over a fifth of a cell and scaled to [0, 1), float32 (h, w)."""
        core = saturated(matched_filter(rgb, self.statistics or fit_statistics(rgb)))
        smooth = cv2.GaussianBlur(core, (0, 0), 0.2 * self.cell_px / self.factor)
        return np.asarray(cv2.addWeighted(core, 0.5, smooth, 0.5, 0), np.float32)


def matched_filter(rgb: Rgb, statistics: RamfStatistics) -> NDArray[np.float32]:
    """Return the filter's response, float32 (H, W): 0 on the mean background, 1 on `NUCLEAR_STAIN` above it.

    Its positive part marks the nucleus (after Otsu's threshold, IoU .85 to .91).
    """
    channels = cv2.LUT(rgb, response_table(statistics).astype(np.float32)[:, None, :])
    return np.asarray(cv2.transform(channels, np.ones((1, 3), np.float32)), np.float32)


def response_table(statistics: RamfStatistics) -> NDArray[np.float64]:
    """Return the contribution of grey values 0 to 255 of each channel to the filter's response, (256, 3)."""
    return (density_table(statistics.white) - statistics.mean) * statistics.weights


def saturated(response: NDArray[np.float32]) -> NDArray[np.float32]:
    """Map the filter's response to [0, 1) in place: 0 where it is negative, 0.5 at 0.5."""
    squared = np.square(np.maximum(response, 0, out=response), out=response)
    return np.divide(squared, squared + np.float32(HALF_SATURATION), out=squared)


def fit_statistics(rgb: Rgb) -> RamfStatistics:
    """Estimate white point, background and filter from an image's pixels, uint8 (H, W, 3)."""
    pixels = rgb.reshape(-1, 3)
    pixels = pixels[:: -(-len(pixels) // MAX_FITTED_PX)]
    white = np.percentile(pixels, WHITE_PERCENTILE, axis=0)
    density = np.take_along_axis(density_table(white), pixels, axis=0)
    mean, covariance = _background(density)
    weights = np.linalg.solve(covariance + REGULARISATION * np.eye(3), NUCLEAR_STAIN)
    return RamfStatistics(_triple(white), _triple(mean), _triple(weights / (NUCLEAR_STAIN @ weights)))


def density_table(white: NDArray[np.float64] | tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the optical density of grey values 0 to 255 in three channels, shape (256, 3)."""
    return np.asarray(np.log(np.asarray(white) + 1) - np.log1p(np.arange(256.0))[:, None])


def _background(density: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean (3,) and covariance (3, 3) of the pixels that look least like nuclear stain."""
    contrast = density @ BACKGROUND_CONTRAST
    last = int(BACKGROUND_SHARE * (len(contrast) - 1))
    background = density[contrast <= np.partition(contrast, last)[last]]
    return background.mean(axis=0), np.cov(background, rowvar=False, bias=True)


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
