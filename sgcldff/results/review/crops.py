"""Images of the cells under review, which later become training data."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sgcldff.core.arrays import Rgb
from sgcldff.core.atomic import atomic_write
from sgcldff.core.geometry import Box, Place
from sgcldff.core.settings import digest
from sgcldff.slides import ScaledSlide, SlideSource

CROPS_FOLDER = "crops"
"""Pictures lie in this folder of a queue, and of a store of reviews."""
CONTEXT_UM = 51.2
"""Side of a picture: twice that of the crops from which the default model classifies."""
FINEST_MPP = 0.1
"""um/px beyond which pictures are not finer, whatever the slide's scale."""


def crop_name(slide_sha256: str, cell_id: str) -> str:
    """Name a cell's picture: hexadecimal digits alone, whatever the names of slides and cells hold."""
    return f"{digest((slide_sha256, cell_id))}.png"


@dataclass(frozen=True)
class Crops:
    """Pictures of one slide's cells; each has its cell in the middle and is `CONTEXT_UM` wide."""

    source: SlideSource

    @property
    def slide(self) -> ScaledSlide:
        """The slide at the pictures' scale: its own, but no finer than `FINEST_MPP`."""
        return ScaledSlide(self.source, max(self.source.ref.mpp, FINEST_MPP))

    @property
    def side(self) -> int:
        """Side of a picture, px."""
        return round(CONTEXT_UM / self.slide.mpp)

    def read(self, place: Place) -> Rgb:
        """Read the picture of a cell; beyond its border the slide is mirrored, as it was for the model.

        Raises
        ------
        SlideError
            If the file is damaged there.
        """
        return self.slide.read_mirrored(self._box(place))

    def crossing(self, place: Place) -> bool:
        """Return whether a cell's picture reaches beyond the slide's border."""
        box = self._box(place)
        return box.clip(self.slide.shape) != box

    def _box(self, place: Place) -> Box:
        y, x = (round(length / self.slide.factor - self.side / 2) for length in place)
        return Box(y, x, y + self.side, x + self.side)


def write_png(path: Path, rgb: Rgb) -> None:
    """Write a picture; the file appears whole or not at all."""
    _, data = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
    with atomic_write(path) as partial:
        partial.write_bytes(data.tobytes())
