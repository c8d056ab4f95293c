"""DICOM slides: series of files in one folder, one or more for each level."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError

if TYPE_CHECKING:
    from pydicom import Dataset

EXTENSION = ".dcm"
IDENTITY = ["SOPClassUID", "SeriesInstanceUID"]
SIZE = ["ImageType", "TotalPixelMatrixRows", "TotalPixelMatrixColumns"]
SLIDE_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
"""UID of VL Whole Slide Microscopy Image Storage."""
DAMAGED = ("is no DICOM file", "copy it again")


class Series(NamedTuple):
    """What a DICOM file belongs to."""

    uid: str
    is_slide: bool
    """Whether it holds whole-slide images, rather than annotations or a report."""


def series_of(file: Path) -> Series | None:
    """Return the series of a file; None if it is no DICOM."""
    from pydicom import dcmread  # takes long to import, and few slides are DICOM

    with suppress(InputError), reading(file, *DAMAGED):
        header = dcmread(file, stop_before_pixels=True, specific_tags=IDENTITY)
        return Series(str(header.SeriesInstanceUID), header.SOPClassUID == SLIDE_CLASS)
    return None


def series_files(file: Path) -> list[Path]:
    """List the files of a slide's series, which lie in its folder, by name; only the file itself if it is no slide."""
    series = series_of(file)
    if series is None or not series.is_slide:
        return [file]
    return sorted(one for one in file.parent.iterdir() if one.is_file() and series_of(one) == series)


def finest_header(file: Path) -> "Dataset":
    """Read all about a slide's finest level except pixels, colour profile and the places of tiles.

    Raises
    ------
    InputError
        If the file is no slide in DICOM, or damaged.
    """
    from pydicom import dcmread

    if (series := series_of(file)) is None or not series.is_slide:
        raise InputError(f"{file}: is no DICOM slide")
    with reading(file, *DAMAGED):
        sizes = {one: dcmread(one, stop_before_pixels=True, specific_tags=SIZE) for one in series_files(file)}
        levels = [one for one, size in sizes.items() if size.ImageType[2] == "VOLUME"]
        finest = max(levels, key=lambda one: sizes[one].TotalPixelMatrixRows * sizes[one].TotalPixelMatrixColumns)
        header = dcmread(finest, stop_before_pixels=True)
    for bulky in ("PerFrameFunctionalGroupsSequence", "OpticalPathSequence"):
        if bulky in header:
            del header[bulky]
    return header
