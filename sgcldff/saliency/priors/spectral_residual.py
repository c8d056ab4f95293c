"""Spectral residual: deviation of an image's log spectrum from its local average."""

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from scipy import fft

from sgcldff.core.arrays import Rgb
from sgcldff.saliency.priors.registry import Saliency, register
from sgcldff.saliency.priors.resize import DecimatedPrior

SMOOTHING = 0.25
"""Standard deviation of the final Gaussian, in cell widths."""
NOISE_FLOOR = 1.0
"""Grey values; amplitudes below those of such white noise carry no structure."""


@register("spectral_residual")
@dataclass(frozen=True)
class SpectralResidual(DecimatedPrior):
    """Hou, Zhang: Saliency Detection: A Spectral Residual Approach (CVPR 2007).

    Saliency s is mapped to [0, 1) by s / (s + 4 mean(s)). It is relative to each image by construction, so there are no
    statistics to freeze.
    """

    working_cell_px: ClassVar[float] = 20.0
    """The paper uses scenes 64 px wide; at so small a scale, entire cells stand out and not only their edges."""

    def working_saliency(self, rgb: Rgb) -> Saliency:
        """Return the energy of the residual, scaled to [0, 1), float32 (h, w)."""
        spectrum = fft.fft2(rgb.astype(np.float32).mean(axis=2))
        log_amplitude = np.log(np.abs(spectrum) + np.float32(NOISE_FLOOR * np.sqrt(spectrum.size)))
        residual = log_amplitude - cv2.blur(log_amplitude, (3, 3), borderType=cv2.BORDER_REPLICATE)
        phase = np.exp(1j * np.angle(spectrum))
        energy = np.square(np.abs(fft.ifft2(np.exp(residual) * phase))).astype(np.float32)
        smooth = cv2.GaussianBlur(energy, (0, 0), SMOOTHING * (self.cell_px / self.factor))
        return np.asarray(smooth / (smooth + 4 * smooth.mean()), np.float32)
