"""Small tables that accompany images."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.tables import read_text_table

TableRow = Mapping[str, str]


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
    try:
        table = read_text_table(path)
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such table") from error
    names = {column: (aliases or {}).get(column, column) for column in table.columns}
    missing = [name for name in required if name not in names.values()]
    if missing:
        raise InputError(
            f"{path}: lacks column {', '.join(missing)}: expected {', '.join(required)}, "
            f"found {', '.join(table.columns) or 'none'}; name the columns in its first line"
        )
    return [{names[column]: cell for column, cell in row.items()} for row in table.rows]
