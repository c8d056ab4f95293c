"""Pure geometry of tiled work: boxes, tiles with a halo, and shards of whole tiles.

Coordinates are pixels (y down, x right). A box covers the pixels y0 <= y < y1, x0 <= x < x1; as a continuous area,
pixel i covers [i, i + 1).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from sgcldff.core.settings import require

Shape = tuple[int, int]
"""(height, width) in px."""
Place = tuple[float, float]
"""(y, x), px of level 0."""


@dataclass(frozen=True, order=True)
class Box:
    """A rectangle of pixels; the ends y1 and x1 are excluded. It may extend beyond an image."""

    y0: int
    x0: int
    y1: int
    x1: int

    @classmethod
    def of(cls, shape: Shape) -> "Box":
        """Return the box that covers an image of `shape`."""
        return cls(0, 0, *shape)

    @classmethod
    def around(cls, boxes: Sequence["Box"]) -> "Box":
        """Return the smallest box that holds all of at least one box."""
        ends = [(box.y0, box.x0, box.y1, box.x1) for box in boxes]
        y0, x0, y1, x1 = zip(*ends, strict=True)
        return cls(min(y0), min(x0), max(y1), max(x1))

    @property
    def height(self) -> int:
        """Rows, px; 0 where the ends cross."""
        return max(0, self.y1 - self.y0)

    @property
    def width(self) -> int:
        """Columns, px; 0 where the ends cross."""
        return max(0, self.x1 - self.x0)

    @property
    def shape(self) -> Shape:
        """(height, width), px."""
        return self.height, self.width

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the box in an array; the box must lie inside it."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def grow(self, margin: int) -> "Box":
        """Move every side outwards by `margin` px (inwards when negative)."""
        return Box(self.y0 - margin, self.x0 - margin, self.y1 + margin, self.x1 + margin)

    def shift(self, dy: int, dx: int) -> "Box":
        """Move the box by whole pixels."""
        return Box(self.y0 + dy, self.x0 + dx, self.y1 + dy, self.x1 + dx)

    def within(self, outer: "Box") -> "Box":
        """Return the box in the coordinates of `outer`, whose corner becomes (0, 0)."""
        return self.shift(-outer.y0, -outer.x0)

    def overlap(self, other: "Box") -> "Box":
        """Return the part shared with `other`; its height or width is 0 where there is none."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        return Box(y0, x0, max(y0, min(self.y1, other.y1)), max(x0, min(self.x1, other.x1)))

    def clip(self, shape: Shape) -> "Box":
        """Return the part inside an image of `shape`."""
        return self.overlap(Box.of(shape))

    def intersects(self, other: "Box") -> bool:
        """Return whether the boxes share a pixel."""
        return 0 not in self.overlap(other).shape

    def contains(self, y: float, x: float) -> bool:
        """Return whether a point lies in the box; points on y1 or x1 do not."""
        return self.y0 <= y < self.y1 and self.x0 <= x < self.x1


@dataclass(frozen=True)
class Tile:
    """The pixels that are read for, and those that are kept from, one pass of the network."""

    core: Box
    """Pixels whose labels this tile provides; inside the slide."""
    read: Box
    """Pixels that the network sees: a full lattice tile and its halo; may extend beyond the slide."""


@dataclass(frozen=True)
class TileGrid:
    """Tiles on one lattice that starts at (0, 0), and square shards of whole tiles.

    The cores of all tiles partition the slide, and so do the shards. A tile does not depend on the shard that it
    belongs to: results that depend only on tiles do not change with `shard_px`.
    """

    shape: Shape
    """(height, width) of the slide, px."""
    tile_px: int
    """Side of a tile's core."""
    halo_px: int
    """Margin read around a core."""
    shard_px: int
    """Side of a shard, a multiple of `tile_px`."""

    def __post_init__(self) -> None:
        require(min(self.shape) >= 1, f"a grid needs at least one pixel, got the shape {self.shape}")
        require(
            self.tile_px >= 1 and self.halo_px >= 0, f"tile_px {self.tile_px} or halo_px {self.halo_px} is negative"
        )
        multiple = self.shard_px >= self.tile_px and self.shard_px % self.tile_px == 0
        require(multiple, f"shard_px {self.shard_px} must be a multiple of tile_px {self.tile_px}")

    def __len__(self) -> int:
        """Return the number of shards."""
        rows, columns = self._counts
        return rows * columns

    @cached_property
    def shards(self) -> tuple[Box, ...]:
        """All shards, row by row."""
        return tuple(self.shard(index) for index in range(len(self)))

    def shard(self, index: int) -> Box:
        """Return the box of a shard, clipped to the slide.

        Raises
        ------
        IndexError
            If there is no shard with this index.
        """
        return lattice_box(*self.place(index), self.shard_px).clip(self.shape)

    def place(self, index: int) -> tuple[int, int]:
        """Return the row and the column of a shard.

        Raises
        ------
        IndexError
            If there is no shard with this index.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"shard {index} of {len(self)}")
        return divmod(index, self._counts[1])

    def touched(self, box: Box) -> tuple[int, ...]:
        """List the shards that share a pixel with a box, row by row."""
        columns = self._counts[1]
        return tuple(row * columns + column for row, column in lattice(box.clip(self.shape), self.shard_px))

    def tiles(self, shard: Box) -> tuple[Tile, ...]:
        """List the tiles whose cores make up `shard`, row by row."""
        boxes = (lattice_box(row, column, self.tile_px) for row, column in lattice(shard, self.tile_px))
        return tuple(Tile(box.clip(self.shape), box.grow(self.halo_px)) for box in boxes)

    @property
    def _counts(self) -> tuple[int, int]:
        return -(-self.shape[0] // self.shard_px), -(-self.shape[1] // self.shard_px)


def lattice(box: Box, side: int) -> Iterator[tuple[int, int]]:
    """Yield the row and the column of each square of a lattice that starts at (0, 0) and touches a box, row by row."""
    if 0 not in box.shape:
        for row in range(box.y0 // side, -(-box.y1 // side)):
            for column in range(box.x0 // side, -(-box.x1 // side)):
                yield row, column


def lattice_box(row: int, column: int, side: int) -> Box:
    """Return a square of a lattice that starts at (0, 0)."""
    return Box(row * side, column * side, (row + 1) * side, (column + 1) * side)
