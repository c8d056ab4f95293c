"""Spectral residual: deviation of an image's log spectrum from its local average."""

from dataclasses import dataclass
from typing import Self

import cv2
import numpy as np
from scipy import fft

from sgcldff.core.arrays import Rgb
from sgcldff.saliency.priors.registry import Saliency, register
from sgcldff.saliency.priors.resize import decimation_factor, through_decimation

WORKING_CELL_PX = 20.0
"""The paper uses scenes 64 px wide; at so small a scale, entire cells stand out and not only their edges."""
SMOOTHING = 0.25
"""Standard deviation of the final Gaussian, in cell widths."""
NOISE_FLOOR = 1.0
"""Grey values; amplitudes below those of such white noise carry no structure."""


@register("spectral_residual")
@dataclass(frozen=True)
class SpectralResidual:
    """Hou, Zhang: Saliency Detection: A Spectral Residual Approach (CVPR 2007).

    Saliency s is mapped to [0, 1) by s / (s + 4 mean(s)). It is relative to each image by construction, so there are no
    statistics to freeze.
    """

    cell_px: float
    """Width of a white blood cell, px."""

    def __call__(self, rgb: Rgb) -> Saliency:
        """Return the saliency of every pixel, float32 (H, W) in [0, 1]."""
        return through_decimation(rgb, decimation_factor(self.cell_px, WORKING_CELL_PX), self._working_saliency)

    def fit(self, overview: Rgb) -> Self:
        """Return the prior unchanged."""
        return self

    def _working_saliency(self, rgb: Rgb) -> Saliency:
        spectrum = fft.fft2(rgb.astype(np.float32).mean(axis=2))
        log_amplitude = np.log(np.abs(spectrum) + np.float32(NOISE_FLOOR * np.sqrt(spectrum.size)))
        residual = log_amplitude - cv2.blur(log_amplitude, (3, 3), borderType=cv2.BORDER_REPLICATE)
        phase = np.exp(1j * np.angle(spectrum))
        energy = np.square(np.abs(fft.ifft2(np.exp(residual) * phase))).astype(np.float32)
        scale = self.cell_px / decimation_factor(self.cell_px, WORKING_CELL_PX)
        smooth = cv2.GaussianBlur(energy, (0, 0), SMOOTHING * scale)
        return np.asarray(smooth / (smooth + 4 * smooth.mean()), np.float32)
