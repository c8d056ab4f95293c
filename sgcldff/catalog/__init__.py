"""The catalog of images: checked, without copies, split without leaks, kept in Parquet beside what was set aside."""

from sgcldff.catalog.ingest import QUARANTINE, Catalog, ingest

__all__ = ["QUARANTINE", "Catalog", "ingest"]
