"""Opening of pictures with the reader for their file format."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError, MissingInputError, SlideError
from sgcldff.core.locations import shown
from sgcldff.slides.content import is_zarr
from sgcldff.slides.pixels.base import Picture
from sgcldff.slides.pixels.page_selection import Plane
from sgcldff.slides.readers.czi import CziPicture, is_czi
from sgcldff.slides.readers.ome_zarr import NgffPicture, zip_root
from sgcldff.slides.readers.openslide import VendorPicture, is_vendor
from sgcldff.slides.readers.pillow import PlainPicture
from sgcldff.slides.readers.tiff import TiffPicture, is_tiff, require_complete
from sgcldff.slides.remote.cache import LocalCopy

REMEDY = (
    "copy or export the slide again, in a format of OpenSlide, as TIFF or OME-TIFF, OME-Zarr folder or ZIP file, PNG,"
    " JPEG or BMP"
)


def open_picture(copy: LocalCopy, uri: str, plane: Plane) -> Picture:
    """Open a slide with the reader for its format."""
    with errors_of(copy, uri):
        return _reader(copy.path, plane)


@contextmanager
def errors_of(copy: LocalCopy, uri: str) -> Iterator[None]:
    """Make errors name the original slide instead of its copy."""
    try:
        with reading(copy.path, "no reader opens it", REMEDY, SlideError):
            yield
    except MissingInputError:
        raise
    except InputError as error:
        raise SlideError(str(error).replace(str(copy.path), shown(uri))) from error.__cause__


def _reader(path: Path, plane: Plane) -> Picture:
    if path.is_dir() and not is_zarr([file.name for file in path.iterdir()]):
        raise SlideError(f"{path}: is a folder without Zarr metadata; name a slide file or an OME-Zarr folder")
    if path.is_dir() or (path.is_file() and zip_root(path) is not None):
        return NgffPicture(path, plane)
    if not path.is_file():
        raise MissingInputError(f"{path}: no such slide")
    if path.stat().st_size == 0:
        raise SlideError(f"{path}: is empty; copy it again")
    if is_tiff(path):
        require_complete(path)
    if is_czi(path):
        return CziPicture(path, plane)
    if is_vendor(path):
        return VendorPicture(path, plane)
    if is_tiff(path):
        return TiffPicture(path, plane)
    return PlainPicture(path, plane)
