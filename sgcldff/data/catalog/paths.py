"""The files of a catalog, without the libraries that create them."""

from pathlib import Path

from sgcldff.core.errors import MissingInputError

MANIFEST, QUARANTINE, FACTS, SPLITS = "manifest.parquet", "quarantine.parquet", "facts.parquet", "splits.parquet"


def require_catalog(folder: str | Path) -> None:
    """Raise `MissingInputError` unless a folder contains a catalog."""
    manifest = Path(folder) / MANIFEST
    if not manifest.is_file():
        raise MissingInputError(f"{manifest}: no such catalog; run `sgcldff prepare --data FOLDER` first")
