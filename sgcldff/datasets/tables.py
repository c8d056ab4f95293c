"""Reading of small tables that accompany images."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from sgcldff.errors import InputError, MissingInputError

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
    frame = _read(path).rename(columns=lambda name: str(name).strip().lower()).rename(columns=aliases or {})
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: lacks column {', '.join(missing)}: expected {', '.join(required)}, "
            f"found {', '.join(map(str, frame.columns)) or 'none'}; name the columns in its first line"
        )
    return [{str(name): str(value).strip() for name, value in row.items()} for row in frame.to_dict("records")]


def _read(path: Path) -> pd.DataFrame:
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(path).astype(object).map(lambda value: "" if pd.isna(value) else value)
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", skipinitialspace=True)
    except FileNotFoundError as error:
        raise MissingInputError(f"{path}: no such table") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable table ({error}); save it as UTF-8 CSV or as Parquet") from error
