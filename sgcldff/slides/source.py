"""What every slide offers, and what every file format has to bring."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np

from sgcldff.errors import SlideError
from sgcldff.grid import Box, Shape
from sgcldff.images import Rgb
from sgcldff.records import SlideRef

WHITE = 255
PLAUSIBLE_MPP = (0.02, 8.0)
"""um/px that a scan of a smear may have; other values in metadata (72 dpi, say) are taken for none."""


class SlideSource(Protocol):
    """A slide that is open for reading."""

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


class Pixels(ABC):
    """A file format: the pixels of its levels and the scale that its metadata name."""

    shapes: tuple[Shape, ...]
    """(height, width) of each level, px."""
    mpp: float | None
    """um/px of level 0 by the metadata; None where they do not say."""

    @abstractmethod
    def pixels(self, box: Box, level: int) -> Rgb:
        """Read a box that lies inside the level: uint8 (height, width, 3)."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""


def downsample(shape: Shape, level: Shape) -> float:
    """Give the factor between level 0 and another level, a whole number where rounded sizes hide one."""
    ratio = (shape[0] / level[0] + shape[1] / level[1]) / 2
    whole = round(ratio)
    exact = all(abs(side / whole - small) < 1 for side, small in zip(shape, level, strict=True))
    return float(whole) if exact else ratio


def plausible(mpp: float | None) -> float | None:
    """Keep a scale that a scanned smear may have."""
    low, high = PLAUSIBLE_MPP
    return mpp if mpp is not None and low <= mpp <= high else None


def white(shape: Shape) -> Rgb:
    """Make a white image of `shape`."""
    return np.full((*shape, 3), WHITE, np.uint8)


@contextmanager
def damage_reported(path: Path, errors: tuple[type[Exception], ...], what: str) -> Iterator[None]:
    """Turn a library's complaint into a `SlideError` that names the file, the place and the remedy."""
    try:
        yield
    except errors as error:
        reason = str(error).strip() or type(error).__name__
        raise SlideError(f"{path}: {what} cannot be read ({reason}); copy or export the slide again") from error
