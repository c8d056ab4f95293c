"""Tables that people write (CSV, TSV, Parquet), read as text.

Pandas is not used: a mistyped column is reported in less time than importing it would take.
"""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError

MAX_SHOWN = 40
"""Characters of a cell that a message repeats."""
LARGEST = 2**31 - 1
"""Bound of positions and counts."""
PARQUET, TABS = ".parquet", ".tsv"

TableRow = Mapping[str, str]
"""Column name -> text of the cell."""


class TextTable(NamedTuple):
    """Columns and cells of a table, stripped of surrounding blanks; column names are in lower case."""

    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    """A missing cell is an empty string."""


def read_text_table(path: Path, shown_as: str = "") -> TextTable:
    """Read a Parquet file, a TSV file, or, with any other extension, a CSV file in UTF-8.

    Parameters
    ----------
    shown_as
        Name for messages, if `path` is a copy.

    Raises
    ------
    InputError
        If it cannot be read, two columns have the same name, or a row has more cells than there are columns.
    MissingInputError
        If it does not exist.
    """
    name = shown_as or str(path)
    with reading(shown_as or path, "not a readable table", "save it as UTF-8 CSV or as Parquet"):
        header, *lines = _parquet(path) if path.suffix.lower() == PARQUET else _lines(path)
    columns = tuple(cell.strip().lower() for cell in header)
    repeated = sorted({column for column in columns if column and columns.count(column) > 1})
    if repeated:
        raise InputError(f"{name}: has several columns {', '.join(repeated)}; rename all but one")
    return TextTable(columns, [_text_row(name, number, columns, line) for number, line in enumerate(lines, 1)])


def read_rows(path: Path, required: Iterable[str], aliases: Mapping[str, str] | None = None) -> Sequence[TableRow]:
    """Read a CSV or Parquet file as rows of text; an empty cell is an empty string.

    The case of column names, and blanks around them, are ignored.

    Parameters
    ----------
    aliases
        Alternative column name, in lower case -> name in the rows.

    Raises
    ------
    InputError
        If the file cannot be read, or lacks a required column.
    """
    table = read_text_table(path)
    names = {column: (aliases or {}).get(column, column) for column in table.columns}
    missing = [name for name in required if name not in names.values()]
    if missing:
        raise InputError(
            f"{path}: lacks column {', '.join(missing)}: expected {', '.join(required)}, "
            f"found {', '.join(table.columns) or 'none'}; name the columns in its first line"
        )
    return [{names[column]: cell for column, cell in row.items()} for row in table.rows]


def number(place: str, name: str, text: str, bounds: tuple[float, float]) -> float:
    """Read a number from a text; `place` and `name` say in messages where it stands.

    Raises
    ------
    InputError
        If it is no number, or outside the bounds.
    """
    low, high = bounds
    value = _parsed(text)
    if not low <= value <= high:
        raise InputError(f"{place}: {name} is {text[:MAX_SHOWN]!r}; give a number from {low:g} to {high:g}")
    return value


def whole_number(place: str, name: str, text: str, bounds: tuple[int, int]) -> int:
    """Read a whole number as `number` does; "2.0" is one, as pandas writes integers beside empty cells."""
    low, high = bounds
    value = _parsed(text)
    if not low <= value <= high or value % 1:
        raise InputError(f"{place}: {name} is {text[:MAX_SHOWN]!r}; give a whole number from {low} to {high}")
    return int(value)


def _parsed(text: str) -> float:
    """Return the number that a text states; NaN if it states none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def _text_row(name: str, number: int, columns: Sequence[str], line: Sequence[str]) -> dict[str, str]:
    cells = [cell.strip() for cell in line]
    if any("\0" in cell for cell in cells):
        raise InputError(f"{name}, row {number}: contains a NUL character; save it as UTF-8 CSV or as Parquet")
    if any(cells[len(columns) :]):
        raise InputError(
            f"{name}, row {number}: has {len(cells)} cells, the header names {len(columns)} columns; enclose text that "
            'contains commas in double quotes ("a, b")'
        )
    return dict(zip(columns, cells + [""] * (len(columns) - len(cells)), strict=False))


def _lines(path: Path) -> Iterator[Sequence[str]]:
    """Yield the non-empty lines."""
    delimiter = "\t" if path.suffix.lower() == TABS else ","
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = [line for line in csv.reader(file, delimiter=delimiter, skipinitialspace=True, strict=True) if line]
    if not lines:
        raise ValueError("it is empty")
    yield from lines


def _parquet(path: Path) -> Iterator[Sequence[str]]:
    import pyarrow.parquet as pq  # slow to import, and not needed for CSV files

    table = pq.read_table(path)
    yield table.column_names
    for row in table.to_pylist():
        yield ["" if value is None or value != value else str(value) for value in row.values()]
