"""The cells that a slide's report shows, chosen by type as all cells pass by."""

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from typing import Generic, TypeVar

import numpy as np

from sgcldff.core.records import UNIDENTIFIED
from sgcldff.inference.outputs.cells import CellRow, Shapes, cell_shapes

SHOWN_PER_TYPE = 18
"""Gallery images per type."""
DETAILED = 600
"""Cells of all types together that are shown with outline, probabilities and a sharp picture: as many of each type."""
DRAWN = 5000
"""Cells kept per type: all are counted, these are ringed, and those shown in detail are among these."""
CROP_UM = 26.0
"""Side of a picture of a cell."""
OUTSIDE = "outside the usable area"
"""Heading of cells that are not counted."""

Item = TypeVar("Item")


@dataclass
class RandomSample(Generic[Item]):
    """A random sample: the items of the lowest ranks, in whatever order they come.

    Ranks are digests of ids, so that all have the same chance, and the same ones give the same sample (bottom-k
    sampling, Cohen and Kaplan 2007).
    """

    size: int
    _heap: list[tuple[int, int, Item]] = field(default_factory=list)
    """Rank, negated, so that the highest is on top; a number that no other has; the item."""
    _numbers: Iterator[int] = field(default_factory=count)

    def add(self, rank: int, make: Callable[[], Item]) -> None:
        """Keep an item if it belongs to the sample."""
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, (-rank, next(self._numbers), make()))
        elif -rank > self._heap[0][0]:
            heapq.heapreplace(self._heap, (-rank, next(self._numbers), make()))

    def lowest(self, number: int) -> list[Item]:
        """Return the items of the lowest ranks."""
        return [item for *_, item in heapq.nlargest(number, self._heap)]


@dataclass(frozen=True)
class Ringed:
    """A cell of which little more than its place is shown."""

    cell_id: str
    centroid: tuple[float, float]
    """(y, x), px of level 0."""
    confidence: float
    area_um2: float
    nucleus_area_um2: float

    @classmethod
    def of(cls, cell: CellRow) -> "Ringed":
        """Keep what is shown of a cell."""
        return cls(cell.cell_id, cell.centroid, cell.confidence, cell.area_um2, cell.nucleus_area_um2)


Detailed = tuple[CellRow, Shapes]


@dataclass(frozen=True)
class ShownType:
    """Cells of one type, most confident first."""

    label: str
    count: int
    ringed: list[Ringed]
    detailed: list[Detailed]
    """Some of those, or all."""

    @property
    def pictured(self) -> list[CellRow]:
        """The cells of the gallery, evenly spread from the most to the least confident."""
        indices = np.linspace(0, len(self.detailed) - 1, min(SHOWN_PER_TYPE, len(self.detailed))).round().astype(int)
        return [self.detailed[index][0] for index in indices]


@dataclass
class _Kind:
    count: int = 0
    ringed: RandomSample[Ringed] = field(default_factory=lambda: RandomSample(DRAWN))
    detailed: RandomSample[Detailed] = field(default_factory=lambda: RandomSample(DETAILED))


class Gallery:
    """Cells to be shown, gathered by type as they pass by; memory does not grow with their number."""

    def __init__(self, cells: Iterable[CellRow] = ()) -> None:
        self._kinds: dict[str, _Kind] = defaultdict(_Kind)
        for cell in cells:
            self.add(cell, cell_shapes(cell))

    def add(self, cell: CellRow, shapes: Shapes) -> None:
        """Count a cell, and keep it if it belongs to the sample."""
        kind = self._kinds[cell.label if cell.counted else OUTSIDE]
        kind.count += 1
        rank = int.from_bytes(blake2b(cell.cell_id.encode(), digest_size=8).digest())
        kind.ringed.add(rank, lambda: Ringed.of(cell))
        kind.detailed.add(rank, lambda: (cell, shapes))

    def types(self, classes: Sequence[str]) -> list[ShownType]:
        """Return the cells by type, in the order of the differential; types without cells are left out."""
        quota = _quota({label: kind.count for label, kind in self._kinds.items()})
        present = [label for label in (*classes, UNIDENTIFIED, OUTSIDE) if label in self._kinds]
        return [_shown(label, self._kinds[label], quota) for label in present]


def _quota(counts: Mapping[str, int]) -> int:
    """Return the largest number of cells per type of which all types together have at most `DETAILED`."""
    return next(
        (most for most in range(DETAILED, 1, -1) if sum(min(most, count) for count in counts.values()) <= DETAILED), 1
    )


def _shown(label: str, kind: _Kind, quota: int) -> ShownType:
    ringed = sorted(kind.ringed.lowest(DRAWN), key=lambda cell: (-cell.confidence, cell.cell_id))
    detailed = sorted(kind.detailed.lowest(quota), key=lambda pair: (-pair[0].confidence, pair[0].cell_id))
    return ShownType(label, kind.count, ringed, detailed)
