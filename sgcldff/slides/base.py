"""What every slide offers."""

from typing import Protocol

import numpy as np

from sgcldff.core.arrays import Rgb
from sgcldff.core.geometry import Box, Shape
from sgcldff.core.records import SlideRef

WHITE = 255


class SlideSource(Protocol):
    """A slide that is open for reading; it stands upright."""

    @property
    def ref(self) -> SlideRef:
        """What the slide is and where."""

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """(height, width) of each level, px."""

    @property
    def downsamples(self) -> tuple[float, ...]:
        """Pixels of level 0 per pixel of each level; the first is 1."""

    def read(self, box: Box, level: int) -> Rgb:
        """Read a box in px of `level`: uint8 (height, width, 3); what lies outside the slide is white."""

    def close(self) -> None:
        """Let go of the file."""


def downsample(shape: Shape, level: Shape) -> float:
    """Return the factor between level 0 and another level, a whole number where rounded sizes hide one."""
    ratio = (shape[0] / level[0] + shape[1] / level[1]) / 2
    whole = round(ratio)
    exact = all(abs(side / whole - small) < 1 for side, small in zip(shape, level, strict=True))
    return float(whole) if exact else ratio


def white(shape: Shape) -> Rgb:
    """Make a white image of `shape`."""
    return np.full((*shape, 3), WHITE, np.uint8)
