"""Images and masks: reading and rescaling."""

import hashlib
import math
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError
from sgcldff.core.geometry import Box, Shape
from sgcldff.slides.pixels.base import MAX_AT_ONCE_PX
from sgcldff.slides.readers.pillow import read_picture, read_values
from sgcldff.slides.readers.tiff import TiffPicture, is_tiff, require_complete

UNREADABLE = ("not a readable image", "fetch or export it again")
"""Complaint and remedy about an image."""


def read_rgb(path: str | Path) -> Rgb:
    """Read an image as uint8 RGB, shape (H, W, 3), upright, on a white background (see `sgcldff.slides.pixels`).

    Raises
    ------
    InputError
        If the file is empty or damaged, is not a colour image, or contains several.
    """
    path = Path(path)
    with reading(path, *UNREADABLE):
        if not _is_tiff(path):
            rgb, orientation, _ = read_picture(path)
            return np.ascontiguousarray(orientation.upright(rgb))
        with closing(TiffPicture(path)) as picture:
            _require_small(path, picture.shapes[0])
            rgb = picture.pixels(Box.of(picture.shapes[0]), 0)
            return np.ascontiguousarray(picture.orientation.upright(rgb))


def read_grey(path: str | Path) -> NDArray[np.uint8]:
    """Read a mask as uint8, shape (H, W), upright; transparent pixels are 0.

    Three channels are averaged by luminance, palettes are converted to grey, and deeper values are scaled so that
    thresholds stay valid (`sgcldff.slides.pixels.samples.mask_values`).

    Raises
    ------
    InputError
        If the file is empty or damaged, or contains several images.
    """
    path = Path(path)
    with reading(path, *UNREADABLE):
        if not _is_tiff(path):
            values, orientation = read_values(path)
            return np.ascontiguousarray(orientation.upright(values))
        with closing(TiffPicture(path, colour=False)) as picture:
            _require_small(path, picture.shapes[0])
            return np.ascontiguousarray(picture.orientation.upright(picture.mask()))


def _is_tiff(path: Path) -> bool:
    """Return whether a file is a TIFF; raise if it is an incomplete one."""
    tiff = is_tiff(path)
    if tiff:
        require_complete(path)
    return tiff


def _require_small(path: Path, shape: Shape) -> None:
    """Check that an image fits into memory as a whole, as Pillow checks for other formats."""
    if math.prod(shape) > MAX_AT_ONCE_PX:
        raise InputError(f"{path}: is {shape[1]} x {shape[0]} px, too large to be read as an image; read it as a slide")


def scaled_shape(shape: tuple[int, int], mpp: float, to_mpp: float) -> tuple[int, int]:
    """Return the (height, width), px, of an image of `shape` at `mpp` um/px after rescaling to `to_mpp`."""
    height, width = (max(1, round(side * mpp / to_mpp)) for side in shape)
    return height, width


def rescale(image: NDArray[Any], mpp: float, to_mpp: float, *, labels: bool = False) -> NDArray[Any]:
    """Rescale an image from `mpp` to `to_mpp` um/px.

    Parameters
    ----------
    image
        Shape (H, W) or (H, W, channels).
    labels
        Use the nearest pixel instead of area means (shrinking) or linear interpolation (enlarging).
    """
    height, width = scaled_shape((image.shape[0], image.shape[1]), mpp, to_mpp)
    if (height, width) == image.shape[:2]:
        return image
    smooth = cv2.INTER_AREA if to_mpp > mpp else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_NEAREST_EXACT if labels else smooth))


def sha256_of(path: str | Path) -> str:
    """Hash a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
