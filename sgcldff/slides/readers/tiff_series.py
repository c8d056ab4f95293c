"""Series of TIFF pages, and the pages that make up a picture, by the names of their axes."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tifffile import TiffFile, TiffPage, TiffPageSeries

from sgcldff.core.errors import SlideError
from sgcldff.slides.pixels.ome_xml import OmeImage, ome_images
from sgcldff.slides.pixels.page_selection import PictureCandidate, Plane, choose_focus, choose_picture, has_role

REDUCED, MASK = 1, 4
"""Bits of a page's subfile type."""
PAGE_NAME = 285
"""Tag number."""
MAX_DESCRIBED = 64
"""Number of pages of a series whose descriptions are read."""

Pages = tuple[TiffPage, ...]
"""A picture at one level: one page with all samples, or one page per channel."""


@dataclass(frozen=True)
class Stack:
    """A series: one picture, or several along its axes, in one or more levels."""

    series: TiffPageSeries
    ome: OmeImage
    """Its description in OME-XML."""

    @cached_property
    def sides(self) -> Mapping[str, int]:
        """Axes that separate pages, and their lengths."""
        return _sides(self.series)

    @property
    def channels(self) -> int:
        """Number of pages that make up a picture, with one sample each; 1 if a page has all samples."""
        return self.sides.get("C", 1) if self.series.keyframe.samplesperpixel == 1 else 1

    @property
    def others(self) -> Mapping[str, int]:
        """Axes that separate pictures, besides focal planes, and their lengths."""
        inside = ("Z", "C") if self.channels > 1 else ("Z",)
        return {axis: length for axis, length in self.sides.items() if axis not in inside}

    @property
    def pictures(self) -> int:
        """Number of pictures, which may each have several focal planes."""
        return math.prod(self.others.values())

    def candidate(self, number: int) -> PictureCandidate:
        """Describe one of the pictures."""
        page = self.series.keyframe
        name = " ".join((self.ome.name or self.series.name, *self._position(number))).strip()
        text = _text(self._page(self.series, number, 0, 0)) if number < MAX_DESCRIBED else ""
        auxiliary = has_role(name, text) or bool(page.subfiletype & MASK)
        reduced = bool(page.subfiletype & REDUCED) or page.is_subifd
        return PictureCandidate((page.imagelength, page.imagewidth), name, auxiliary, reduced)

    def levels(self, number: int, z: int) -> Iterator[Pages]:
        """Yield the levels of one of the pictures, without those that have other axes or an auxiliary role."""
        for at, level in enumerate(self.series.levels):
            if at == 0 or (_sides(level) == self.sides and not has_role("", _text(level.keyframe))):
                yield tuple(self._page(level, number, z, channel) for channel in range(self.channels))

    def _position(self, number: int) -> list[str]:
        """Describe the position of a picture along named axes of more than one step ("T 2")."""
        steps = np.unravel_index(number, tuple(self.others.values())) if self.others else ()
        pairs = zip(self.others.items(), steps, strict=True)
        return [f"{axis} {step + 1}" for (axis, length), step in pairs if length > 1 and axis not in "IQ"]

    def _page(self, level: TiffPageSeries, number: int, z: int, channel: int) -> TiffPage:
        steps = map(int, np.unravel_index(number, tuple(self.others.values())))
        position = {"C": channel, "Z": z, **dict(zip(self.others, steps, strict=True))}
        index = 0
        for axis, length in self.sides.items():
            index = index * length + position[axis]
        page = level[index]
        if page is None or page.parent is not self.series.parent:
            raise SlideError(f"{self.series.parent.filename}: its planes are in several files; export it as one file")
        return page.aspage()


def _sides(series: TiffPageSeries) -> dict[str, int]:
    return {axis: length for axis, length in zip(series.axes, series.shape, strict=True) if axis not in "YXS"}


def _text(page: TiffPage) -> str:
    """Return the name and description of a page, without metadata that describe the entire file."""
    tag = page.tags.get(PAGE_NAME)
    description = "" if page.description.lstrip().startswith(("<", "{")) else page.description
    return f"{tag.value if tag else ''}\n{description}"


def stacks(path: Path, tiff: TiffFile) -> tuple[Stack, ...]:
    """List the series of a TIFF.

    Raises
    ------
    SlideError
        If the number of pages does not match the axes.
    """
    images = ome_images(tiff.ome_metadata) if tiff.is_ome else ()
    fits = len(images) == len(tiff.series)
    listed = tuple(Stack(series, images[at] if fits else OmeImage()) for at, series in enumerate(tiff.series))
    for stack in listed:
        axes = ", ".join(f"{axis} {length}" for axis, length in zip(stack.series.axes, stack.series.shape, strict=True))
        if math.prod(stack.sides.values()) != len(stack.series) or not set("YX") <= set(stack.series.axes):
            raise SlideError(f"{path}: its pages do not match its axes ({axes}); export each plane alone")
    return listed


def choose_pages(path: Path, tiff: TiffFile, plane: Plane) -> tuple[tuple[Pages, ...], OmeImage]:
    """Choose a picture, and return its levels, level 0 first, and its description in OME-XML.

    Raises
    ------
    SlideError
        If the choice is ambiguous or impossible.
    """
    pictures = [(stack, number) for stack in stacks(path, tiff) for number in range(stack.pictures)]
    candidates = [stack.candidate(number) for stack, number in pictures]
    stack, number = pictures[choose_picture(path, candidates, plane.page)]
    z = choose_focus(path, stack.sides.get("Z", 1), plane.z)
    copies = [
        pages
        for (other, which), candidate in zip(pictures, candidates, strict=True)
        if candidate.reduced and not candidate.auxiliary and other is not stack and other.channels == stack.channels
        for pages in other.levels(which, 0)
    ]
    return (*stack.levels(number, z), *(copies if len(stack.series) == stack.channels else ())), stack.ome
