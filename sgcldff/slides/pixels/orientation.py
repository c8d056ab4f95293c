"""Orientations in EXIF and TIFF tag 274: how a stored picture is turned upright."""

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from sgcldff.core.geometry import Box, Shape

TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
"""Orientation -> whether rows and columns are swapped, then whether the rows, and whether the columns, are reversed."""


@dataclass(frozen=True)
class Orientation:
    """The orientation of a stored picture."""

    number: int = 1
    """1 to 8 as in EXIF; 1 is upright."""

    @classmethod
    def of(cls, value: object) -> "Orientation":
        """Parse the value of a tag; undefined values are ignored, as in all viewers."""
        return cls(value if isinstance(value, int) and value in TURNS else 1)

    def shape(self, shape: Shape) -> Shape:
        """Return the (height, width) of the upright picture from the stored one's, or back."""
        return (shape[1], shape[0]) if TURNS[self.number][0] else shape

    def upright(self, stored: NDArray[Any]) -> NDArray[Any]:
        """Turn a stored array (H, W) or (H, W, channels) upright."""
        swapped, down, across = TURNS[self.number]
        turned = stored.swapaxes(0, 1) if swapped else stored
        return turned[:: -1 if down else 1, :: -1 if across else 1]

    def stored(self, box: Box, shape: Shape) -> Box:
        """Convert a box in the upright picture, which has the given shape, to the stored one."""
        swapped, down, across = TURNS[self.number]
        y0, y1 = (shape[0] - box.y1, shape[0] - box.y0) if down else (box.y0, box.y1)
        x0, x1 = (shape[1] - box.x1, shape[1] - box.x0) if across else (box.x0, box.x1)
        return Box(x0, y0, x1, y1) if swapped else Box(y0, x0, y1, x1)
