"""The files of a catalog, as far as they can be looked for without the libraries that make them."""

from pathlib import Path

from sgcldff.core.errors import MissingInputError

MANIFEST, QUARANTINE, FACTS, SIDES = "manifest.parquet", "quarantine.parquet", "facts.parquet", "splits.parquet"


def require_catalog(folder: str | Path) -> None:
    """Raise `MissingInputError` unless a folder holds a catalog."""
    manifest = Path(folder) / MANIFEST
    if not manifest.is_file():
        raise MissingInputError(f"{manifest}: no such catalog; run `sgcldff prepare --data FOLDER` first")
