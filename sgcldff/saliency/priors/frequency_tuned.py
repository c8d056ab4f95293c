"""Frequency-tuned saliency: distance of a smoothed pixel's colour from the image's mean colour."""

from dataclasses import dataclass, replace
from typing import Self

import cv2
import numpy as np

from sgcldff.core.arrays import Rgb
from sgcldff.saliency.priors.registry import Saliency, register
from sgcldff.saliency.priors.resize import DecimatedPrior

HALF_SATURATION = 30.0
"""Distance in CIELAB at which the prior is 0.5; a fixed scale, so that tiles of a slide are consistent."""


@register("frequency_tuned")
@dataclass(frozen=True)
class FrequencyTuned(DecimatedPrior):
    """Achanta, Hemami, Estrada, Suesstrunk: Frequency-tuned Salient Region Detection (CVPR 2009).

    The distance is mapped to [0, 1) by d / (d + 30) instead of the paper's division by the image's maximum, so that a
    field without cells stays dark.
    """

    mean: tuple[float, float, float] | None = None
    """Frozen mean colour of a slide in CIELAB; None: the mean of each image."""

    def fit(self, overview: Rgb) -> Self:
        """Freeze the mean colour of `overview`."""
        lightness, a, b, _ = cv2.mean(lab(overview))
        return replace(self, mean=(lightness, a, b))

    def working_saliency(self, rgb: Rgb) -> Saliency:
        """Return the distance of every colour from the mean, scaled to [0, 1), float32 (h, w)."""
        colours = lab(rgb)
        mean = np.array(self.mean or cv2.mean(colours)[:3], np.float32)
        difference = cv2.GaussianBlur(colours, (5, 5), 0) - mean
        distance = np.sqrt(np.einsum("ijk,ijk->ij", difference, difference))
        return np.asarray(distance / (distance + np.float32(HALF_SATURATION)), np.float32)


def lab(rgb: Rgb) -> Saliency:
    """Convert uint8 sRGB to CIELAB (D65): float32 (H, W, 3), lightness 0 to 100."""
    return np.asarray(cv2.cvtColor(rgb.astype(np.float32) / np.float32(255), cv2.COLOR_RGB2LAB), np.float32)
