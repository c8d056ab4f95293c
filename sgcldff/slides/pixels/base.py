"""What every file format has to bring."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from sgcldff.core.arrays import Rgb
from sgcldff.core.geometry import Box, Shape
from sgcldff.slides.pixels.orientation import Orientation

SAME_ASPECT = 0.02
"""Relative difference of two levels' aspects, besides that of rounding, up to which they show the same picture."""


class Picture(ABC):
    """A picture as its file stores it, in one or more levels; level 0 is the largest."""

    shapes: tuple[Shape, ...]
    """(height, width) of each stored level, px; the largest first."""
    mpp: float | None = None
    """um/px of level 0 by the metadata; None where they do not say."""
    orientation: Orientation = Orientation()
    """How what is stored has to be turned."""

    @abstractmethod
    def pixels(self, box: Box, level: int) -> Rgb:
        """Read a box that lies inside the stored level: uint8 (height, width, 3)."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""


def pyramid(shapes: Sequence[Shape]) -> list[int]:
    """Choose the levels of a picture, largest first, whatever their order and factors.

    What is no larger than another level in one direction only, or of another aspect, is no level of the picture.
    """
    order = sorted(range(len(shapes)), key=lambda at: -shapes[at][0] * shapes[at][1])
    kept = order[:1]
    for at in order[1:]:
        above, (height, width) = shapes[kept[-1]], shapes[at]
        if height < above[0] and width < above[1] and _same_aspect(shapes[kept[0]], shapes[at]):
            kept.append(at)
    return kept


def _same_aspect(whole: Shape, level: Shape) -> bool:
    down, across = whole[0] / level[0], whole[1] / level[1]
    rounding = 1 / min(level)
    return abs(down - across) <= max(down, across) * (SAME_ASPECT + rounding)
