"""Images as another scanner, lamp, focus or export would have produced them, at five strengths, alike for all models.

The same image changes the same way for every model: noise is seeded by the image's digest. The kinds of corruption and
the five strengths follow Hendrycks and Dietterich (ICLR 2019). Their amounts are a choice: 1 is hardly visible, 3 is
visible but mild, and at 5 a person would scan the slide again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from sgcldff.core.arrays import Rgb
from sgcldff.core.records import Sample
from sgcldff.core.settings import Perturbation, require
from sgcldff.data.synthetic.stain import compressed

if TYPE_CHECKING:
    from sgcldff.models.training.examples import ImageChange


@dataclass(frozen=True)
class Amounts:
    """Amount of each kind of corruption at one strength."""

    hue_degrees: float
    """Rotation of the hue."""
    light: float
    """Remaining share of the light. Images only get darker: brighter ones would be clipped and lose content."""
    focus_um: float
    """Standard deviation of the blur, um."""
    jpeg_quality: int
    """libjpeg's quality, 0 to 100."""
    grain: float
    """Standard deviation of the noise, in grey values (0 to 255)."""


AMOUNTS: Mapping[int, Amounts] = MappingProxyType(
    {
        1: Amounts(hue_degrees=4.0, light=0.95, focus_um=0.12, jpeg_quality=80, grain=3.0),
        2: Amounts(hue_degrees=8.0, light=0.9, focus_um=0.18, jpeg_quality=60, grain=5.0),
        3: Amounts(hue_degrees=12.0, light=0.85, focus_um=0.25, jpeg_quality=40, grain=8.0),
        4: Amounts(hue_degrees=18.0, light=0.75, focus_um=0.4, jpeg_quality=25, grain=14.0),
        5: Amounts(hue_degrees=25.0, light=0.6, focus_um=0.6, jpeg_quality=12, grain=24.0),
    }
)
"""Amounts by strength."""
PROMOTION_STRENGTH = 3
"""Strength at which promotion compares models."""


def corruption(kind: Perturbation, strength: int = PROMOTION_STRENGTH) -> "ImageChange":
    """Return the function that corrupts an image in this way.

    Raises
    ------
    InputError
        If the strength is not in `AMOUNTS`.
    """
    require(strength in AMOUNTS, f"strength {strength} of {kind} is unknown: give a whole number from 1 to 5")
    return partial(_FUNCTIONS[kind], AMOUNTS[strength])


def _hue(amounts: Amounts, rgb: Rgb, sample: Sample) -> Rgb:
    hsv = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + amounts.hue_degrees) % 360
    return _grey_values(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255)


def _brightness(amounts: Amounts, rgb: Rgb, sample: Sample) -> Rgb:
    return _grey_values(rgb * np.float32(amounts.light))


def _blur(amounts: Amounts, rgb: Rgb, sample: Sample) -> Rgb:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), amounts.focus_um / sample.mpp))


def _jpeg(amounts: Amounts, rgb: Rgb, sample: Sample) -> Rgb:
    return compressed(rgb, amounts.jpeg_quality)


def _noise(amounts: Amounts, rgb: Rgb, sample: Sample) -> Rgb:
    rng = np.random.default_rng(int(sample.sha256 or "0", 16))
    return _grey_values(rgb + amounts.grain * rng.standard_normal(rgb.shape, dtype=np.float32))


def _grey_values(image: np.ndarray) -> Rgb:
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


_FUNCTIONS: Mapping[Perturbation, Callable[[Amounts, Rgb, Sample], Rgb]] = {
    Perturbation.HUE: _hue,
    Perturbation.BRIGHTNESS: _brightness,
    Perturbation.BLUR: _blur,
    Perturbation.JPEG: _jpeg,
    Perturbation.NOISE: _noise,
}
