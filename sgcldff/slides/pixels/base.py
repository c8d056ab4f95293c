"""The interface of a reader of a file format."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import SlideError
from sgcldff.core.geometry import Box, Shape
from sgcldff.slides.pixels.orientation import Orientation

MAX_AT_ONCE_PX = 178_956_970
"""Largest image, strip, tile or chunk that is decoded, px; where Pillow suspects a decompression bomb, too."""
MAX_PICTURES = 100_000
"""Largest number of pictures in a file."""
SAME_ASPECT = 0.02
"""Tolerance of the aspect ratios of two levels of the same picture, relative, besides rounding."""


class Picture(ABC):
    """A picture as stored in its file, in one or more levels; level 0 is the largest."""

    shapes: tuple[Shape, ...]
    """(height, width) of each stored level, px; the largest first."""
    mpp: float | None = None
    """um/px of level 0 according to the metadata; None if these lack it."""
    orientation: Orientation = Orientation()
    """Orientation of the stored pixels."""

    @abstractmethod
    def pixels(self, box: Box, level: int) -> Rgb:
        """Read a box inside the stored level: uint8 (height, width, 3)."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""


def require_decodable(path: Path, parts: Iterable[Sequence[int]]) -> None:
    """Check what a file claims before memory is taken: the shapes of the parts that are decoded at once.

    Raises
    ------
    SlideError
        If one is larger than any file needs.
    """
    for part in parts:
        if math.prod(part) > 4 * MAX_AT_ONCE_PX:
            sides = " x ".join(map(str, part))
            raise SlideError(
                f"{path}: {sides} values are stored in one piece, more than can be read at once; export it in tiles"
            )


def pyramid(shapes: Sequence[Shape]) -> list[int]:
    """Return the indices of the levels of a picture, largest first, whatever their order and factors.

    A level must be smaller than the previous one in both directions, and have the same aspect ratio.
    """
    order = sorted(range(len(shapes)), key=lambda at: -shapes[at][0] * shapes[at][1])
    kept = order[:1]
    for at in order[1:]:
        above, (height, width) = shapes[kept[-1]], shapes[at]
        if height < above[0] and width < above[1] and _same_aspect(shapes[kept[0]], shapes[at]):
            kept.append(at)
    return kept


def _same_aspect(largest: Shape, level: Shape) -> bool:
    down, across = largest[0] / level[0], largest[1] / level[1]
    rounding = 1 / min(level)
    return abs(down - across) <= max(down, across) * (SAME_ASPECT + rounding)
