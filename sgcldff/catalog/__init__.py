"""The catalog of images: checked, without copies, split without leaks, kept in Parquet beside what was set aside."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from sgcldff.catalog.files import QUARANTINE, require_catalog
    from sgcldff.catalog.ingest import Catalog, ingest
else:  # who only looks whether there is a catalog loads no image library
    __getattr__, __dir__, _ = lazy_loader.attach(
        __name__, submod_attrs={"files": ["QUARANTINE", "require_catalog"], "ingest": ["Catalog", "ingest"]}
    )

__all__ = ["QUARANTINE", "Catalog", "ingest", "require_catalog"]
