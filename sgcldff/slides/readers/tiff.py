"""TIFF, pyramidal TIFF and OME-TIFF, read tile by tile with tifffile."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, PHOTOMETRIC, PLANARCONFIG, RESUNIT, TiffFile, TiffPage, TiffPageSeries

from sgcldff.core.arrays import Rgb
from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError, SlideError
from sgcldff.core.geometry import Box
from sgcldff.slides.pixels.base import Picture, pyramid, require_decodable
from sgcldff.slides.pixels.channels import SILENT, rgb_order
from sgcldff.slides.pixels.ome_xml import OmeImage
from sgcldff.slides.pixels.orientation import Orientation
from sgcldff.slides.pixels.page_selection import ANY_PLANE, Plane
from sgcldff.slides.pixels.samples import Alpha, Colours, Samples
from sgcldff.slides.pixels.units import Spacing, in_um, square_mpp
from sgcldff.slides.readers.tiff_series import Pages, choose_pages

TABLES = ("the TIFF's tables cannot be read", "export it again")
"""Complaint and remedy about a TIFF that is only checked; readers report what they cannot read."""
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
MICRONS = {RESUNIT.CENTIMETER: 1e4, RESUNIT.INCH: 25400.0, RESUNIT.MILLIMETER: 1e3, RESUNIT.MICROMETER: 1.0}
JPEGS = (COMPRESSION.OJPEG, COMPRESSION.JPEG, COMPRESSION.JPEG_LOSSY, COMPRESSION.ALT_JPEG)
"""Compressions whose decoder converts YCbCr to RGB."""
PHOTOMETRIC_COLOURS = {
    PHOTOMETRIC.RGB: (Colours.RGB, 3),
    PHOTOMETRIC.YCBCR: (Colours.YCBCR, 3),
    PHOTOMETRIC.SEPARATED: (Colours.CMYK, 4),
    PHOTOMETRIC.PALETTE: (Colours.PALETTE, 1),
    PHOTOMETRIC.MINISBLACK: (Colours.GREY, 1),
    PHOTOMETRIC.MINISWHITE: (Colours.WHITE_IS_ZERO, 1),
}
"""Photometric interpretation -> colour model and number of samples."""
EXTRA_SAMPLES = {1: Alpha.PREMULTIPLIED, 2: Alpha.STRAIGHT}
"""Types of extra samples that are an opacity."""
ORIENTATION, MAX_VALUE, INK_SET, COEFFICIENTS, REFERENCE = 274, 281, 332, 529, 532
"""Tag numbers."""
CMYK_INKS = 1
JFIF = {COEFFICIENTS: (0.299, 0.587, 0.114), REFERENCE: (0, 255, 128, 255, 128, 255)}
"""The supported YCbCr conversion; other values of these tags are refused."""
CHECKED_PX = 1024
"""Side of the part of the coarsest level that is checked when a file is opened."""


def is_tiff(path: Path) -> bool:
    """Return whether a file starts like a TIFF or BigTIFF."""
    with path.open("rb") as file:
        return file.read(4) in MAGIC


def require_complete(path: Path) -> None:
    """Check that a TIFF contains all data that its tables refer to.

    Raises
    ------
    SlideError
        If the file is too short.
    """
    ends = [0]
    with suppress(InputError), reading(path, *TABLES), TiffFile(path) as tiff:
        ends += [end for series in tiff.series for level in series.levels for end in _ends(level)]
    size = path.stat().st_size  # tables that tifffile cannot read are reported by the reader
    if max(ends) > size:
        raise SlideError(f"{path}: is truncated: {size} bytes, but its data end at {max(ends)}; copy it again")


def _ends(level: TiffPageSeries) -> Iterator[int]:
    for page in level.pages:
        if page is not None and page.dataoffsets:
            yield max(start + count for start, count in zip(page.dataoffsets, page.databytecounts, strict=True))


class TiffPicture(Picture):
    """A picture in a TIFF. File access is serialised by a lock, decoding is not.

    Parameters
    ----------
    plane
        The selected page and focal plane.
    colour
        Whether to refuse everything but colour images; masks may be of any kind.
    """

    def __init__(self, path: Path, plane: Plane = ANY_PLANE, *, colour: bool = True) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._tiff = TiffFile(path)
        try:
            self._open(plane, colour)
            if colour:
                self._samples.require_light(path, self._peek())
        except BaseException:
            self._tiff.close()
            raise

    def _open(self, plane: Plane, colour: bool) -> None:
        levels, ome = choose_pages(self._path, self._tiff, plane)
        first = levels[0]
        require_decodable(self._path, (page.chunks for pages in levels for page in pages))
        channels = sum(page.samplesperpixel for page in first)
        self._samples = _samples(self._path, first, ome, colour)
        if colour:
            description = f"{first[0].dtype}, {channels} channel(s), {PHOTOMETRIC(first[0].photometric).name}"
            self._samples.require_colour(self._path, description)
            self.mpp = square_mpp(self._path, _spacing(self._tiff, ome, first[0]))
        alike = [pages for pages in levels if _kind(pages) == _kind(first)]
        shapes = [(pages[0].imagelength, pages[0].imagewidth) for pages in alike]
        kept = pyramid(shapes)
        self._levels = tuple(alike[at] for at in kept)
        self.shapes = tuple(shapes[at] for at in kept)
        self.orientation = orientation_of(first[0])
        self._paper = self._samples.paper(channels, colour)

    def pixels(self, box: Box, level: int) -> Rgb:
        """Read a box; missing tiles are white."""
        return self._samples.to_rgb(self._raw(box, level))

    def mask(self) -> NDArray[np.uint8]:
        """Read level 0 as the values of a mask, (H, W); missing tiles are 0."""
        return self._samples.to_mask(self._raw(Box.of(self.shapes[0]), 0))

    def _peek(self) -> NDArray[Any]:
        height, width = self.shapes[-1]
        middle = Box(height // 2, width // 2, height // 2, width // 2).grow(CHECKED_PX // 2).clip(self.shapes[-1])
        return self._raw(middle, len(self.shapes) - 1)

    def _raw(self, box: Box, level: int) -> NDArray[Any]:
        """Read the samples of a box, (height, width, samples)."""
        out = np.empty((*box.shape, len(self._paper)), self._paper.dtype)
        out[:] = self._paper if np.ptp(self._paper) else self._paper[0]  # one value is written much faster
        at = 0
        for page in self._levels[level]:
            self._fill(out[..., at : at + page.samplesperpixel], page, box)
            at += page.samplesperpixel
        return out

    def _fill(self, out: NDArray[Any], page: TiffPage, box: Box) -> None:
        for data, index in self._segments(page, box):
            segment, (plane, _, y, x, _), (_, height, width, _) = page.decode(
                data, index, jpegtables=page.jpegtables, jpegheader=page.jpegheader
            )
            if segment is None:
                continue
            extent = Box(y, x, y + height, x + width)
            shared = extent.overlap(box)
            separate = page.planarconfig == PLANARCONFIG.SEPARATE and page.samplesperpixel > 1
            target = out[..., plane : plane + 1] if separate else out
            target[shared.within(box).slices] = segment[0][shared.within(extent).slices]

    def _segments(self, page: TiffPage, box: Box) -> Iterator[tuple[bytes | None, int]]:
        indices = [index for index in _touched(page, box) if page.databytecounts[index]]
        offsets, counts = ([table[index] for index in indices] for table in (page.dataoffsets, page.databytecounts))
        with self._lock:
            yield from list(page.parent.filehandle.read_segments(offsets, counts, indices=indices))

    def close(self) -> None:
        """Close the file."""
        self._tiff.close()


def orientation_of(page: TiffPage) -> Orientation:
    """Return the orientation of a page."""
    return Orientation.of(_tag(page, ORIENTATION))


def is_grey(page: TiffPage) -> bool:
    """Return whether a page has no colours."""
    return PHOTOMETRIC_COLOURS.get(page.photometric, (Colours.OTHER, 0))[0] in (Colours.GREY, Colours.WHITE_IS_ZERO)


def _tag(page: TiffPage, number: int) -> Any:
    """Return a tag's value, the first if it is repeated; None if it is missing."""
    tag = page.tags.get(number)
    return None if tag is None else tag.value


