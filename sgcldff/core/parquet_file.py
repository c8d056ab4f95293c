"""Parquet files that show whether they are intact: their metadata hold a checksum of all other bytes."""

import hashlib
import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sgcldff.core.atomic import atomic_write
from sgcldff.core.boundary import reading
from sgcldff.core.errors import StoreError
from sgcldff.core.json_file import CHECKSUM, is_damaged_name

NO_CHECKSUM_YET = {CHECKSUM: "0" * 64}
"""Metadata to write before the checksum is known."""
FIELD = CHECKSUM.encode() + b"\x18\x40"
"""What stands in the file before the checksum: its name, and the type and length of the value."""


def write_table(path: str | Path, table: pa.Table) -> Path:
    """Write a Parquet file with its checksum; the file appears whole or not at all."""
    with atomic_write(path) as draft:
        with pq.ParquetWriter(draft, table.schema, compression="zstd", write_page_checksum=True) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(NO_CHECKSUM_YET)
        seal(draft)
    return Path(path)


def seal(path: Path) -> None:
    """Put its checksum into a Parquet file that was written with the metadata `NO_CHECKSUM_YET`."""
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as content:
        place = _place(content)
        content[place] = hashlib.sha256(content).hexdigest().encode()


def read_table(path: str | Path, remedy: str, schema: pa.Schema | None = None) -> pa.Table:
    """Read what `write_table` wrote; a file of an earlier version, without a checksum, is accepted.

    Parameters
    ----------
    remedy
        What to do about a damaged file, for the message.
    schema
        Columns to read, converted to these types; by default all as they are.

    Raises
    ------
    MissingInputError
        If there is no such file.
    StoreError
        If it is damaged.
    """
    with reading(path, "damaged", remedy, StoreError, missing=remedy):
        return pq.read_table(pa.BufferReader(_intact(path, remedy)), schema=schema, page_checksum_verification=True)


@contextmanager
def open_intact(path: str | Path, remedy: str) -> Iterator[pq.ParquetFile]:
    """Open a file to read a part of it, or one group of rows after the other.

    Raises
    ------
    MissingInputError, StoreError
        As `read_table`.
    """
    with reading(path, "damaged", remedy, StoreError, missing=remedy):
        file = pq.ParquetFile(pa.BufferReader(_intact(path, remedy)), page_checksum_verification=True)
    with file:
        yield file


def _intact(path: str | Path, remedy: str) -> pa.Buffer:
    """Map a file whose bytes match its checksum.

    Checked and read are the same bytes: a file opened again may be the one by which another process replaced it.
    """
    with Path(path).open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if content.rfind(FIELD) < 0:
        names = (pq.read_metadata(pa.BufferReader(content)).metadata or {}).keys()
        if any(is_damaged_name(name.decode(errors="replace")) for name in names):
            raise StoreError(f"{path}: damaged (the name of its checksum is); {remedy}")
        return pa.py_buffer(content)
    place = _place(content)
    with memoryview(content) as parts:
        found = hashlib.sha256(parts[: place.start])
        found.update(NO_CHECKSUM_YET[CHECKSUM].encode())
        found.update(parts[place.stop :])
    if found.hexdigest().encode() != content[place]:
        raise StoreError(f"{path}: damaged (it does not match its checksum); {remedy}")
    return pa.py_buffer(content)


def _place(content: mmap.mmap) -> slice:
    at = content.rfind(FIELD) + len(FIELD)
    return slice(at, at + len(NO_CHECKSUM_YET[CHECKSUM]))
