"""Plain pictures (PNG, JPEG, BMP and others), read with Pillow."""

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, PngImagePlugin

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import InputError
from sgcldff.core.geometry import Box
from sgcldff.slides.pixels.base import Picture
from sgcldff.slides.pixels.decoding import decoding
from sgcldff.slides.pixels.orientation import Orientation
from sgcldff.slides.pixels.page_selection import UNNAMED, Plane
from sgcldff.slides.pixels.samples import LEAST_USED, mask_values, on_paper
from sgcldff.slides.pixels.units import INCH, Spacing, square_mpp

PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
"""Texts and profiles of one chunk may be as large as Pillow allows those of a file to be together (64 MB)."""
GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
UNKNOWN_COLOURS = ("LAB",)
ALONE = ("MPO",)
"""Formats whose first picture is the one meant; phones add one that maps depths."""
IMAGE_REMEDY = "fetch or export it again"


class PlainPicture(Picture):
    """A picture in a file that Pillow reads, as a slide of one level, held in memory."""

    def __init__(self, path: Path, plane: Plane = UNNAMED) -> None:
        self._rgb, self.orientation, self.mpp = read_picture(path, plane)
        self.shapes = (self._rgb.shape[:2],)

    def pixels(self, box: Box, level: int) -> Rgb:
        """Copy a box."""
        return self._rgb[box.slices].copy()

    def close(self) -> None:
        """Do nothing: the file was read whole."""


def read_picture(path: Path, plane: Plane = UNNAMED) -> tuple[Rgb, Orientation, float | None]:
    """Read the colours of a picture as they are stored, how it has to be turned, and its um/px.

    Raises
    ------
    InputError
        If the file is damaged or grey, its pixels are not square, or it holds several pictures of which none was named.
    """
    with decoding(path, "not a readable image", InputError, IMAGE_REMEDY), Image.open(path) as image:
        _seek(path, image, plane)
        deep = _is_deep(image)
        colours = _coloured(path, image)
        orientation, spacing = _orientation(path, image), _spacing(image)
    highest = int(colours.max(initial=0))
    if deep and highest <= 255 * LEAST_USED:
        raise InputError(
            f"{path}: has 16 bits a sample, of which it uses no more than {highest / 255:.0%}, so that its depth is not"
            " known; export it as 8-bit RGB"
        )
    return colours, orientation, square_mpp(path, spacing)


def read_values(path: Path) -> tuple[NDArray[np.uint8], Orientation]:
    """Read the values of a mask, (H, W), as they are stored, and how it has to be turned; what is transparent is 0.

    Raises
    ------
    InputError
        If the file is damaged, or holds several pictures.
    """
    with decoding(path, "not a readable image", InputError, IMAGE_REMEDY), Image.open(path) as image:
        _seek(path, image, UNNAMED)
        image.load()
        orientation = _orientation(path, image)
        if image.mode.startswith(("I", "F")):
            return mask_values(np.asarray(image)), orientation
        if image.has_transparency_data:
            clear = image.convert("LA") if image.mode in ("L", "La", "LA") else image.convert("RGBA")
            grey, opacity = np.asarray(clear.convert("L")), np.asarray(clear.getchannel("A"))
            return on_paper(grey[..., None], opacity, paper=0)[..., 0], orientation
        return np.asarray(image.convert("L")), orientation


def _seek(path: Path, image: Image.Image, plane: Plane) -> None:
    """Go to the picture that is meant."""
    count = getattr(image, "n_frames", 1)
    several = count > 1 and image.format not in ALONE
    if plane.page is None and several:
        raise InputError(
            f"{path}: holds {count} pictures; say which one is meant (--page 1, or {path.name}#page=1), or export it"
            " alone"
        )
    if (plane.page or 1) > count or (plane.z or 1) > 1:
        raise InputError(f"{path}: holds {count} picture(s) of one focal plane; there is no {plane}")
    if plane.page is not None and several:
        image.seek(plane.page - 1)


def _coloured(path: Path, image: Image.Image) -> Rgb:
    """Convert to RGB, what is transparent on white.

    Raises
    ------
    InputError
        If the picture has no colours, or none that are known.
    """
    palette = np.asarray(image.getpalette() or ()).reshape(-1, 3) if image.mode in ("P", "PA") else None
    grey = image.mode in GREY or (palette is not None and not np.ptp(palette, axis=1).any())
    if grey or image.mode in UNKNOWN_COLOURS:
        raise InputError(
            f"{path}: is no colour picture of a stained smear (its samples are {image.mode}); export it as 8-bit RGB"
        )
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    clear = np.asarray(image if image.mode == "RGBa" else image.convert("RGBA"))
    return on_paper(clear[..., :3], clear[..., 3], premultiplied=image.mode == "RGBa")


def _is_deep(image: Image.Image) -> bool:
    """Return whether colours have 16 bits in the file, of which Pillow keeps the upper 8."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else ()
    modes = (tile.args[0] if isinstance(tile.args, tuple) else tile.args for tile in tiles)
    return any(str(mode).startswith("RGB") and "16" in str(mode) for mode in modes)


def _orientation(path: Path, image: Image.Image) -> Orientation:
    """Read how a picture has to be turned; EXIF that cannot be read counts as none, as in all viewers."""
    with suppress(InputError), decoding(path, "EXIF cannot be read"):
        return Orientation.of(image.getexif().get(ExifTags.Base.Orientation))
    return Orientation()


def _spacing(image: Image.Image) -> Spacing:
    x, y = (float(value) for value in image.info.get("dpi", (0, 0)))
    return (INCH / y, INCH / x) if x > 0 and y > 0 else (None, None)
