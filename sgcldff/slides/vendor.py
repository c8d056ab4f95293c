"""Scanner formats, read with OpenSlide."""

from pathlib import Path

import numpy as np
import openslide
from openslide import OpenSlide, OpenSlideError
from PIL import Image

from sgcldff.grid import Box
from sgcldff.images import Rgb
from sgcldff.slides.source import Pixels, damage_reported, plausible


def is_vendor(path: Path) -> bool:
    """Tell whether the file has a scanner's format that OpenSlide knows (a generic TIFF is not meant)."""
    return OpenSlide.detect_format(path) not in (None, "generic-tiff")


class VendorPixels(Pixels):
    """A slide in a scanner's format. OpenSlide's handle may be used by several threads."""

    def __init__(self, path: Path) -> None:
        with damage_reported(path, (OpenSlideError, OSError), "the slide"):
            self._slide = OpenSlide(path)
        self._path = path
        self.shapes = tuple((height, width) for width, height in self._slide.level_dimensions)
        self.mpp = self._metadata_mpp()
        self._paper = self._slide.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF")

    def _metadata_mpp(self) -> float | None:
        names = (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y)
        values = [float(self._slide.properties[name]) for name in names if name in self._slide.properties]
        return plausible(sum(values) / len(values)) if values else None

    def pixels(self, box: Box, level: int) -> Rgb:
        """Read a box; where the scanner recorded nothing, its background colour shows."""
        factor = self._slide.level_downsamples[level]
        corner = (round(box.x0 * factor), round(box.y0 * factor))
        with damage_reported(self._path, (OpenSlideError,), f"level {level}, {box}"):
            region = self._slide.read_region(corner, level, (box.width, box.height))
        if region.getextrema()[3][0] == WHOLLY_OPAQUE:
            return np.asarray(region)[..., :3]
        paper = Image.new("RGBA", region.size, f"#{self._paper}")
        return np.asarray(Image.alpha_composite(paper, region))[..., :3]

    def close(self) -> None:
        """Let go of the file."""
        self._slide.close()


WHOLLY_OPAQUE = 255
"""Alpha of a pixel that the scanner recorded."""
