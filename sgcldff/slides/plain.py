"""Plain images as slides of one level, held in memory."""

from pathlib import Path

from PIL import Image

from sgcldff.errors import InputError, SlideError
from sgcldff.grid import Box
from sgcldff.images import Rgb, read_rgb
from sgcldff.slides.source import Pixels, plausible

UM_PER_INCH = 25400.0


class PlainPixels(Pixels):
    """A PNG, JPEG, BMP or other image that Pillow reads."""

    def __init__(self, path: Path) -> None:
        try:
            self._image = read_rgb(path)
        except InputError as error:
            raise SlideError(
                f"{path}: no reader opens it; give a slide in a format of OpenSlide, a TIFF or OME-TIFF, an OME-Zarr"
                f" folder, or a PNG, JPEG or BMP ({error.__cause__ or error})"
            ) from error
        height, width = self._image.shape[:2]
        self.shapes = ((height, width),)
        self.mpp = plausible(_mpp(path))

    def pixels(self, box: Box, level: int) -> Rgb:
        """Copy a box."""
        return self._image[box.slices].copy()

    def close(self) -> None:
        """Do nothing: the file was read whole."""


def _mpp(path: Path) -> float | None:
    with Image.open(path) as image:
        per_inch = float(image.info.get("dpi", (0, 0))[0])
    return UM_PER_INCH / per_inch if per_inch > 0 else None
