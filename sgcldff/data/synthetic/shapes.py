"""Smooth random shapes and textures on a grid whose coordinates are um.

A shape is a depth: um inside its outline, negative outside, so that a union is a maximum and an intersection a minimum.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Floats

Point = tuple[float, float]


@dataclass(frozen=True)
class Canvas:
    """A square grid around a cell's centre, slightly warped so that no drawn curve is perfect."""

    y: Floats
    """um, shape (N, N)."""
    x: Floats
    mpp: float
    rng: np.random.Generator

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        return self.y.shape[0], self.y.shape[1]

    def noise(self, scale_um: float) -> Floats:
        """Draw smooth noise of mean 0 and standard deviation 1, correlated over `scale_um`."""
        sigma = max(scale_um / self.mpp, 0.3)
        step = max(1, int(sigma / 2))
        side = -(-self.shape[0] // step) + 2
        coarse = cv2.GaussianBlur(self.rng.standard_normal((side, side), dtype=np.float32), (0, 0), sigma / step)
        coarse /= coarse.std() + 1e-6
        return np.asarray(cv2.resize(coarse, self.shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def canvas(half_um: float, mpp: float, warp_um: float, rng: np.random.Generator) -> Canvas:
    """Create a canvas that extends `half_um` from its centre, with coordinates shifted smoothly by about `warp_um`."""
    half = int(np.ceil(half_um / mpp))
    axis = np.arange(-half, half + 1, dtype=np.float32) * np.float32(mpp)
    y, x = np.meshgrid(axis, axis, indexing="ij")
    flat = Canvas(y, x, mpp, rng)
    if warp_um == 0:
        return flat
    return Canvas(flat.y + warp_um * flat.noise(1.6), flat.x + warp_um * flat.noise(1.6), mpp, rng)


def blob(area: Canvas, radius: float, elongation: float, roughness: float, centre: Point = (0, 0)) -> Floats:
    """Return the depth of a rounded shape whose radius varies smoothly with the angle."""
    turn = area.rng.uniform(0, np.pi)
    y, x = area.y - centre[0], area.x - centre[1]
    along, across = y * np.cos(turn) + x * np.sin(turn), x * np.cos(turn) - y * np.sin(turn)
    along, across = along / np.sqrt(elongation), across * np.sqrt(elongation)
    angle = np.arctan2(along, across)
    outline = np.ones_like(angle)
    for harmonic in range(2, 7):
        phase, size = area.rng.uniform(0, 2 * np.pi), area.rng.normal(0, roughness / harmonic)
        outline += np.float32(size) * np.cos(harmonic * angle + np.float32(phase))
    return np.asarray(radius * outline - np.hypot(along, across), np.float32)


def string(area: Canvas, points: Sequence[Point], radii: Sequence[float]) -> Floats:
    """Return the depth of a chain of segments whose thickness varies from each point's radius to the next."""
    depth = np.full(area.shape, -np.inf, np.float32)
    for (start, r0), (end, r1) in zip(
        zip(points[:-1], radii[:-1], strict=True), zip(points[1:], radii[1:], strict=True), strict=True
    ):
        dy, dx = end[0] - start[0], end[1] - start[1]
        y, x = area.y - start[0], area.x - start[1]
        share = np.clip((y * dy + x * dx) / max(dy * dy + dx * dx, 1e-6), 0, 1)
        thick = r0 + share * (r1 - r0)
        np.maximum(depth, thick - np.hypot(y - share * dy, x - share * dx), out=depth)
    return depth


def soft(depth: Floats, width_um: float) -> Floats:
    """Convert a depth to an opacity of 0 to 1 that rises over `width_um` at the outline."""
    share = np.clip(depth / np.float32(width_um) + np.float32(0.5), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)


def grains(area: Canvas, where: NDArray[np.bool_], radius_um: float, per_um2: float) -> Floats:
    """Scatter grains over `where`: opacity of 0 to 1, shape (N, N)."""
    pixels = np.flatnonzero(where)
    count = area.rng.poisson(per_um2 * len(pixels) * area.mpp**2)
    if count == 0:
        return np.zeros(area.shape, np.float32)
    drops = np.zeros(area.shape, np.float32)
    amounts = area.rng.uniform(0.6, 1.0, count).astype(np.float32)
    np.maximum.at(drops.reshape(-1), area.rng.choice(pixels, count), amounts)
    radius = max(radius_um / area.mpp, 0.6)
    reach = int(np.ceil(radius)) + 1
    offsets = np.arange(-reach, reach + 1)
    kernel = np.clip(radius + 0.5 - np.hypot(*np.meshgrid(offsets, offsets)), 0, 1).astype(np.float32)
    return np.asarray(np.minimum(cv2.filter2D(drops, -1, kernel, borderType=cv2.BORDER_CONSTANT), 1), np.float32)
