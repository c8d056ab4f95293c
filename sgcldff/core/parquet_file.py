"""Parquet files that show whether they are intact: their metadata hold a checksum of all other bytes."""

import hashlib
import mmap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sgcldff.core.atomic import atomic_write
from sgcldff.core.boundary import reading
from sgcldff.core.errors import StoreError
from sgcldff.core.json_file import CHECKSUM, is_damaged_name

UNKNOWN = {CHECKSUM: "0" * 64}
"""Metadata to write before the checksum is known."""
FIELD = CHECKSUM.encode() + b"\x18\x40"
"""What stands in the file before the checksum: its name, and the type and length of the value."""


def write_table(path: str | Path, table: pa.Table) -> Path:
    """Write a Parquet file with its checksum; the file appears whole or not at all."""
    with atomic_write(path) as draft:
        with pq.ParquetWriter(draft, table.schema, compression="zstd", write_page_checksum=True) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata(UNKNOWN)
        seal(draft)
    return Path(path)


def seal(path: Path) -> None:
    """Put its checksum into a Parquet file that was written with the metadata `UNKNOWN`."""
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
    require_intact(path, remedy)
    with reading(path, "damaged", remedy, StoreError, missing=remedy):
        return pq.read_table(path, schema=schema, page_checksum_verification=True)


def require_intact(path: str | Path, remedy: str) -> None:
    """Compare a Parquet file with its checksum.

    Raises
    ------
    MissingInputError, StoreError
        As `read_table`.
    """
    with (
        reading(path, "damaged", remedy, StoreError, missing=remedy),
        Path(path).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as content,
    ):
        if content.rfind(FIELD) < 0:
            names = (pq.read_metadata(path).metadata or {}).keys()
            if any(is_damaged_name(name.decode(errors="replace")) for name in names):
                raise StoreError(f"{path}: damaged (the name of its checksum is); {remedy}")
            return
        place = _place(content)
        expected, content[place] = content[place], UNKNOWN[CHECKSUM].encode()
        intact = hashlib.sha256(content).hexdigest().encode() == expected
    if not intact:
        raise StoreError(f"{path}: damaged (it does not match its checksum); {remedy}")


def _place(content: mmap.mmap) -> slice:
    at = content.rfind(FIELD) + len(FIELD)
    return slice(at, at + len(UNKNOWN[CHECKSUM]))
