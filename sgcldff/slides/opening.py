"""Choosing a reader by what a file holds, and naming what was opened."""

from pathlib import Path, PurePosixPath

from sgcldff.addresses import is_remote, local_path, shown
from sgcldff.errors import MissingInputError, SlideError
from sgcldff.grid import Box, Shape
from sgcldff.images import Rgb
from sgcldff.records import SlideRef
from sgcldff.slides.content import content_sha256, is_zarr, slide_id
from sgcldff.slides.ngff import NgffPixels
from sgcldff.slides.plain import PlainPixels
from sgcldff.slides.remote import LocalCopy, local_copy, slide_file
from sgcldff.slides.source import Pixels, downsample, white
from sgcldff.slides.tiff import TiffPixels, is_tiff, require_whole
from sgcldff.slides.vendor import VendorPixels, is_vendor
from sgcldff.specs import require


class OpenedSlide:
    """A `SlideSource` over any file format."""

    def __init__(self, ref: SlideRef, pixels: Pixels, copy: LocalCopy) -> None:
        self._ref = ref
        self._pixels = pixels
        self._copy = copy
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
        """Let go of the file, and of its copy if it came from a store."""
        self._pixels.close()
        self._copy.close()

    def __reduce__(self) -> tuple[object, ...]:
        return reopen, (self._ref,)


def open_slide(
    path: str | Path, mpp: float | None = None, name: str | None = None, sha256: str | None = None
) -> OpenedSlide:
    """Open a slide and hash its content.

    Parameters
    ----------
    path
        A file, an OME-Zarr folder, or the URL of one in a store, of which this machine then makes a copy.
    mpp
        um/px of level 0; overrides the metadata.
    name
        Id of the slide; by default its file's name without extension.
    sha256
        Of its content, where it is known: it is not hashed again.

    Raises
    ------
    MissingInputError
        If there is nothing at `path`.
    SlideError
        If no reader opens it, it is truncated, or neither `mpp` nor the metadata give its scale.
    ServiceError
        If the store does not answer.
    """
    uri = str(path) if is_remote(str(path)) else str(local_path(str(path)))
    require(mpp is None or mpp > 0, f"{shown(uri)}: mpp is {mpp}; give a positive number of um/px")
    copy = local_copy(uri)
    pixels = _pixels(copy, uri)
    scale = mpp or pixels.mpp
    if scale is None:
        pixels.close()
        raise SlideError(
            f"{shown(uri)}: its metadata give no microns per pixel; pass them with --mpp (0.25 at 40x, say)"
        )
    content = sha256 or copy.sha256 or content_sha256(copy.path)
    named = name or slide_id(PurePosixPath(slide_file(uri)))
    return OpenedSlide(SlideRef(named, uri, content, scale, pixels.shapes[0], len(pixels.shapes)), pixels, copy)


def reopen(ref: SlideRef) -> OpenedSlide:
    """Open a slide that is already known, without hashing it again; one in a store may be copied for that.

    Raises
    ------
    SlideError
        If it is not the slide that `ref` describes any more.
    """
    copy = local_copy(ref.uri)
    pixels = _pixels(copy, ref.uri)
    if (pixels.shapes[0], len(pixels.shapes)) != (ref.shape, ref.levels):
        raise SlideError(
            f"{shown(ref.uri)}: changed while it was read: now {pixels.shapes[0]} px, was {ref.shape}; run again"
        )
    if copy.sha256 not in (None, ref.sha256):
        raise SlideError(f"{shown(ref.uri)}: changed while it was read: its content is another; run again")
    return OpenedSlide(ref, pixels, copy)


def _pixels(copy: LocalCopy, uri: str) -> Pixels:
    """Choose a reader; what is wrong with a copy is told of the slide that was named."""
    try:
        return _reader(copy.path)
    except SlideError as error:
        raise SlideError(str(error).replace(str(copy.path), shown(uri))) from error.__cause__


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
    if not is_zarr([file.name for file in path.iterdir()]):
        raise SlideError(f"{path}: is a folder without Zarr metadata; name a slide file or an OME-Zarr folder")
    return NgffPixels(path)
