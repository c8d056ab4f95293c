"""The catalog of images: checked, without duplicates, split without leakage, stored in Parquet with a quarantine."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from sgcldff.data.catalog.ingest import Catalog, ingest
    from sgcldff.data.catalog.paths import QUARANTINE, require_catalog
else:  # checking that a catalog exists needs no image library
    __getattr__, __dir__, _ = lazy_loader.attach(
        __name__, submod_attrs={"paths": ["QUARANTINE", "require_catalog"], "ingest": ["Catalog", "ingest"]}
    )

__all__ = ["QUARANTINE", "Catalog", "ingest", "require_catalog"]
