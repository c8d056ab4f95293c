"""Opening of slides with the reader for their file format."""

from collections.abc import Callable
from functools import cache
from pathlib import Path, PurePosixPath

import numpy as np

from sgcldff.core.arrays import Rgb
from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError, SlideError
from sgcldff.core.geometry import Box, Shape
from sgcldff.core.locations import is_remote, local_path, shown
from sgcldff.core.records import ScaleSource, SlideRef
from sgcldff.core.settings import AUTO_MPP, MAX_MPP, MIN_MPP, StatedMpp, require
from sgcldff.slides.base import downsample, white
from sgcldff.slides.content import content_sha256, plane_sha256, slide_id
from sgcldff.slides.pictures import errors_of, open_picture
from sgcldff.slides.pixels.base import Picture
from sgcldff.slides.pixels.page_selection import split_plane
from sgcldff.slides.red_cells import FEWEST_RED_CELLS, RedCellScale
from sgcldff.slides.remote.cache import LocalCopy, local_copy, slide_file
from sgcldff.slides.scale_group import ScaleGroup

MeasureScale = Callable[[], RedCellScale | None]
"""Measures a slide's scale by red cells, once."""
MAX_SIDE_UM = 2e5
"""Longest side of a slide: two glass slides of 76 mm, and some."""


class OpenedSlide:
    """A `SlideSource` over any file format: the stored picture, turned upright."""

    def __init__(self, ref: SlideRef, picture: Picture, copy: LocalCopy, red_cells: MeasureScale) -> None:
        self._ref = ref
        self._picture = picture
        self._copy = copy
        self._red_cells = red_cells
        self._shapes = _upright_shapes(picture)
        self._downsamples = tuple(downsample(ref.shape, shape) for shape in self._shapes)

    @property
    def ref(self) -> SlideRef:
        """Identity, location and properties of the slide."""
        return self._ref

    @property
    def file(self) -> Path:
        """The slide's file or folder on this machine."""
        return self._copy.path

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """(height, width) of each level, px."""
        return self._shapes

    @property
    def downsamples(self) -> tuple[float, ...]:
        """Pixels of level 0 per pixel of each level; the first is 1."""
        return self._downsamples

    @property
    def red_cells(self) -> RedCellScale | None:
        """The scale by red cells, measured when it is first asked for; None where too few were found.

        Raises
        ------
        SlideError
            If the file is damaged.
        """
        return self._red_cells()

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
    path: str | Path,
    mpp: StatedMpp = None,
    name: str | None = None,
    sha256: str | None = None,
    group: ScaleGroup | None = None,
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
    group
        Slides of the same scale, whose red cells are measured together with its own; by default it stands alone.

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
    picture = open_picture(copy, uri, plane)
    shapes, red_cells = _upright_shapes(picture), _red_cells(group or ScaleGroup(mpp, [uri]), uri, picture, copy)
    try:
        with errors_of(copy, uri):
            scale, scale_from = _scale(shown(uri), picture.mpp, mpp, red_cells)
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
    return OpenedSlide(ref, picture, copy, red_cells)


def reopen(ref: SlideRef) -> OpenedSlide:
    """Open a known slide without hashing it again; a remote one may have to be copied.

    Raises
    ------
    SlideError
        If the slide no longer matches `ref`.
    """
    location, plane = split_plane(ref.uri)
    copy = local_copy(location)
    picture = open_picture(copy, ref.uri, plane)
    shapes = _upright_shapes(picture)
    if (shapes[0], len(shapes), picture.orientation.number) != (ref.shape, ref.levels, ref.orientation):
        raise SlideError(f"{shown(ref.uri)}: changed while it was read: now {shapes[0]} px, was {ref.shape}; run again")
    if copy.sha256 is not None and plane_sha256(copy.sha256, plane) != ref.sha256:
        raise SlideError(f"{shown(ref.uri)}: changed while it was read: its content differs; run again")
    return OpenedSlide(ref, picture, copy, _red_cells(ScaleGroup(ref.mpp, [ref.uri]), ref.uri, picture, copy))


def _red_cells(group: ScaleGroup, uri: str, picture: Picture, copy: LocalCopy) -> MeasureScale:
    @cache
    def measured() -> RedCellScale | None:
        with errors_of(copy, uri):
            return group.measure(uri, picture)

    return measured


def _scale(name: str, stored: float | None, mpp: StatedMpp, red_cells: MeasureScale) -> tuple[float, ScaleSource]:
    """Return the scale of a slide, um/px, and where it comes from.

    Raises
    ------
    SlideError
        If it has none; says what its red cells suggest.
    """
    if mpp is not None and mpp != AUTO_MPP:
        return mpp, ScaleSource.USER
    if stored is not None:
        return stored, ScaleSource.FILE
    found = red_cells()
    suggested = found if found is not None and found.cells >= FEWEST_RED_CELLS else None
    silent = f"{name}: its metadata give no microns per pixel"
    if mpp is None and suggested is not None:
        raise SlideError(f"{silent}; red cells suggest {suggested}: pass --mpp {suggested.mpp:.3g} or --mpp {AUTO_MPP}")
    if mpp is None:
        raise SlideError(f"{silent}; pass them with --mpp (0.25 at 40x, 0.1 at 100x)")
    if suggested is None:
        raise SlideError(
            f"{silent}, and fewer than {FEWEST_RED_CELLS} single red cells of one size were found to measure them by;"
            " pass them with --mpp (0.25 at 40x, 0.1 at 100x)"
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
