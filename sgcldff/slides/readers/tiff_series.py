"""Which pages of a TIFF make up a picture: series, and axes by their names."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from tifffile import TiffFile, TiffPage, TiffPageSeries

from sgcldff.core.errors import SlideError
from sgcldff.slides.pixels.ome_xml import OmeImage, ome_images
from sgcldff.slides.pixels.page_selection import Candidate, Plane, choose_focus, choose_picture, has_role

REDUCED, MASK = 1, 4
"""Bits of a page's subfile type."""
PAGE_NAME = 285
"""Number of a tag."""
DESCRIBED_AT_MOST = 64
"""Pages of a series whose descriptions are read."""

Pages = tuple[TiffPage, ...]
"""A picture at one level: one page with all samples, or one page a channel."""


@dataclass(frozen=True)
class Stack:
    """A series: one picture, or several along its axes, in one or more levels."""

    series: TiffPageSeries
    ome: OmeImage
    """What OME-XML says of it."""

    @cached_property
    def sides(self) -> Mapping[str, int]:
        """Axes along which pages follow each other, and their lengths."""
        return _sides(self.series)

    @property
    def channels(self) -> int:
        """Pages of one sample each that make up a picture."""
        return self.sides.get("C", 1) if self.series.keyframe.samplesperpixel == 1 else 1

    @property
    def others(self) -> Mapping[str, int]:
        """Axes along which pictures follow each other, besides that of focal planes."""
        inside = ("Z", "C") if self.channels > 1 else ("Z",)
        return {axis: length for axis, length in self.sides.items() if axis not in inside}

    @property
    def pictures(self) -> int:
        """Number of pictures, each of which may have several focal planes."""
        return math.prod(self.others.values())

    def candidate(self, number: int) -> Candidate:
        """Describe one of the pictures."""
        page = self.series.keyframe
        name = " ".join((self.ome.name or self.series.name, *self._place(number))).strip()
        text = _text(self._page(self.series, number, 0, 0)) if number < DESCRIBED_AT_MOST else ""
        aside = has_role(name, text) or bool(page.subfiletype & MASK)
        reduced = bool(page.subfiletype & REDUCED) or page.is_subifd
        return Candidate((page.imagelength, page.imagewidth), name, aside, reduced)

    def levels(self, number: int, z: int) -> Iterator[Pages]:
        """Yield the levels of one of the pictures, as far as they have the same axes and no role of their own."""
        for at, level in enumerate(self.series.levels):
            if at == 0 or (_sides(level) == self.sides and not has_role("", _text(level.keyframe))):
                yield tuple(self._page(level, number, z, channel) for channel in range(self.channels))

    def _place(self, number: int) -> list[str]:
        """Name a picture by its place along the axes that have a meaning and several places ("T 2")."""
        places = np.unravel_index(number, tuple(self.others.values())) if self.others else ()
        pairs = zip(self.others.items(), places, strict=True)
        return [f"{axis} {place + 1}" for (axis, length), place in pairs if length > 1 and axis not in "IQ"]

    def _page(self, level: TiffPageSeries, number: int, z: int, channel: int) -> TiffPage:
        found = map(int, np.unravel_index(number, tuple(self.others.values())))
        places = {"C": channel, "Z": z, **dict(zip(self.others, found, strict=True))}
        index = 0
        for axis, length in self.sides.items():
            index = index * length + places[axis]
        page = level[index]
        if page is None or page.parent is not self.series.parent:
            raise SlideError(f"{self.series.parent.filename}: its planes lie in several files; export it as one file")
        return page.aspage()


def _sides(series: TiffPageSeries) -> dict[str, int]:
    return {axis: length for axis, length in zip(series.axes, series.shape, strict=True) if axis not in "YXS"}


def _text(page: TiffPage) -> str:
    """Return what a page says of itself, without the metadata that describe the whole file."""
    tag = page.tags.get(PAGE_NAME)
    description = "" if page.description.lstrip().startswith(("<", "{")) else page.description
    return f"{tag.value if tag else ''}\n{description}"


def stacks(path: Path, tiff: TiffFile) -> tuple[Stack, ...]:
    """List the series of a TIFF.

    Raises
    ------
    SlideError
        If their pages cannot be told by their axes.
    """
    images = ome_images(tiff.ome_metadata) if tiff.is_ome else ()
    fits = len(images) == len(tiff.series)
    found = tuple(Stack(series, images[at] if fits else OmeImage()) for at, series in enumerate(tiff.series))
    for stack in found:
        axes = ", ".join(f"{axis} {length}" for axis, length in zip(stack.series.axes, stack.series.shape, strict=True))
        if math.prod(stack.sides.values()) != len(stack.series) or not set("YX") <= set(stack.series.axes):
            raise SlideError(f"{path}: its pages do not lie along its axes ({axes}); export each plane alone")
    return found


def choose_pages(path: Path, tiff: TiffFile, plane: Plane) -> tuple[tuple[Pages, ...], OmeImage]:
    """Choose a picture and give its levels, level 0 first, and what OME-XML says of it.

    Raises
    ------
    SlideError
        If none can be told to be meant.
    """
    held = [(stack, number) for stack in stacks(path, tiff) for number in range(stack.pictures)]
    candidates = [stack.candidate(number) for stack, number in held]
    at = choose_picture(path, candidates, plane.page)
    stack, number = held[at]
    z = choose_focus(path, stack.sides.get("Z", 1), plane.z)
    copies = [
        pages
        for (other, which), candidate in zip(held, candidates, strict=True)
        if candidate.reduced and not candidate.aside and other is not stack and other.channels == stack.channels
        for pages in other.levels(which, 0)
    ]
    return (*stack.levels(number, z), *(copies if len(stack.series) == stack.channels else ())), stack.ome
