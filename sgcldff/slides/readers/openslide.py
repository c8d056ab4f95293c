"""Scanner formats, read with OpenSlide."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import openslide
from openslide import OpenSlide
from PIL import Image
from tifffile import TiffFile

from sgcldff.core.arrays import Rgb
from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError, SlideError
from sgcldff.core.geometry import Box
from sgcldff.slides.pixels.base import Picture, pyramid
from sgcldff.slides.pixels.orientation import Orientation
from sgcldff.slides.pixels.page_selection import ANY_PLANE, PictureCandidate, Plane, choose_focus, choose_picture
from sgcldff.slides.pixels.units import Spacing, square_mpp
from sgcldff.slides.readers.tiff import TABLES, is_grey, is_tiff, orientation_of

OPAQUE = 255
"""Alpha of pixels that the scanner recorded."""


def is_vendor(path: Path) -> bool:
    """Return whether OpenSlide recognises the file as a scanner's format, other than generic TIFF."""
    return OpenSlide.detect_format(path) not in (None, "generic-tiff")


class VendorPicture(Picture):
    """A slide in a scanner's format; several threads may read it.

    OpenSlide reads the slide itself; label and macro image are never read.
    """

    def __init__(self, path: Path, plane: Plane = ANY_PLANE) -> None:
        self._path = path
        self._slide = OpenSlide(path)
        shapes = [(height, width) for width, height in self._slide.level_dimensions]
        self.mpp = square_mpp(path, self._spacing())
        choose_picture(path, [PictureCandidate(shapes[0])], plane.page)
        choose_focus(path, 1, plane.z)
        self._levels = pyramid(shapes)
        self.shapes = tuple(shapes[at] for at in self._levels)
        self._paper = self._slide.properties.get(openslide.PROPERTY_NAME_BACKGROUND_COLOR, "FFFFFF")
        if is_tiff(path):
            self._require_upright_colour()

    def _require_upright_colour(self) -> None:
        """Check that a TIFF is coloured and upright, which OpenSlide does not.

        libtiff turns each tile of a turned picture in place, so that OpenSlide returns a jumble of tiles.
        """
        grey, orientation = False, Orientation()
        with suppress(InputError), reading(self._path, *TABLES), TiffFile(self._path) as tiff:
            grey, orientation = is_grey(tiff.pages.first), orientation_of(tiff.pages.first)
        if grey:
            raise SlideError(f"{self._path}: is grey, no colour picture of a stained smear; scan it in brightfield")
        if orientation != Orientation():
            raise SlideError(
                f"{self._path}: is stored turned (orientation {orientation.number}), which OpenSlide does not read"
                " correctly; export it upright, as TIFF or OME-TIFF"
            )

    def _spacing(self) -> Spacing:
        names = (openslide.PROPERTY_NAME_MPP_Y, openslide.PROPERTY_NAME_MPP_X)
        y, x = (float(self._slide.properties[name]) if name in self._slide.properties else None for name in names)
        return y, x

    def pixels(self, box: Box, level: int) -> Rgb:
        """Read a box; areas that were not scanned have the slide's background colour."""
        at = self._levels[level]
        factor = self._slide.level_downsamples[at]
        corner = (round(box.x0 * factor), round(box.y0 * factor))
        region = self._slide.read_region(corner, at, (box.width, box.height))
        if region.getextrema()[3][0] == OPAQUE:
            return np.asarray(region)[..., :3]
        paper = Image.new("RGBA", region.size, f"#{self._paper}")
        return np.asarray(Image.alpha_composite(paper, region))[..., :3]

    def close(self) -> None:
        """Close the file."""
        self._slide.close()
