"""Slides that share a scale, whose red cells are measured together."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from hashlib import sha256
from threading import RLock

from sgcldff.core.errors import InputError
from sgcldff.core.locations import is_remote
from sgcldff.core.settings import AUTO_MPP, StatedMpp
from sgcldff.slides.discovery import SlideEntry
from sgcldff.slides.pictures import errors_of, open_picture
from sgcldff.slides.pixels.base import Picture
from sgcldff.slides.pixels.page_selection import split_plane
from sgcldff.slides.red_cells import (
    ENOUGH_CELLS,
    FEWEST_RED_CELLS,
    FEWEST_TO_CHECK,
    RedCellScale,
    Widths,
    fields_of,
    scale_of,
    widths_in,
)
from sgcldff.slides.remote.cache import local_copy

MOST_POOLED = 100
"""Slides of a group whose red cells may be pooled."""
MOST_UNLIKE = 0.1
"""Share of slides that may contradict their group's scale; where more do, it has several scales, and none is stated."""


class ScaleGroup:
    """Slides of one folder for which the same scale is stated, or none.

    A photograph often shows fewer red cells than a measurement needs; those of its group are then pooled. Each slide is
    measured once.

    Parameters
    ----------
    mpp
        What is stated for all of them, um/px; None or "auto" where their files may state it.
    uris
        The slides. In a large group a part of them, which additions hardly change, is pooled.
    """

    def __init__(self, mpp: StatedMpp, uris: Iterable[str]) -> None:
        self._mpp = None if mpp == AUTO_MPP else mpp
        self._uris = sorted(uris, key=lambda uri: sha256(os.fsencode(uri.rpartition("/")[2])).digest())[:MOST_POOLED]
        self._widths: dict[str, Widths] = {}
        self._pooled: dict[float | None, RedCellScale | None] = {}
        self._lock = RLock()

    @property
    def pools(self) -> bool:
        """Whether there are several slides."""
        return len(self._uris) > 1

    def measure(self, uri: str, picture: Picture) -> RedCellScale | None:
        """Measure the scale of an open slide by its red cells, or by those of its group where it shows too few.

        Returns
        -------
        RedCellScale; None where too few red cells were found. The group's scale is not used for a slide of which a few
        red cells contradict it.
        """
        with self._lock:
            own = scale_of([self._measured(uri, picture)], FEWEST_TO_CHECK)
            if not self.pools or (own is not None and own.cells >= FEWEST_RED_CELLS):
                return own
            stated = self._stated(picture)
            if stated not in self._pooled:
                self._pooled[stated] = self._pool(stated)
            pooled = self._pooled[stated]
            return own if pooled is None or (own is not None and own.contradicts(pooled.mpp)) else pooled

    def _stated(self, picture: Picture) -> float | None:
        return picture.mpp if self._mpp is None else self._mpp

    def _measured(self, uri: str, picture: Picture) -> Widths:
        widths = self._widths.get(uri)
        if widths is None:
            widths = widths_in(fields_of(picture.pixels, picture.shapes))
            if uri in self._uris:
                self._widths[uri] = widths
        return widths

    def _pool(self, stated: float | None) -> RedCellScale | None:
        slides = list[Widths]()
        for uri in self._uris:
            location, plane = split_plane(uri)
            with (
                suppress(InputError),  # reported when the slide itself is read
                closing(local_copy(location)) as copy,
                closing(open_picture(copy, uri, plane)) as picture,
                errors_of(copy, uri),
            ):
                if self._stated(picture) == stated and len(widths := self._measured(uri, picture)):
                    slides.append(widths)
            if sum(map(len, slides)) >= ENOUGH_CELLS:
                break
        pooled = scale_of(slides)
        own = [scale for widths in slides if (scale := scale_of([widths], FEWEST_TO_CHECK))]
        unlike = sum(pooled is not None and scale.contradicts(pooled.mpp) for scale in own)
        return pooled if unlike <= MOST_UNLIKE * len(own) else None


def scale_groups(entries: Sequence[SlideEntry]) -> Mapping[str, ScaleGroup]:
    """Return the group of each slide, by its address; remote slides, which would have to be copied, stand alone."""
    together = defaultdict[tuple[str, StatedMpp], list[str]](list)
    for entry in entries:
        place = entry.uri if is_remote(entry.uri) else entry.uri.rpartition("/")[0]
        together[place, entry.mpp].append(entry.uri)
    groups = [(uris, ScaleGroup(mpp, uris)) for (_, mpp), uris in together.items()]
    return {uri: group for uris, group in groups for uri in uris}
