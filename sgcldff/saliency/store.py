"""Saliency priors on disk: Zarr v3 with an index whose atomic replacement is the commit.

Layout `priors/1` of `<folder>/<digest of the spec>/`:

    spec.json                     layout and prior spec
    index.parquet                 sha256 of the image -> bucket, row, size, checksum
    buckets/<H>x<W>.zarr          an xarray dataset, `saliency` (image, prior, y, x), uint8 with scale factor 1/255

Images of similar size share a bucket and are padded to its size; the padding compresses to almost nothing. A shard
consists of the rows that one task writes. Rows are reserved only once: leftovers of killed runs are never read, and
committed data are never rewritten. Reads are checked against the index, so that a missing, foreign or altered chunk is
an error.
"""

import math
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
import xarray as xr
import zarr
from filelock import FileLock
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError, MissingInputError, StoreError
from sgcldff.core.json_file import read_json, write_json
from sgcldff.core.parquet_file import read_table, write_table
from sgcldff.core.records import ArrayRef
from sgcldff.core.settings import PriorSpec, digest

PRIORS_LAYOUT = "priors/1"
VARIABLE = "saliency"
DIMS = ("image", "prior", "y", "x")
SCALE = 255
SHARD_BYTES = 8 << 20
SHARD_IMAGES = 64
REMEDY = "delete this folder and compute the priors again"
EVERY_CHUNK = {"write_empty_chunks": True}
"""Store empty images, too, so that a missing chunk is a lost one."""
DAMAGE = (ValueError, RuntimeError, OSError, LookupError, TypeError, AttributeError)
"""Errors of Zarr, xarray and Arrow on damaged files."""

