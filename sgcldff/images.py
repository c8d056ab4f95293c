"""Reading and rescaling of plain images."""

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sgcldff.errors import InputError, MissingInputError

Rgb = NDArray[np.uint8]
"""uint8, shape (H, W, 3)."""


def read_rgb(path: str | Path) -> Rgb:
    """Read an image as uint8 RGB, shape (H, W, 3); an alpha channel is dropped.

    Raises
    ------
    InputError
        If the file is empty, truncated, or no image that Pillow reads.
    """
    return _read(Path(path), "RGB")


def read_grey(path: str | Path) -> NDArray[np.uint8]:
    """Read a mask as uint8, shape (H, W); three channels are averaged by luminance, palettes keep their grey values.

    Raises
    ------
    InputError
        As `read_rgb`.
    """
    return _read(Path(path), "L")


def _read(path: Path, mode: str) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such file") from error
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image ({error}); fetch or export it again") from error


def scaled_shape(shape: tuple[int, int], mpp: float, to_mpp: float) -> tuple[int, int]:
    """Give the (height, width) in px that an image of `shape` at `mpp` um/px has at `to_mpp`."""
    height, width = (max(1, round(side * mpp / to_mpp)) for side in shape)
    return height, width


def rescale(image: NDArray[Any], mpp: float, to_mpp: float, *, labels: bool = False) -> NDArray[Any]:
    """Bring an image from `mpp` to `to_mpp` um/px.

    Parameters
    ----------
    image
        Shape (H, W) or (H, W, channels).
    labels
        Take the nearest pixel instead of area means (shrinking) or linear interpolation (enlarging).
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
