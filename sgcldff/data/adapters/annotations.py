"""Reading of small tables that accompany images."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.tables import read_text_table

Row = Mapping[str, str]


def read_rows(path: Path, required: Iterable[str], aliases: Mapping[str, str] | None = None) -> Sequence[Row]:
    """Read a CSV or Parquet file as rows of text; an empty cell is an empty text.

    Column names are compared without regard to case and surrounding blanks.

    Parameters
    ----------
    aliases
        Names, in lower case, under which required columns go as well, and the names that the rows give them.

    Raises
    ------
    InputError
        If the file cannot be read, or lacks a required column.
    """
    try:
        table = read_text_table(path)
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such table") from error
    named = {column: (aliases or {}).get(column, column) for column in table.columns}
    missing = [name for name in required if name not in named.values()]
    if missing:
        raise InputError(
            f"{path}: lacks column {', '.join(missing)}: expected {', '.join(required)}, "
            f"found {', '.join(table.columns) or 'none'}; name the columns in its first line"
        )
    return [{named[column]: cell for column, cell in row.items()} for row in table.rows]
