"""Plain images (PNG, JPEG, BMP and others), read with Pillow."""

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile, PngImagePlugin

from sgcldff.core.arrays import Rgb
from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError
from sgcldff.core.geometry import Box
from sgcldff.slides.pixels.base import Picture
from sgcldff.slides.pixels.orientation import Orientation
from sgcldff.slides.pixels.page_selection import ANY_PLANE, Plane
from sgcldff.slides.pixels.samples import MIN_RANGE_USED, mask_values, on_paper
from sgcldff.slides.pixels.units import INCH, Spacing, square_mpp

PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY
"""Allow texts and profiles of one chunk to be as large as those of an entire file may be (64 MB)."""
GREY = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L", "I;16N")
UNKNOWN_COLOURS = ("LAB",)
FIRST_PICTURE_ONLY = ("MPO",)
"""Formats of which only the first picture is used; phones append a depth map."""


class PlainPicture(Picture):
    """An image that Pillow reads, as a slide of one level in memory."""

    def __init__(self, path: Path, plane: Plane = ANY_PLANE) -> None:
        self._rgb, self.orientation, self.mpp = read_picture(path, plane)
        self.shapes = (self._rgb.shape[:2],)

    def pixels(self, box: Box, level: int) -> Rgb:
        """Return a copy of a box."""
        return self._rgb[box.slices].copy()

    def close(self) -> None:
        """Do nothing: the file has been read completely."""


def read_picture(path: Path, plane: Plane = ANY_PLANE) -> tuple[Rgb, Orientation, float | None]:
    """Read the stored colours of an image, its orientation, and its um/px.

    Raises
    ------
    InputError
        If the file is damaged or grey, its pixels are not square, or it contains several pictures and none is selected.
    """
    with Image.open(path) as image:
        _seek(path, image, plane)
        deep = _is_deep(image)
        colours = _coloured(path, image)
        orientation, spacing = _orientation(path, image), _spacing(image)
    highest = int(colours.max(initial=0))
    if deep and highest <= 255 * MIN_RANGE_USED:
        raise InputError(
            f"{path}: has 16 bits per sample, of which it uses no more than {highest / 255:.0%}, so that its depth is"
            " unknown; export it as 8-bit RGB"
        )
    return colours, orientation, square_mpp(path, spacing)


def read_values(path: Path) -> tuple[NDArray[np.uint8], Orientation]:
    """Read the stored values of a mask, (H, W), and its orientation; transparent pixels are 0.

    Raises
    ------
    InputError
        If the file is damaged, or contains several pictures.
    """
    with Image.open(path) as image:
        _seek(path, image, ANY_PLANE)
        image.load()
        orientation = _orientation(path, image)
        if image.mode.startswith(("I", "F")):
            return mask_values(np.asarray(image)), orientation
        if image.has_transparency_data:
            with_alpha = image.convert("LA") if image.mode in ("L", "La", "LA") else image.convert("RGBA")
            grey, opacity = np.asarray(with_alpha.convert("L")), np.asarray(with_alpha.getchannel("A"))
            return on_paper(grey[..., None], opacity, paper=0)[..., 0], orientation
        return np.asarray(image.convert("L")), orientation


def _seek(path: Path, image: Image.Image, plane: Plane) -> None:
    """Go to the selected picture."""
    count = getattr(image, "n_frames", 1)
    several = count > 1 and image.format not in FIRST_PICTURE_ONLY
    if plane.page is None and several:
        raise InputError(
            f"{path}: contains {count} pictures; select one (--page 1, or {path.name}#page=1), or export it alone"
        )
    if (plane.page or 1) > count or (plane.z or 1) > 1:
        raise InputError(f"{path}: contains {count} picture(s) of one focal plane; there is no {plane}")
    if plane.page is not None and several:
        image.seek(plane.page - 1)


def _coloured(path: Path, image: Image.Image) -> Rgb:
    """Convert an image to RGB on a white background.

    Raises
    ------
    InputError
        If the image has no colours, or an unsupported colour model.
    """
    palette = np.asarray(image.getpalette() or ()).reshape(-1, 3) if image.mode in ("P", "PA") else None
    grey = image.mode in GREY or (palette is not None and not np.ptp(palette, axis=1).any())
    if grey or image.mode in UNKNOWN_COLOURS:
        raise InputError(
            f"{path}: is no colour picture of a stained smear (its samples are {image.mode}); export it as 8-bit RGB"
        )
    if not image.has_transparency_data:
        return np.asarray(image.convert("RGB"))
    rgba = np.asarray(image if image.mode == "RGBa" else image.convert("RGBA"))
    return on_paper(rgba[..., :3], rgba[..., 3], premultiplied=image.mode == "RGBa")


def _is_deep(image: Image.Image) -> bool:
    """Return whether colours have 16 bits in the file, of which Pillow keeps the upper 8; only known before loading."""
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else ()
    modes = (tile.args[0] if isinstance(tile.args, tuple) else tile.args for tile in tiles)
    return any(str(mode).startswith("RGB") and "16" in str(mode) for mode in modes)


def _orientation(path: Path, image: Image.Image) -> Orientation:
    """Read the orientation of an image; unreadable EXIF is ignored, as in all viewers."""
    with suppress(InputError), reading(path, "EXIF cannot be read", "export it again"):
        return Orientation.of(image.getexif().get(ExifTags.Base.Orientation))
    return Orientation()


def _spacing(image: Image.Image) -> Spacing:
    x, y = (float(value) for value in image.info.get("dpi", (0, 0)))
    return (INCH / y, INCH / x) if x > 0 and y > 0 else (None, None)
