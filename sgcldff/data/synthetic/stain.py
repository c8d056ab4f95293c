"""Variation between smears (dyes, light, focus), and the camera that converts optical density to an image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from annotated_types import Interval
from numpy.typing import NDArray

from sgcldff.core.arrays import Floats, Rgb
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.settings import MODEL_MPP, Margin, require
from sgcldff.core.validation import Spec

DYES: Mapping[str, tuple[float, float, float]] = {
    "violet": (1.18, 1.72, 0.36),
    "purple": (0.50, 0.92, 0.34),
    "azure": (0.62, 0.48, 0.05),
    "eosin": (0.22, 0.80, 0.66),
    "haem": (0.52, 0.96, 0.84),
}
"""Optical density (natural logarithm; R, G, B) of a well-stained structure in each colour of a Giemsa stain."""

HUES: Mapping[str, tuple[float, float, float]] = {
    "violet": (0.20, 0.07, 0.70),
    "purple": (0.20, 0.05, 0.40),
    "azure": (0.10, 0.15, 0.30),
    "eosin": (0.30, 0.00, -0.10),
    "haem": (0.28, 0.00, -0.12),
}
"""Logarithmic change of `DYES` from a neutral to a violet stain (hue +1); its negative leads to a blue one (hue -1)."""


@dataclass(frozen=True)
class SmearSpec(Spec):
    """One smear: its cells, its stain and how it is photographed."""

    mpp: Annotated[float, Interval(ge=0.05, le=1)] = MODEL_MPP
    """um/px of the images."""
    wbc_per_mm2: float = 350.0
    red_coverage: Annotated[float, Interval(ge=0, le=1.5)] = 0.5
    """Share of the area that red cells would cover if none overlapped."""
    shares: tuple[float, ...] = (0.55, 0.08, 0.04, 0.24, 0.09)
    """Shares of the five types, in the order of `FIVE_TYPES`."""
    strength: Annotated[float, Interval(ge=0.3, le=2)] = 1.0
    """Factor on every dye's optical density."""
    hue: Margin = 0.0
    """-1 blue stain, 0 neutral, +1 violet."""
    illumination: Annotated[float, Interval(ge=0, le=0.5)] = 0.05
    """Relative amplitude of uneven illumination."""
    blur_um: float = 0.12
    """Standard deviation of the focus blur."""
    noise: float = 2.0
    """Standard deviation of the camera's noise, grey levels."""
    jpeg_quality: Annotated[int, Interval(ge=1, le=100)] = 90
    seed: int = 0
    version: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        five = len(self.shares) == len(FIVE_TYPES) and min(self.shares) >= 0 and sum(self.shares) > 0
        require(
            five, f"SmearSpec.shares is {self.shares}: give five numbers of at least 0, for {', '.join(FIVE_TYPES)}"
        )
        physical = min(self.blur_um, self.noise, self.wbc_per_mm2) >= 0
        require(physical, "SmearSpec.blur_um, noise and wbc_per_mm2 must not be negative")


def random_smear(seed: int, mpp: float = MODEL_MPP) -> SmearSpec:
    """Draw the stain, light and focus of a smear; the same seed gives the same smear."""
    rng = np.random.default_rng([seed, 1])
    return SmearSpec(
        mpp=mpp,
        red_coverage=rng.uniform(0.3, 0.75),
        strength=rng.uniform(0.75, 1.2),
        hue=rng.uniform(-1, 1),
        illumination=rng.uniform(0.02, 0.1),
        blur_um=rng.uniform(0.08, 0.24),
        noise=rng.uniform(1, 3.5),
        jpeg_quality=int(rng.integers(80, 96)),
        seed=seed,
    )


@dataclass(frozen=True)
class Palette:
    """A smear's colours."""

    dyes: Mapping[str, Floats]
    """Optical density (3,) of each dye."""
    white: Floats
    """RGB (3,) of the empty glass, 0 to 255."""

    def mix(self, recipe: Mapping[str, float]) -> Floats:
        """Sum the dyes in the given amounts: optical density (3,)."""
        parts = np.stack([amount * self.dyes[dye] for dye, amount in recipe.items()])
        return np.asarray(parts.sum(axis=0), np.float32)


def palette(spec: SmearSpec) -> Palette:
    """Return the colours of a smear; the same spec gives the same colours."""
    rng = np.random.default_rng([spec.seed, 2])
    dyes = {}
    for name, density in DYES.items():
        shift = spec.hue * np.array(HUES[name]) + rng.normal(0, 0.06, 3)
        dyes[name] = (spec.strength * np.array(density) * np.exp(shift)).astype(np.float32)
    tint = np.array([1.0, 0.985, 0.95]) + rng.normal(0, (0.015, 0.012, 0.04), 3)
    white = np.clip(rng.uniform(222, 248) * tint, 0, 253)
    return Palette(dyes, white.astype(np.float32))


def light(spec: SmearSpec, rows: NDArray[np.int_], width: int) -> Floats:
    """Return the relative brightness, shape (len(rows), width), of `rows` of the image: slow waves over the smear."""
    rng = np.random.default_rng([spec.seed, 3])
    field = np.ones((len(rows), width), np.float32)
    y = (rows * spec.mpp).astype(np.float32)
    x = (np.arange(width) * spec.mpp).astype(np.float32)
    for wavelength in (90.0, 160.0, 300.0):
        turn_y, turn_x = rng.uniform(0, 2 * np.pi, 2)
        waves = np.cos(2 * np.pi * y / wavelength + turn_y), np.cos(2 * np.pi * x / wavelength + turn_x)
        field += spec.illumination / 2 * np.add.outer(*waves).astype(np.float32) / 2
    return field


def photograph(density: Floats, brightness: Floats, spec: SmearSpec, rng: np.random.Generator) -> Rgb:
    """Convert optical density (H, W, 3) and relative brightness (H, W) to an image: Beer-Lambert, blur, noise."""
    seen = np.exp(-density) * palette(spec).white
    seen *= brightness[..., None]
    sigma = spec.blur_um / spec.mpp
    if sigma > 0.2:
        seen = cv2.GaussianBlur(seen, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
    seen += np.float32(spec.noise) * rng.standard_normal(seen.shape, dtype=np.float32)
    return np.asarray(np.clip(seen + 0.5, 0, 255), np.uint8)


def compressed(rgb: Rgb, quality: int) -> Rgb:
    """Compress and decompress an image as JPEG, for its artefacts."""
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])