def _kind(pages: Pages) -> tuple[object, ...]:
    """Return the properties that all levels of a picture share."""
    return tuple((page.dtype, page.photometric, page.samplesperpixel, page.bitspersample) for page in pages)


def _samples(path: Path, pages: Pages, ome: OmeImage, colour: bool) -> Samples:
    """Determine the meaning of the samples of a pixel.

    Raises
    ------
    SlideError
        If a colour image is required and the channels are not red, green and blue.
    """
    first, count = pages[0], sum(page.samplesperpixel for page in pages)
    colours, size = _colours(first)
    bits = _bits(first, ome)
    dtype = np.dtype(np.uint8) if first.dtype == np.bool_ else np.dtype(first.dtype)
    named = len(ome.channels) == count > 1 and not all(map(SILENT.fullmatch, ome.channels))
    if colour and (len(pages) > 1 or named or ome.fluorescent):
        names = ome.channels if len(ome.channels) == count else ("",) * count
        order = None if ome.fluorescent else rgb_order(names)
        if order is None:
            listed = ", ".join(name or "unnamed" for name in (ome.channels or names))
            raise SlideError(
                f"{path}: its {count} channels ({listed}) are no brightfield red, green and blue; export a brightfield"
                " image as 8-bit RGB"
            )
        alpha = Alpha.NONE if order[1] is None else Alpha.STRAIGHT
        at = -1 if order[1] is None else order[1]
        return Samples(Colours.RGB, dtype, bits, order[0], alpha, at, by_channel=True)
    extra = [EXTRA_SAMPLES.get(int(kind), Alpha.NONE) for kind in first.extrasamples]
    alpha_at = next((at for at, kind in enumerate(extra) if kind is not Alpha.NONE), None)
    alpha = Alpha.NONE if alpha_at is None else extra[alpha_at]
    opacity_at = -1 if alpha_at is None else size + alpha_at
    palette = None
    if colours is Colours.PALETTE:  # stored with 16 bits
        palette = (np.asarray(first.colormap).T[:, None] >> 8).astype(np.uint8)
    return Samples(colours, dtype, bits, tuple(range(size)), alpha, opacity_at, palette)


