"""Opening of slides with the reader for their file format."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import numpy as np

from sgcldff.core.arrays import Rgb
from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError, MissingInputError, SlideError
from sgcldff.core.geometry import Box, Shape
from sgcldff.core.locations import is_remote, local_path, shown
from sgcldff.core.records import ScaleSource, SlideRef
from sgcldff.core.settings import AUTO_MPP, MAX_MPP, MIN_MPP, StatedMpp, require
from sgcldff.slides.base import downsample, white
from sgcldff.slides.content import content_sha256, is_zarr, plane_sha256, slide_id
from sgcldff.slides.pixels.base import Picture
from sgcldff.slides.pixels.page_selection import Plane, split_plane
from sgcldff.slides.readers.ome_zarr import NgffPicture, zip_root
from sgcldff.slides.readers.openslide import VendorPicture, is_vendor
from sgcldff.slides.readers.pillow import PlainPicture
from sgcldff.slides.readers.tiff import TiffPicture, is_tiff, require_complete
from sgcldff.slides.red_cells import FEWEST_CELLS, fields_of, measure_scale
from sgcldff.slides.remote.cache import LocalCopy, local_copy, slide_file

REMEDY = (
    "copy or export the slide again, in a format of OpenSlide, as TIFF or OME-TIFF, OME-Zarr folder or ZIP file, PNG,"
    " JPEG or BMP"
)
MAX_SIDE_UM = 2e5
"""Longest side of a slide: two glass slides of 76 mm, and some."""


class OpenedSlide:
    """A `SlideSource` over any file format: the stored picture, turned upright."""

    def __init__(self, ref: SlideRef, picture: Picture, copy: LocalCopy) -> None:
        self._ref = ref
        self._picture = picture
        self._copy = copy
        self._shapes = _upright_shapes(picture)
        self._downsamples = tuple(downsample(ref.shape, shape) for shape in self._shapes)

    @property
    def ref(self) -> SlideRef:
        """Identity, location and properties of the slide."""
        return self._ref

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """(height, width) of each level, px."""
        return self._shapes

    @property
    def downsamples(self) -> tuple[float, ...]:
        """Pixels of level 0 per pixel of each level; the first is 1."""
        return self._downsamples

    def read(self, box: Box, level: int) -> Rgb:
        """Read a box in px of `level`: uint8 (height, width, 3); white outside the slide.

        Raises
        ------
        SlideError
            If the file is damaged there.
        """
        inside = box.clip(self._shapes[level])
        if inside == box and 0 not in box.shape:
            return self._upright(box, level)
        image = white(box.shape)
        if 0 not in inside.shape:
            image[inside.within(box).slices] = self._upright(inside, level)
        return image

    def _upright(self, box: Box, level: int) -> Rgb:
        orientation = self._picture.orientation
        with reading(shown(self._ref.uri), f"level {level}, {box} cannot be read", "copy the slide again", SlideError):
            stored = self._picture.pixels(orientation.stored(box, self._shapes[level]), level)
        return np.ascontiguousarray(orientation.upright(stored))

    def close(self) -> None:
        """Close the file, and release its copy if it came from a remote store."""
        self._picture.close()
        self._copy.close()

    def __reduce__(self) -> tuple[object, ...]:
        return reopen, (self._ref,)


def open_slide(
    path: str | Path, mpp: StatedMpp = None, name: str | None = None, sha256: str | None = None
) -> OpenedSlide:
    """Open a slide and hash its content.

    Parameters
    ----------
    path
        A file, an OME-Zarr folder, or the URL of one in a remote store, which is then copied to this machine; ending
        with `#page=2` or `#z=5` for a page or focal plane.
    mpp
        um/px of level 0; overrides the metadata. "auto" measures it by the red cells where the metadata do not say it.
    name
        Id of the slide; by default its file name without extension.
    sha256
        Hash of its content, if known, so that it is not computed again.

    Raises
    ------
    MissingInputError
        If there is nothing at `path`.
    SlideError
        If no reader can open it, it is truncated, is not brightfield RGB, contains several pictures of which none was
        named, its pixels are not square, or neither `mpp` nor the metadata provide its scale, nor, with "auto", its
        red cells.
    ServiceError
        If the store does not answer.
    """
    location, plane = split_plane(str(path))
    location = location if is_remote(location) else str(local_path(location))
    uri = f"{location}{plane}"
    allowed = mpp is None or mpp == AUTO_MPP or MIN_MPP <= mpp <= MAX_MPP
    require(allowed, f"{shown(uri)}: mpp is {mpp}; give {MIN_MPP} to {MAX_MPP} um/px, or {AUTO_MPP}")
    copy = local_copy(location)
    picture = _open_picture(copy, uri, plane)
    shapes = _upright_shapes(picture)
    try:
        with _errors_of(copy, uri):
            scale, scale_from = _scale(shown(uri), picture, mpp)
            _require_fits_glass(shown(uri), shapes[0], scale)
            content = sha256 or plane_sha256(copy.sha256 or content_sha256(copy.path), plane)
    except InputError:
        picture.close()
        raise
    ref = SlideRef(
        id=name or slide_id(PurePosixPath(slide_file(uri))),
        uri=uri,
        sha256=content,
        mpp=scale,
        shape=shapes[0],
        levels=len(shapes),
        orientation=picture.orientation.number,
        scale_from=scale_from,
    )
    return OpenedSlide(ref, picture, copy)


def reopen(ref: SlideRef) -> OpenedSlide:
    """Open a known slide without hashing it again; a remote one may have to be copied.

    Raises
    ------
    SlideError
        If the slide no longer matches `ref`.
    """
    location, plane = split_plane(ref.uri)
    copy = local_copy(location)
    picture = _open_picture(copy, ref.uri, plane)
    shapes = _upright_shapes(picture)
    if (shapes[0], len(shapes), picture.orientation.number) != (ref.shape, ref.levels, ref.orientation):
        raise SlideError(f"{shown(ref.uri)}: changed while it was read: now {shapes[0]} px, was {ref.shape}; run again")
    if copy.sha256 is not None and plane_sha256(copy.sha256, plane) != ref.sha256:
        raise SlideError(f"{shown(ref.uri)}: changed while it was read: its content differs; run again")
    return OpenedSlide(ref, picture, copy)


def _scale(name: str, picture: Picture, mpp: StatedMpp) -> tuple[float, ScaleSource]:
    """Return the scale of a slide, um/px, and where it comes from.

    Raises
    ------
    SlideError
        If it has none; says what its red cells suggest.
    """
    if mpp is not None and mpp != AUTO_MPP:
        return mpp, ScaleSource.USER
    if picture.mpp is not None:
        return picture.mpp, ScaleSource.FILE
    suggested = measure_scale(fields_of(picture.pixels, picture.shapes))
    silent = f"{name}: its metadata give no microns per pixel"
    if mpp is None and suggested is not None:
        raise SlideError(f"{silent}; red cells suggest {suggested}: pass --mpp {suggested.mpp:.3g} or --mpp {AUTO_MPP}")
    if mpp is None:
        raise SlideError(f"{silent}; pass them with --mpp (0.25 at 40x, 0.1 at 100x)")
    if suggested is None:
        raise SlideError(
            f"{silent}, and fewer than {FEWEST_CELLS} single red cells were found to measure them by; pass them with"
            " --mpp (0.25 at 40x, 0.1 at 100x)"
        )
    return float(f"{suggested.mpp:.3g}"), ScaleSource.RED_CELLS


def _require_fits_glass(name: str, shape: Shape, mpp: float) -> None:
    if max(shape) * mpp > MAX_SIDE_UM:
        raise SlideError(
            f"{name}: claims {shape[1]} x {shape[0]} px of {mpp:g} um, more than the {MAX_SIDE_UM / 1e4:.0f} cm of a"
            " slide; correct its scale, or export it again"
        )


def _upright_shapes(picture: Picture) -> tuple[Shape, ...]:
    return tuple(picture.orientation.shape(shape) for shape in picture.shapes)


def _open_picture(copy: LocalCopy, uri: str, plane: Plane) -> Picture:
    """Open a slide with the reader for its format."""
    with _errors_of(copy, uri):
        return _reader(copy.path, plane)


@contextmanager
def _errors_of(copy: LocalCopy, uri: str) -> Iterator[None]:
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
    if is_vendor(path):
        return VendorPicture(path, plane)
    if is_tiff(path):
        return TiffPicture(path, plane)
    return PlainPicture(path, plane)