INDEX_SCHEMA = pa.schema(
    [
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("bucket", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("crc32", pa.uint32(), nullable=False),
    ],
    metadata={"sgcldff.layout": PRIORS_LAYOUT},
)


@dataclass(frozen=True)
class IndexEntry:
    """The location of an image's priors: a row of the index."""

    sha256: str
    """Digest of the image file."""
    bucket: str
    row: int
    height: int
    width: int
    crc32: int
    """Checksum of the stored uint8 values, shape (P, height, width)."""


@dataclass(frozen=True)
class Shard:
    """Rows of a bucket that one task writes."""

    bucket: str
    first: int
    """First row, a multiple of the shard's length."""
    keys: tuple[str, ...]
    """sha256 of the images in rows `first`, `first + 1`, ..."""


@dataclass(frozen=True)
class PriorStore:
    """The committed contents of a store when it was opened; a store opened later includes later commits."""

    path: Path
    """Folder of one spec."""
    spec: PriorSpec
    entries: Mapping[str, IndexEntry]
    _arrays: dict[str, xr.DataArray] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def create_or_open(cls, folder: str | Path, spec: PriorSpec) -> Self:
        """Open the store of `spec` below `folder`, creating it if necessary.

        Raises
        ------
        StoreError
            If it is damaged or has another layout version.
        """
        path = Path(folder).absolute() / digest(spec)
        if not (path / "spec.json").exists():
            write_json(path / "spec.json", {"layout": PRIORS_LAYOUT, "spec": asdict(spec)}, indent=1)
        return cls.open(path)

    @classmethod
    def open(cls, where: str | Path | ArrayRef) -> Self:
        """Open a store by its reference or by the folder of one spec.

        Raises
        ------
        StoreError
            If there is none, it is damaged, or has another layout version.
        """
        path = Path(where.uri if isinstance(where, ArrayRef) else where)
        return cls(path, _read_spec(path), _read_index(path))

    @property
    def ref(self) -> ArrayRef:
        """Reference to the committed contents, with a digest of the spec and the images' sha256."""
        return ArrayRef(str(self.path), PRIORS_LAYOUT, digest((digest(self.spec), *sorted(self.entries))))

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self.entries

    def missing(self, sha256s: Iterable[str]) -> tuple[str, ...]:
        """Return those of `sha256s` that are not committed, each once and in order."""
        return tuple(dict.fromkeys(key for key in sha256s if key not in self.entries))

    def read(self, sha256: str) -> NDArray[np.float32]:
        """Read an image's priors, float32 (P, H, W) in [0, 1].

        Raises
        ------
        InputError
            If the image was not committed.
        StoreError
            If the stored data are missing or damaged.
        """
        if sha256 not in self.entries:
            raise InputError(f"{self.path} contains no priors of image {sha256}: compute them first")
        entry = self.entries[sha256]
        try:
            stored = self._array(entry.bucket)[entry.row, :, : entry.height, : entry.width].values
        except DAMAGE as error:
            raise _damaged(self.path, f"bucket {entry.bucket}, image {sha256} ({error})") from error
        if _checksum(stored) != entry.crc32:
            raise _damaged(self.path, f"bucket {entry.bucket}, image {sha256} (checksum differs or chunk missing)")
        return stored.astype(np.float32) / np.float32(SCALE)

    def _array(self, bucket: str) -> xr.DataArray:
        if bucket not in self._arrays:
            dataset = xr.open_zarr(
                _bucket_path(self.path, bucket), consolidated=False, mask_and_scale=False, chunks=None
            )
            self._arrays[bucket] = dataset[VARIABLE]
        return self._arrays[bucket]

    def reserve(self, sizes: Mapping[str, tuple[int, int]]) -> tuple[Shard, ...]:
        """Reserve rows for images (sha256 -> height, width of their priors) as shards, one per task."""
        buckets: defaultdict[str, list[str]] = defaultdict(list)
        for key, (height, width) in sizes.items():
            buckets[f"{_round_up(height)}x{_round_up(width)}"].append(key)
        with FileLock(self.path / ".lock"):
            return tuple(shard for bucket, keys in buckets.items() for shard in self._grow(bucket, keys))

    def _grow(self, bucket: str, keys: list[str]) -> Iterator[Shard]:
        path = _bucket_path(self.path, bucket)
        if not path.exists():
            _create_bucket(path, self.spec)
        array = zarr.open_array(path / VARIABLE, mode="r+")
        first, length = array.shape[0], _shard_length(array)
        starts = range(0, len(keys), length)
        array.resize((first + len(starts) * length, *array.shape[1:]))
        for start in starts:
            yield Shard(bucket, first + start, tuple(keys[start : start + length]))

    def commit(self, entries: Collection[IndexEntry]) -> Self:
        """Make written entries readable, all or none, and return the store with them."""
        with FileLock(self.path / ".lock"):
            merged = _read_index(self.path) | {entry.sha256: entry for entry in entries}
            columns = zip(*(astuple(entry) for entry in merged.values()), strict=True)
            table = pa.table([list(column) for column in columns] or [[]] * len(INDEX_SCHEMA), schema=INDEX_SCHEMA)
            write_table(self.path / "index.parquet", table)
        return type(self)(self.path, self.spec, merged)


def quantise(priors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert priors in [0, 1] to the stored grey levels 0 to 255, with an error of at most 1/510.

    Raises
    ------
    InputError
        If a value is not in [0, 1].
    """
    if not (priors.min() >= 0 and priors.max() <= 1):
        raise InputError(f"a prior has values from {priors.min()} to {priors.max()}, not in [0, 1]: correct it")
    return np.rint(priors * SCALE).astype(np.uint8)


def write_shard(path: Path, shard: Shard, priors: Mapping[str, NDArray[np.uint8]]) -> tuple[IndexEntry, ...]:
    """Write a shard and return the entries to commit; rows of images without priors stay empty.

    Parameters
    ----------
    path
        Folder of the store (`PriorStore.path`).
    priors
        sha256 -> quantised priors, uint8 (P, H, W).

    Raises
    ------
    StoreError
        If the bucket is missing or damaged, or the shard was not reserved.
    """
    try:
        array = zarr.open_array(_bucket_path(path, shard.bucket) / VARIABLE, mode="r+", config=EVERY_CHUNK)
        length, block_shape = _shard_length(array), array.shape[1:]
    except DAMAGE as error:
        raise _damaged(path, f"bucket {shard.bucket} ({error})") from error
    end = shard.first + length
    if shard.first % length or len(shard.keys) > length or end > array.shape[0]:
        raise StoreError(
            f"{path}: rows {shard.first} to {end} of {shard.bucket} are not a reserved shard; reserve it first"
        )
    block = np.zeros((length, *block_shape), np.uint8)
    entries = tuple(_fill(block, shard, offset, priors) for offset, key in enumerate(shard.keys) if key in priors)
    array[shard.first : end] = block
    return entries


def _fill(block: NDArray[np.uint8], shard: Shard, offset: int, priors: Mapping[str, NDArray[np.uint8]]) -> IndexEntry:
    """Copy the priors of one image into its row of a shard's block."""
    key = shard.keys[offset]
    count, height, width = priors[key].shape
    target = block[offset, :, :height, :width]
    if target.shape != priors[key].shape:
        raise StoreError(f"priors {count}x{height}x{width} of image {key} do not fit bucket {shard.bucket}")
    target[...] = priors[key]
    return IndexEntry(key, shard.bucket, shard.first + offset, height, width, _checksum(priors[key]))


def _checksum(values: NDArray[np.uint8]) -> int:
    return zlib.crc32(values.tobytes())


def _create_bucket(path: Path, spec: PriorSpec) -> None:
    """Create an empty bucket atomically: a dataset without images, ready to grow by shards."""
    height, width = (int(side) for side in path.stem.split("x"))
    image = (len(spec.names), height, width)
    length = min(SHARD_IMAGES, max(1, SHARD_BYTES // math.prod(image)))
    attributes = {"scale_factor": 1 / SCALE, "names": list(spec.names), "mpp": spec.mpp}
    dataset = xr.Dataset({VARIABLE: (DIMS, np.zeros((0, *image), np.uint8), attributes)})
    layout = {"chunks": (1, *image), "shards": (length, *image), "compressors": [ZstdCodec(level=3), Crc32cCodec()]}
    with atomic_write(path) as draft:
        dataset.to_zarr(draft, mode="w", zarr_format=3, consolidated=False, encoding={VARIABLE: layout})


def _shard_length(array: zarr.Array[Any]) -> int:
    return int((array.shards or array.chunks)[0])


def _bucket_path(path: Path, bucket: str) -> Path:
    return path / "buckets" / f"{bucket}.zarr"


def _round_up(side: int) -> int:
    """Round a side up to one of few sizes, by at most a quarter or 31 px, to limit the number of buckets."""
    step = max(32, 1 << max(0, side.bit_length() - 3))
    return -(-side // step) * step


def _read_spec(path: Path) -> PriorSpec:
    try:
        content = read_json(path / "spec.json", REMEDY)
        layout, settings = content["layout"], content["spec"]
    except MissingInputError as error:
        raise StoreError(f"{path}: no prior store here; compute the priors first") from error
    except DAMAGE as error:
        raise _damaged(path, f"spec.json ({error})") from error
    if layout != PRIORS_LAYOUT:
        raise StoreError(
            f"{path}: layout {layout!r}, but this version reads {PRIORS_LAYOUT!r}; compute the priors again elsewhere"
        )
    try:
        spec = PriorSpec(**(settings | {"names": tuple(settings["names"])}))
    except DAMAGE as error:
        raise _damaged(path, f"spec.json ({error})") from error
    if digest(spec) != path.name:
        raise _damaged(path, f"spec.json (its digest is {digest(spec)}, the folder's name says {path.name})")
    return spec


def _read_index(path: Path) -> dict[str, IndexEntry]:
    file = path / "index.parquet"
    if not file.exists():
        return {}
    try:
        table = read_table(file, REMEDY)
        columns = [table.column(name).to_pylist() for name in INDEX_SCHEMA.names]
    except DAMAGE as error:
        raise _damaged(path, f"index.parquet ({error})") from error
    return {row[0]: IndexEntry(*row) for row in zip(*columns, strict=True)}


def _damaged(path: Path, what: str) -> StoreError:
    return StoreError(f"{path}: damaged at {what}; {REMEDY}")
