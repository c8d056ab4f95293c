"""The interface of an open slide."""

from typing import Protocol

import numpy as np

from sgcldff.core.arrays import Rgb
from sgcldff.core.geometry import Box, Shape
from sgcldff.core.records import SlideRef

WHITE = 255


class SlideSource(Protocol):
    """A slide that is open for reading, in upright orientation."""

    @property
    def ref(self) -> SlideRef:
        """Identity, location and properties of the slide."""

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """(height, width) of each level, px."""

    @property
    def downsamples(self) -> tuple[float, ...]:
        """Pixels of level 0 per pixel of each level; the first is 1."""

    def read(self, box: Box, level: int) -> Rgb:
        """Read a box in px of `level`: uint8 (height, width, 3); white outside the slide."""

    def close(self) -> None:
        """Close the file."""


def downsample(shape: Shape, level: Shape) -> float:
    """Return the factor between level 0 and another level, as an integer if that explains the rounded sizes."""
    ratio = (shape[0] / level[0] + shape[1] / level[1]) / 2
    integer = round(ratio)
    exact = all(abs(side / integer - small) < 1 for side, small in zip(shape, level, strict=True))
    return float(integer) if exact else ratio


def white(shape: Shape) -> Rgb:
    """Return a white image of `shape`."""
    return np.full((*shape, 3), WHITE, np.uint8)