def _colours(page: TiffPage) -> tuple[Colours, int]:
    """Return the colour model of decoded samples, and the number of its samples."""
    colours, size = PHOTOMETRIC_COLOURS.get(page.photometric, (Colours.OTHER, 1))
    jpeg = page.compression in JPEGS
    unsupported = page.samplesperpixel < size or (colours is Colours.CMYK and jpeg)
    unsupported |= colours is Colours.CMYK and _tag(page, INK_SET) not in (None, CMYK_INKS)
    if colours is Colours.YCBCR and not jpeg:
        tags = {number: _tag(page, number) for number in JFIF}
        unsupported |= page.is_subsampled or any(
            value is not None and not np.allclose(_numbers(value, len(JFIF[number])), JFIF[number], atol=1e-3)
            for number, value in tags.items()
        )
    if unsupported:
        return Colours.OTHER, min(size, page.samplesperpixel)
    return (Colours.RGB if colours is Colours.YCBCR and jpeg else colours), size


def _numbers(value: Any, count: int) -> NDArray[np.float64]:
    """Convert a tag's value to `count` numbers; tifffile returns rationals as flat pairs."""
    flat = np.asarray(value, np.float64).ravel()
    return flat[0::2] / np.maximum(flat[1::2], 1) if len(flat) == 2 * count else flat


def _bits(page: TiffPage, ome: OmeImage) -> int:
    """Return the declared significant bits of a sample."""
    stored = int(page.bitspersample) if isinstance(page.bitspersample, int) else 8 * page.dtype.itemsize
    top = _tag(page, MAX_VALUE)
    top = top[0] if isinstance(top, tuple) else top
    declared = ome.bits or (int(top).bit_length() if top and int(top) & (int(top) + 1) == 0 else stored)
    return declared if stored > 8 and 8 < declared < stored else stored


def _spacing(tiff: TiffFile, ome: OmeImage, page: TiffPage) -> Spacing:
    """Read um/px along y and x from OME-XML, ImageJ's metadata, or the resolution tags if their unit is a length."""
    if any(ome.spacing):
        return ome.spacing
    unit = (tiff.imagej_metadata or {}).get("unit")
    per_unit = in_um(1, unit) if isinstance(unit, str) else MICRONS.get(page.resolutionunit)
    across, down = page.resolution
    return (per_unit / down, per_unit / across) if per_unit and down > 0 and across > 0 else (None, None)


def _touched(page: TiffPage, box: Box) -> Iterator[int]:
    """Yield the indices of the tiles or strips that overlap a box."""
    tall = page.tilelength or min(page.rowsperstrip, page.imagelength)
    wide = page.tilewidth or page.imagewidth
    down, across = -(-page.imagelength // tall), -(-page.imagewidth // wide)
    planes = page.samplesperpixel if page.planarconfig == PLANARCONFIG.SEPARATE else 1
    for plane in range(planes):
        for row in range(box.y0 // tall, -(-box.y1 // tall)):
            for column in range(box.x0 // wide, -(-box.x1 // wide)):
                yield (plane * down + row) * across + column
