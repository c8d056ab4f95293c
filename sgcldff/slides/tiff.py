"""TIFF, pyramidal TIFF and OME-TIFF, read tile by tile with tifffile."""

import threading
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG, RESUNIT, TiffFile, TiffFileError, TiffPage, TiffPageSeries

from sgcldff.errors import SlideError
from sgcldff.grid import Box
from sgcldff.images import Rgb
from sgcldff.slides.source import Pixels, damage_reported, plausible, white
from sgcldff.slides.units import in_um

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
UNREADABLE = (TiffFileError, OSError, ValueError, RuntimeError, IndexError, KeyError, TypeError)
"""What tifffile and its codecs (all of whose errors are RuntimeErrors) raise on damaged files."""
MICRONS = {RESUNIT.CENTIMETER: 1e4, RESUNIT.INCH: 25400.0, RESUNIT.MILLIMETER: 1e3, RESUNIT.MICROMETER: 1.0}


def is_tiff(path: Path) -> bool:
    """Tell whether a file begins like a TIFF or BigTIFF."""
    with path.open("rb") as file:
        return file.read(4) in MAGIC


def require_whole(path: Path) -> None:
    """Check that a TIFF's tables point into the file.

    Raises
    ------
    SlideError
        If the file ends before its data do.
    """
    try:
        with TiffFile(path) as tiff:
            ends = [end for series in tiff.series for level in series.levels for end in _ends(level)]
    except UNREADABLE:
        return  # a table that tifffile cannot follow is for OpenSlide to judge
    size = path.stat().st_size
    if max(ends, default=0) > size:
        raise SlideError(f"{path}: is truncated: {size} bytes, but its data end at {max(ends)}; copy it again")


def _ends(level: TiffPageSeries) -> Iterator[int]:
    for page in level.pages:
        if page is not None and page.dataoffsets:
            yield max(start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))


class TiffPixels(Pixels):
    """A TIFF whose first series is 8-bit RGB. Reads of the file are serialised by a lock, decoding is not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        with damage_reported(path, UNREADABLE, "the TIFF's tables"):
            self._tiff = TiffFile(path)
            self._levels = tuple(_planes(level) for level in self._tiff.series[0].levels)
        for planes in self._levels:
            self._require_rgb(planes)
        self.shapes = tuple((planes[0].imagelength, planes[0].imagewidth) for planes in self._levels)
        self.mpp = plausible(_ome_mpp(self._tiff.ome_metadata) or _tag_mpp(self._levels[0][0]))

    def _require_rgb(self, planes: tuple[TiffPage, ...]) -> None:
        first = planes[0]
        samples = first.samplesperpixel if len(planes) == 1 else len(planes)
        coded = first.photometric == PHOTOMETRIC.YCBCR and first.compression != COMPRESSION.JPEG
        known = first.photometric in (PHOTOMETRIC.RGB, PHOTOMETRIC.YCBCR) or len(planes) == 3
        if first.dtype != np.uint8 or samples not in (3, 4) or coded or not known:
            found = f"{first.dtype}, {samples} channel(s), {PHOTOMETRIC(first.photometric).name}"
            raise SlideError(f"{self._path}: is no 8-bit RGB image ({found}); export it as 8-bit RGB")

    def pixels(self, box: Box, level: int) -> Rgb:
        """Read a box; tiles that the file leaves out are white."""
        planes = self._levels[level]
        with damage_reported(self._path, UNREADABLE, f"level {level}, {box}"):
            if len(planes) == 1:
                return self._page(planes[0], box, 3)
            return np.concatenate([self._page(plane, box, 1) for plane in planes[:3]], axis=-1)

    def _page(self, page: TiffPage, box: Box, channels: int) -> NDArray[np.uint8]:
        out = white(box.shape)[..., :channels].copy()
        for data, index in self._segments(page, box):
            segment, (plane, _, y, x, _), (_, height, width, _) = page.decode(
                data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader
            )
            place = Box(y, x, y + height, x + width)
            shared = place.overlap(box)
            if segment is None or plane >= channels:
                continue
            part = segment[0][shared.within(place).slices]
            separate = page.planarconfig == PLANARCONFIG.SEPARATE and channels > 1
            target = out[..., plane : plane + 1] if separate else out
            target[shared.within(box).slices] = part[..., : target.shape[-1]]
        return out

    def _segments(self, page: TiffPage, box: Box) -> Iterator[tuple[bytes | None, int]]:
        indices = [index for index in _touched(page, box) if page.databytecounts[index]]
        offsets, counts = ([table[index] for index in indices] for table in (page.dataoffsets, page.databytecounts))
        with self._lock:
            yield from list(page.parent.filehandle.read_segments(offsets, counts, indices=indices))

    def close(self) -> None:
        """Let go of the file."""
        self._tiff.close()


def _planes(level: TiffPageSeries) -> tuple[TiffPage, ...]:
    pages = tuple(page.aspage() for page in level.pages if page is not None)
    if len(pages) not in (1, 3):
        raise TiffFileError(f"{len(pages)} planes where 1 or 3 make an RGB image")
    return pages


def _touched(page: TiffPage, box: Box) -> Iterator[int]:
    tall = page.tilelength or min(page.rowsperstrip, page.imagelength)
    wide = page.tilewidth or page.imagewidth
    down, across = -(-page.imagelength // tall), -(-page.imagewidth // wide)
    planes = page.samplesperpixel if page.planarconfig == PLANARCONFIG.SEPARATE else 1
    for plane in range(planes):
        for row in range(box.y0 // tall, -(-box.y1 // tall)):
            for column in range(box.x0 // wide, -(-box.x1 // wide)):
                yield (plane * down + row) * across + column


def _tag_mpp(page: TiffPage) -> float | None:
    """Read um/px from the resolution tags, whose unit must be a length."""
    unit, (per_unit, _) = page.resolutionunit, page.resolution
    return MICRONS[unit] / per_unit if unit in MICRONS and per_unit > 0 else None


def _ome_mpp(xml: str | None) -> float | None:
    if not xml:
        return None
    pixels = ET.fromstring(xml).find(".//{*}Pixels")  # noqa: S314  expat itself bounds the growth of entities
    size = None if pixels is None else pixels.get("PhysicalSizeX")
    return None if pixels is None or size is None else in_um(float(size), pixels.get("PhysicalSizeXUnit", "µm"))
