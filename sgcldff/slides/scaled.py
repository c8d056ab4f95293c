"""A slide at one scale, independent of its stored levels.

The value of a pixel depends only on its position, not on the requested box: the weights of source pixels are computed
from absolute coordinates, and are integers, so that sums are exact.
"""

from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.geometry import Box, Shape
from sgcldff.slides.base import SlideSource, white
from sgcldff.slides.images import scaled_shape

UNIT = 256
"""Sum of a pixel's weights; 255 * UNIT fits 16 bits."""
CACHED_ROWS = 64
"""Rows that are combined at once: their sums stay in the processor's caches."""
MAX_SOURCE_PX = 1 << 24
"""Largest number of source pixels in memory at a time."""


@dataclass(frozen=True)
class Taps:
    """The source pixels of each target pixel along one axis, and their weights."""

    index: NDArray[np.int64]
    """(taps, n), absolute indices inside the source."""
    weight: NDArray[np.uint16]
    """(taps, n); every column sums to `UNIT`."""

    @property
    def span(self) -> tuple[int, int]:
        """First source pixel needed, and the one after the last."""
        return int(self.index.min()), int(self.index.max()) + 1

    def apply(self, image: NDArray[np.uint8], origin: int) -> NDArray[np.uint8]:
        """Combine rows of an image whose first row is source row `origin`."""
        combined = np.empty((self.index.shape[1], *image.shape[1:]), np.uint8)
        for at in range(0, len(combined), CACHED_ROWS):
            part = slice(at, at + CACHED_ROWS)
            total = np.full(combined[part].shape, UNIT // 2, np.uint16)
            for index, weight in zip(self.index[:, part] - origin, self.weight[:, part], strict=True):
                total += image[index] * weight.reshape(-1, *[1] * (image.ndim - 1))
            total >>= 8
            combined[part] = total
        return combined


def taps(start: int, stop: int, scale: float, size: int) -> Taps:
    """Return the weights for target pixels `start` to `stop`, each `scale` of the `size` source pixels wide.

    Area means for shrinking (scale >= 1), linear interpolation for enlarging; the source's border is repeated.
    """
    target = np.arange(start, stop, dtype=np.float64)
    if scale < 1:
        centre = (target + 0.5) * scale - 0.5
        first = np.floor(centre)
        shares = np.stack([np.zeros_like(centre), first + 1 - centre, np.ones_like(centre)])
    else:
        low = np.minimum(target * scale, size - 0.5)
        high = np.minimum((target + 1) * scale, size)
        first = np.floor(low)
        edges = first + np.arange(int(np.ceil(scale)) + 2)[:, None]
        shares = np.clip((edges - low) / (high - low), 0, 1)
    weight = np.diff(np.rint(shares * UNIT), axis=0).astype(np.uint16)
    index = np.clip(first.astype(np.int64) + np.arange(len(weight))[:, None], 0, size - 1)
    used = weight.any(axis=1)
    return Taps(index[used], weight[used])


@dataclass(frozen=True)
class ScaledSlide:
    """A slide at `mpp` um/px, read from its coarsest level that is at most slightly coarser than that."""

    source: SlideSource
    mpp: float
    """um/px; a pixel is `mpp / source.ref.mpp` px of level 0 wide."""
    coarser: float = 1.01
    """How many times as coarse a level may be; enlarging it may avoid reading the next finer level."""
    shape: Shape = field(init=False)
    """(height, width) at this scale, px."""

    def __post_init__(self) -> None:
        ref = self.source.ref
        object.__setattr__(self, "shape", scaled_shape(ref.shape, ref.mpp, self.mpp))

    @property
    def factor(self) -> float:
        """Pixels of level 0 per pixel at this scale."""
        ratio = self.mpp / self.source.ref.mpp
        return float(round(ratio)) if abs(ratio - round(ratio)) < 1e-6 else ratio

    @property
    def level(self) -> int:
        """The level that is read."""
        return max(
            at for at, ratio in enumerate(self.source.downsamples) if ratio <= max(1.0, self.factor * self.coarser)
        )

    def read(self, box: Box) -> Rgb:
        """Read a box: uint8 (height, width, 3); white outside the slide.

        Raises
        ------
        SlideError
            If the file is damaged there.
        """
        inside = box.clip(self.shape)
        if inside == box:
            return self._pixels(inside)
        image = white(box.shape)
        image[inside.within(box).slices] = self._pixels(inside)
        return image

    def read_mirrored(self, box: Box) -> Rgb:
        """Read a box as `read` does, but with the slide mirrored at its border, like training crops."""
        rows, columns = _mirrored(box.y0, box.y1, self.shape[0]), _mirrored(box.x0, box.x1, self.shape[1])
        needed = Box(int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
        pixels = self._pixels(needed)
        if needed == box:
            return pixels
        return pixels.take(rows - needed.y0, axis=0).take(columns - needed.x0, axis=1)

    def overview(self, max_px: int) -> tuple[Rgb, float]:
        """Read the entire slide with its longer side at most `max_px`, never enlarged; return it and its um/px."""
        ref = self.source.ref
        mpp = max(self.mpp, ref.mpp) * max(1.0, max(ref.shape) * ref.mpp / max(self.mpp, ref.mpp) / max_px)
        coarse = ScaledSlide(self.source, mpp)
        return coarse.read(Box.of(coarse.shape)), mpp

    def survey(self, side_px: int, patch_px: int = 256) -> Rgb:
        """Sample the slide at this scale: all of a small slide, otherwise a mosaic of evenly spread patches."""
        if max(self.shape) <= side_px:
            return self.read(Box.of(self.shape))
        rows, columns = (_spread(side, side_px, patch_px) for side in self.shape)
        patches = [[self.read_mirrored(Box(y, x, y + patch_px, x + patch_px)) for x in columns] for y in rows]
        return np.vstack([np.hstack(row) for row in patches])

    def _pixels(self, box: Box) -> Rgb:
        if 0 in box.shape:
            return white(box.shape)
        width = max(1, round(box.width * self._scale))
        step = max(1, int(MAX_SOURCE_PX / width / self._scale))
        bands = [Box(y, box.x0, min(y + step, box.y1), box.x1) for y in range(box.y0, box.y1, step)]
        return np.concatenate([self._band(band) for band in bands])

    def _band(self, box: Box) -> Rgb:
        if self._scale == 1:
            return self.source.read(box, self.level)
        height, width = self.source.shapes[self.level]
        rows, columns = taps(box.y0, box.y1, self._scale, height), taps(box.x0, box.x1, self._scale, width)
        (top, bottom), (left, right) = rows.span, columns.span
        pixels = rows.apply(self.source.read(Box(top, left, bottom, right), self.level), top)
        return np.asarray(cv2.transpose(columns.apply(np.asarray(cv2.transpose(pixels)), left)))

    @property
    def _scale(self) -> float:
        ratio = self.factor / self.source.downsamples[self.level]
        return 1.0 if abs(ratio - 1) < 1e-6 else ratio


def _mirrored(start: int, stop: int, size: int) -> NDArray[np.int64]:
    """Fold indices back into 0 ... size - 1, without repeating the border."""
    period = max(1, 2 * (size - 1))
    folded = np.abs(np.arange(start, stop)) % period
    return np.minimum(folded, period - folded) if size > 1 else np.zeros_like(folded)


def _spread(length: int, side: int, patch: int) -> list[int]:
    """Return the starts of evenly spread patches along a side of the slide."""
    count = max(1, min(side, length) // patch)
    return [round((length - patch) * (at + 0.5) / count) if count > 1 else 0 for at in range(count)]
