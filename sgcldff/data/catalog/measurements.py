"""Measurements of image files, which are kept as long as path, size and modification time stay the same."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError, MissingInputError, StoreError
from sgcldff.core.parquet_file import read_table
from sgcldff.core.tally import Progress
from sgcldff.data.catalog.overlap import thumbnail
from sgcldff.slides.images import read_grey, read_rgb, sha256_of

FACTS_LAYOUT = b"facts/2"


@dataclass(frozen=True)
class FileFacts:
    """Measurements of one file."""

    sha256: str
    """Digest of the file's bytes."""
    pixels: str
    """sha256 of shape and pixels: the same for copies in other lossless formats."""
    height: int
    width: int
    low: int
    high: int
    """Smallest and largest value, 0 to 255."""
    phash: str = ""
    """64-bit perceptual hash, 16 hexadecimal digits; empty for masks."""
    thumbnail: bytes = b""
    """Grey values of the image shrunk to 64x64 px; empty for masks."""


@dataclass(frozen=True)
class FileKey:
    """A file in the state in which it was measured."""

    path: str
    mask: bool
    size: int
    mtime_ns: int


Known = Mapping[FileKey, FileFacts]
MeasureResult = FileFacts | InputError

FACTS_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("path", "sha256", "pixels", "phash")),
        *(pa.field(name, pa.int64()) for name in ("size", "mtime_ns")),
        *(pa.field(name, pa.int32()) for name in ("height", "width", "low", "high")),
        pa.field("mask", pa.bool_()),
        pa.field("thumbnail", pa.binary()),
    ],
    metadata={"sgcldff.layout": FACTS_LAYOUT},
)


def file_key(path: str, *, mask: bool) -> FileKey | None:
    """Return the key of a file in its current state; None if it does not exist."""
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return FileKey(path, mask, stat.st_size, stat.st_mtime_ns)


def measure(path: str, *, mask: bool) -> FileFacts:
    """Read an image or a mask and measure it.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    pixels = read_grey(path) if mask else read_rgb(path)
    shape = np.asarray(pixels.shape, np.int64).tobytes()
    facts = FileFacts(
        sha256=sha256_of(path),
        pixels=hashlib.sha256(shape + np.ascontiguousarray(pixels).tobytes()).hexdigest(),
        height=pixels.shape[0],
        width=pixels.shape[1],
        low=int(pixels.min()),
        high=int(pixels.max()),
    )
    if mask:
        return facts
    return replace(facts, phash=perceptual_hash(pixels), thumbnail=thumbnail(pixels).tobytes())


def perceptual_hash(rgb: NDArray[np.uint8]) -> str:
    """Hash the coarse structure of an image (64 low frequencies of its cosine transform) to 16 hexadecimal digits."""
    return str(imagehash.phash(Image.fromarray(rgb)))


def measure_all(
    keys: Iterable[FileKey], known: Known, progress: Progress | None = None
) -> dict[FileKey, MeasureResult]:
    """Measure the files that are not `known` yet, in parallel; the result of an unreadable file is its error."""
    wanted = list(dict.fromkeys(keys))
    results: dict[FileKey, MeasureResult] = {key: known[key] for key in wanted if key in known}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(_attempt, key): key for key in wanted if key not in known}
        for future in as_completed(running):
            results[running[future]] = future.result()
            if progress is not None:
                progress(len(results), len(wanted))
    return results


def _attempt(key: FileKey) -> MeasureResult:
    try:
        with reading(key.path, "cannot be measured", "export it again"):
            return measure(key.path, mask=key.mask)
    except InputError as error:
        return error


def facts_table(results: Mapping[FileKey, MeasureResult]) -> pa.Table:
    """Convert measurements to a table, without unreadable files, so that these are tried again."""
    rows = [asdict(key) | asdict(facts) for key, facts in results.items() if isinstance(facts, FileFacts)]
    return pa.Table.from_pylist(rows, schema=FACTS_SCHEMA)


def read_facts(path: Path) -> dict[FileKey, FileFacts]:
    """Read stored measurements; none if the file is missing, damaged, or has another layout, as it is only a cache."""
    try:
        table = read_table(path, "it is measured again")
    except (MissingInputError, StoreError):
        return {}
    if (table.schema.metadata or {}).get(b"sgcldff.layout") != FACTS_LAYOUT:
        return {}
    facts = {}
    for row in table.to_pylist():
        key = FileKey(**{name: row.pop(name) for name in FileKey.__dataclass_fields__})
        facts[key] = FileFacts(**row)
    return facts
