"""What is measured of an image file, and remembered as long as its path, size and time stay the same."""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import imagehash
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from sgcldff.core.errors import InputError
from sgcldff.data.catalog.overlap import thumbnail
from sgcldff.slides.images import read_grey, read_rgb, sha256_of

LAYOUT = b"facts/2"

Progress = Callable[[int, int], None]
"""Called with the number of files done and their total."""


@dataclass(frozen=True)
class Facts:
    """What was measured of one file."""

    sha256: str
    """Of the file's bytes."""
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
    """A file as it was when it was measured."""

    path: str
    mask: bool
    size: int
    mtime_ns: int


Known = Mapping[FileKey, Facts]
Result = Facts | InputError

SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("path", "sha256", "pixels", "phash")),
        *(pa.field(name, pa.int64()) for name in ("size", "mtime_ns")),
        *(pa.field(name, pa.int32()) for name in ("height", "width", "low", "high")),
        pa.field("mask", pa.bool_()),
        pa.field("thumbnail", pa.binary()),
    ],
    metadata={"sgcldff.layout": LAYOUT},
)


def file_key(path: str, *, mask: bool) -> FileKey | None:
    """Describe a file as it is now; None if it is not there."""
    try:
        stat = Path(path).stat()
    except OSError:
        return None
    return FileKey(path, mask, stat.st_size, stat.st_mtime_ns)


def measure(path: str, *, mask: bool) -> Facts:
    """Read an image or a mask and measure it.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    pixels = read_grey(path) if mask else read_rgb(path)
    shape = np.asarray(pixels.shape, np.int64).tobytes()
    facts = Facts(
        sha256=sha256_of(path),
        pixels=hashlib.sha256(shape + np.ascontiguousarray(pixels).tobytes()).hexdigest(),
        height=pixels.shape[0],
        width=pixels.shape[1],
        low=int(pixels.min()),
        high=int(pixels.max()),
    )
    return (
        facts
        if mask
        else Facts(**(asdict(facts) | {"phash": perceptual_hash(pixels), "thumbnail": thumbnail(pixels).tobytes()}))
    )


def perceptual_hash(rgb: NDArray[np.uint8]) -> str:
    """Hash an image's coarse structure (64 low frequencies of its cosine transform) to 16 hexadecimal digits."""
    return str(imagehash.phash(Image.fromarray(rgb)))


def measure_all(keys: Iterable[FileKey], known: Known, progress: Progress | None = None) -> dict[FileKey, Result]:
    """Measure the files that are not known yet, several at a time; a file that cannot be read gives its error."""
    wanted = list(dict.fromkeys(keys))
    results: dict[FileKey, Result] = {key: known[key] for key in wanted if key in known}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        running = {pool.submit(_attempt, key): key for key in wanted if key not in known}
        for future in as_completed(running):
            results[running[future]] = future.result()
            if progress is not None:
                progress(len(results), len(wanted))
    return results


def _attempt(key: FileKey) -> Result:
    try:
        return measure(key.path, mask=key.mask)
    except InputError as error:
        return error


def facts_table(results: Mapping[FileKey, Result]) -> pa.Table:
    """Write what was measured as a table; files that could not be read are left out, so that they are tried again."""
    rows = [asdict(key) | asdict(facts) for key, facts in results.items() if isinstance(facts, Facts)]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def read_facts(path: Path) -> dict[FileKey, Facts]:
    """Read what `facts_table` wrote; nothing if it is not there, damaged, or of another layout: it only saves time."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException):
        return {}
    if (table.schema.metadata or {}).get(b"sgcldff.layout") != LAYOUT:
        return {}
    return dict(_split(row) for row in table.to_pylist())


def _split(row: dict) -> tuple[FileKey, Facts]:  # type: ignore[type-arg]  # a decoded Arrow row
    key = {name: row.pop(name) for name in FileKey.__dataclass_fields__}
    return FileKey(**key), Facts(**row)
