"""Shards of a label image, read and written without a look at chunks that are empty.

The files are those that zarr writes, byte by byte. zarr itself visits all chunks of a shard: a thousand of them take
half a second, also where three of them hold anything.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import zarr
from numcodecs.checksum32 import CRC32C
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import StoreError
from sgcldff.core.geometry import Box, Shape, lattice, lattice_box

COMPRESSION = 3
"""Level of Zstandard."""
EMPTY = np.uint64(2**64 - 1)
"""Place and length, in a shard's index, of a chunk that is all background."""

LabelImage = NDArray[np.unsignedinteger[Any]]
"""Label image, shape (H, W)."""


@dataclass(frozen=True)
class ShardFiles:
    """The shard files of one level of a label image (chunks: Zstandard, CRC-32C; the index is at the end)."""

    folder: Path
    """Of the Zarr array."""
    shape: Shape
    chunk_px: int
    shard_px: int
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, folder: str | Path) -> "ShardFiles":
        """Describe the array in a folder."""
        array = zarr.open_array(folder, mode="r")
        shard = (array.shards or array.chunks)[0]
        return cls(Path(folder), (array.shape[0], array.shape[1]), array.chunks[0], shard, np.dtype(array.dtype))

    def file(self, row: int, column: int) -> Path:
        """Return the file of a shard; there is none where all is background."""
        return self.folder / "c" / str(row) / str(column)

    def exists(self, box: Box) -> bool:
        """Return whether a shard that a box touches holds anything."""
        return any(self.file(*place).exists() for place in lattice(box.clip(self.shape), self.shard_px))

    def read(self, box: Box) -> Iterator[tuple[Box, LabelImage]]:
        """Yield the chunks that hold anything and touch a box: where they lie, clipped to the image, and their labels.

        Raises
        ------
        StoreError
            If a file is damaged.
        """
        wanted = box.clip(self.shape)
        for row, column in lattice(wanted, self.shard_px):
            path = self.file(row, column)
            if not path.exists():
                continue
            try:
                with path.open("rb") as file:
                    index = self._index(file)
                    inner = lattice(wanted.overlap(lattice_box(row, column, self.shard_px)), self.chunk_px)
                    for place in inner:
                        offset, length = index[place[0] % self._inner, place[1] % self._inner]
                        if offset != EMPTY:
                            chunk = lattice_box(*place, self.chunk_px).clip(self.shape)
                            yield chunk, self._chunk(file, int(offset), int(length))[: chunk.height, : chunk.width]
            except (OSError, RuntimeError, ValueError) as error:
                raise StoreError(f"{path}: is damaged ({error}): run the same command again") from error

    def write(self, row: int, column: int, chunks: Iterable[tuple[Box, LabelImage]], *, durable: bool = False) -> None:
        """Write a shard in place of what it held; chunks that are all background, or not given, are not stored.

        Parameters
        ----------
        durable
            Whether the file outlasts a loss of power.
        """
        encoded: dict[tuple[int, int], bytes] = {}
        for box, labels in chunks:
            if labels.any():
                place = (box.y0 % self.shard_px // self.chunk_px, box.x0 % self.shard_px // self.chunk_px)
                whole = np.zeros((self.chunk_px,) * 2, self.dtype)
                whole[: box.height, : box.width] = labels
                encoded[place] = CRC32C(location="end").encode(Zstd(COMPRESSION).encode(whole))
        path = self.file(row, column)
        if not encoded:
            path.unlink(missing_ok=True)
            return
        index = np.full((self._inner, self._inner, 2), EMPTY, "<u8")
        with atomic_write(path, durable=durable) as draft, draft.open("wb") as file:
            for place in sorted(encoded, key=_morton):
                index[place] = file.tell(), len(encoded[place])
                file.write(encoded[place])
            file.write(CRC32C(location="end").encode(index))

    def chunks_in(self, labels: LabelImage, area: Box, boxes: Iterable[Box]) -> Iterator[tuple[Box, LabelImage]]:
        """Cut the labels of an area, whose corner is that of a chunk, into the chunks that any of the boxes touch."""
        places = {place for box in boxes for place in lattice(box.overlap(area), self.chunk_px)}
        for row, column in sorted(places):
            chunk = lattice_box(row, column, self.chunk_px).overlap(area)
            yield chunk, labels[chunk.within(area).slices]

    def _index(self, file: BinaryIO) -> NDArray[np.uint64]:
        file.seek(-(16 * self._inner**2 + 4), 2)
        decoded = CRC32C(location="end").decode(file.read())
        return np.frombuffer(decoded, "<u8").reshape(self._inner, self._inner, 2)

    def _chunk(self, file: BinaryIO, offset: int, length: int) -> LabelImage:
        file.seek(offset)
        decoded = Zstd().decode(CRC32C(location="end").decode(file.read(length)))
        return np.frombuffer(decoded, self.dtype).reshape((self.chunk_px,) * 2)

    @property
    def _inner(self) -> int:
        """Chunks along a side of a shard."""
        return self.shard_px // self.chunk_px


def _morton(place: tuple[int, int]) -> int:
    """Return the position of a row and a column in Morton order, in which zarr stores the chunks of a shard."""
    bits = range(max(place).bit_length())
    return sum((place[0] >> bit & 1) << 2 * bit | (place[1] >> bit & 1) << 2 * bit + 1 for bit in bits)
