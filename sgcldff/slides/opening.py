"""Choosing a reader by what a file holds, and naming what was opened."""

import hashlib
from pathlib import Path

from sgcldff.errors import MissingInputError, SlideError
from sgcldff.grid import Box, Shape
from sgcldff.images import Rgb, sha256_of
from sgcldff.records import SlideRef
from sgcldff.slides.ngff import NgffPixels
from sgcldff.slides.plain import PlainPixels
from sgcldff.slides.source import Pixels, downsample, white
from sgcldff.slides.tiff import TiffPixels, is_tiff, require_whole
from sgcldff.slides.vendor import VendorPixels, is_vendor
from sgcldff.specs import require

ZARR_FILES = ("zarr.json", ".zgroup", ".zattrs")


class OpenedSlide:
    """A `SlideSource` over any file format."""

    def __init__(self, ref: SlideRef, pixels: Pixels) -> None:
        self._ref = ref
        self._pixels = pixels
        self._downsamples = tuple(downsample(ref.shape, shape) for shape in pixels.shapes)

    @property
    def ref(self) -> SlideRef:
        """What the slide is and where."""
        return self._ref

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """(height, width) of each level, px."""
        return self._pixels.shapes

    @property
    def downsamples(self) -> tuple[float, ...]:
        """Pixels of level 0 per pixel of each level; the first is 1."""
        return self._downsamples

    def read(self, box: Box, level: int) -> Rgb:
        """Read a box in px of `level`: uint8 (height, width, 3); what lies outside the slide is white.

        Raises
        ------
        SlideError
            If the file is damaged there.
        """
        inside = box.clip(self._pixels.shapes[level])
        if inside == box and 0 not in box.shape:
            return self._pixels.pixels(box, level)
        image = white(box.shape)
        if 0 not in inside.shape:
            image[inside.within(box).slices] = self._pixels.pixels(inside, level)
        return image

    def close(self) -> None:
        """Let go of the file."""
        self._pixels.close()

    def __reduce__(self) -> tuple[object, ...]:
        return reopen, (self._ref,)


def open_slide(path: str | Path, mpp: float | None = None) -> OpenedSlide:
    """Open a slide and hash its content.

    Parameters
    ----------
    path
        A file, or an OME-Zarr folder.
    mpp
        um/px of level 0; overrides the metadata.

    Raises
    ------
    MissingInputError
        If there is nothing at `path`.
    SlideError
        If no reader opens it, it is truncated, or neither `mpp` nor the metadata give its scale.
    """
    place = Path(path)
    require(mpp is None or mpp > 0, f"{place}: mpp is {mpp}; give a positive number of um/px")
    pixels = _reader(place)
    scale = mpp or pixels.mpp
    if scale is None:
        pixels.close()
        raise SlideError(f"{place}: its metadata give no microns per pixel; pass them with --mpp (0.25 at 40x, say)")
    ref = SlideRef(slide_id(place), str(place), content_sha256(place), scale, pixels.shapes[0], len(pixels.shapes))
    return OpenedSlide(ref, pixels)


def reopen(ref: SlideRef) -> OpenedSlide:
    """Open a slide that is already known, without hashing it again.

    Raises
    ------
    SlideError
        If it is not the slide that `ref` describes any more.
    """
    pixels = _reader(Path(ref.uri))
    if (pixels.shapes[0], len(pixels.shapes)) != (ref.shape, ref.levels):
        raise SlideError(f"{ref.uri}: changed while it was read: now {pixels.shapes[0]} px, was {ref.shape}; run again")
    return OpenedSlide(ref, pixels)


def slide_id(path: Path) -> str:
    """Name a slide by its file, without extension ("a.b.ome.tif" -> "a.b")."""
    return path.stem.removesuffix(".ome")


def content_sha256(path: Path) -> str:
    """Hash a slide's content; for a folder (OME-Zarr, or the one beside a .mrxs file) its files in sorted order."""
    if path.suffix.lower() == ".mrxs" and path.with_suffix("").is_dir():
        return _joined([path, *_files(path.with_suffix(""))], path.parent)
    return _joined(_files(path), path) if path.is_dir() else sha256_of(path)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _joined(files: list[Path], root: Path) -> str:
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.relative_to(root).as_posix()}\0{sha256_of(file)}\n".encode())
    return total.hexdigest()


def _reader(path: Path) -> Pixels:
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise MissingInputError(f"{path}: no such slide")
    if path.stat().st_size == 0:
        raise SlideError(f"{path}: is empty; copy it again")
    if is_tiff(path):
        require_whole(path)
    if is_vendor(path):
        return VendorPixels(path)
    return TiffPixels(path) if is_tiff(path) else PlainPixels(path)


def _folder(path: Path) -> Pixels:
    if not any((path / name).is_file() for name in ZARR_FILES):
        raise SlideError(f"{path}: is a folder without Zarr metadata; name a slide file or an OME-Zarr folder")
    return NgffPixels(path)
