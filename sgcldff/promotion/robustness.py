"""Images as another scanner, lamp, focus or export would have given them, at one strength for all models.

The same image changes the same way for every model: noise is drawn from the image's digest. The kinds of change, as the
idea, follow Hendrycks and Dietterich (ICLR 2019); the strengths are a choice, visible but mild.
"""

from collections.abc import Callable, Mapping

import cv2
import numpy as np

from sgcldff.data import Change
from sgcldff.images import Rgb
from sgcldff.records import Sample
from sgcldff.specs import Perturbation

HUE_DEGREES = 12.0
"""Turn of the hue."""
LIGHT = 0.85
"""Share of the light that is left."""
FOCUS_UM = 0.25
"""Standard deviation of the blur, um."""
JPEG_QUALITY = 40
"""Of libjpeg, 0 to 100."""
GRAIN = 8.0
"""Standard deviation of the noise, grey values of 255."""


def change_of(kind: Perturbation) -> Change:
    """Give the change of that name."""
    return CHANGES[kind]


def _hue(rgb: Rgb, sample: Sample) -> Rgb:
    hsv = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2HSV)
    hsv[..., 0] = (hsv[..., 0] + HUE_DEGREES) % 360
    return _grey_values(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255)


def _brightness(rgb: Rgb, sample: Sample) -> Rgb:
    return _grey_values(rgb * np.float32(LIGHT))


def _blur(rgb: Rgb, sample: Sample) -> Rgb:
    return np.asarray(cv2.GaussianBlur(rgb, (0, 0), FOCUS_UM / sample.mpp))


def _jpeg(rgb: Rgb, sample: Sample) -> Rgb:
    _, coded = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return np.asarray(cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB))


def _noise(rgb: Rgb, sample: Sample) -> Rgb:
    rng = np.random.default_rng(int(sample.sha256 or "0", 16))
    return _grey_values(rgb + GRAIN * rng.standard_normal(rgb.shape, dtype=np.float32))


def _grey_values(image: np.ndarray) -> Rgb:
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


CHANGES: Mapping[Perturbation, Callable[[Rgb, Sample], Rgb]] = {
    Perturbation.HUE: _hue,
    Perturbation.BRIGHTNESS: _brightness,
    Perturbation.BLUR: _blur,
    Perturbation.JPEG: _jpeg,
    Perturbation.NOISE: _noise,
}
