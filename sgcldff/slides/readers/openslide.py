"""Scanner formats, read with OpenSlide."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import openslide
from openslide import OpenSlide
from PIL import Image
from tifffile import TiffFile

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import SlideError
from sgcldff.core.geometry import Box
from sgcldff.slides.pixels.base import Picture, pyramid
from sgcldff.slides.pixels.decoding import decoding
from sgcldff.slides.pixels.orientation import Orientation
from sgcldff.slides.pixels.page_selection import UNNAMED, Candidate, Plane, choose_focus, choose_picture
from sgcldff.slides.pixels.units import Spacing, square_mpp
from sgcldff.slides.readers.tiff import is_grey, is_tiff, orientation_of

WHOLLY_OPAQUE = 255
"""Alpha of a pixel that the scanner recorded."""


def is_vendor(path: Path) -> bool:
    """Return whether the file has a scanner's format that OpenSlide knows (a generic TIFF is not meant)."""
    with decoding(path, "the slide cannot be read"):
        return OpenSlide.detect_format(path) not in (None, "generic-tiff")


class VendorPicture(Picture):
    """A slide in a scanner's format. OpenSlide's handle may be used by several threads.

    OpenSlide gives the slide itself; label and macro image are never read.
    """

    def __init__(self, path: Path, plane: Plane = UNNAMED) -> None:
        self._path = path
        with decoding(path, "the slide cannot be read"):
            self._slide = OpenSlide(path)
            shapes = [(height, width) for width, height in self._slide.level_dimensions]
            self.mpp = square_mpp(path, self._spacing())
        choose_picture(path, [Candidate(shapes[0])], plane.page)
        choose_focus(path, 1, plane.z)
        self._levels = pyramid(shapes)
        self.shapes = tuple(shapes[at] for at in self._levels)
        self._paper = self._slide.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF")
        if is_tiff(path):
            self._require_upright_colour()

    def _require_upright_colour(self) -> None:
        """See in a TIFF what OpenSlide does not tell: that it is coloured, and upright.

        libtiff turns each tile of a turned picture in its place, so that OpenSlide gives a jumble of tiles.
        """
        grey, orientation = False, Orientation()
        tables = decoding(self._path, "the TIFF's tables cannot be read")
        with suppress(SlideError), tables, TiffFile(self._path) as tiff:
            grey, orientation = is_grey(tiff.pages.first), orientation_of(tiff.pages.first)
        if grey:
            raise SlideError(f"{self._path}: is grey, no colour picture of a stained smear; scan it in brightfield")
        if orientation != Orientation():
            raise SlideError(
                f"{self._path}: is stored turned (orientation {orientation.number}), which OpenSlide does not read"
                " right; export it upright, as TIFF or OME-TIFF"
            )

    def _spacing(self) -> Spacing:
        names = (openslide.PROPERTY_NAME_MPP_Y, openslide.PROPERTY_NAME_MPP_X)
        y, x = (float(self._slide.properties[name]) if name in self._slide.properties else None for name in names)
        return y, x

    def pixels(self, box: Box, level: int) -> Rgb:
        """Read a box; where the scanner recorded nothing, its background colour shows."""
        at = self._levels[level]
        factor = self._slide.level_downsamples[at]
        corner = (round(box.x0 * factor), round(box.y0 * factor))
        with decoding(self._path, f"level {level}, {box} cannot be read"):
            region = self._slide.read_region(corner, at, (box.width, box.height))
            if region.getextrema()[3][0] == WHOLLY_OPAQUE:
                return np.asarray(region)[..., :3]
            paper = Image.new("RGBA", region.size, f"#{self._paper}")
            return np.asarray(Image.alpha_composite(paper, region))[..., :3]

    def close(self) -> None:
        """Let go of the file."""
        self._slide.close()
