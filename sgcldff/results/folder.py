"""The folder of a slide's results: names of the files in it, and the lock of whoever writes there."""

from contextlib import AbstractContextManager
from pathlib import Path

from sgcldff.core.locks import locked

CELLS, DIFFERENTIAL, REPORT = "cells.parquet", "differential.json", "report.html"
LABELS, MANUAL = "labels.ome.zarr", "manual.json"
ZOOM = "report"
"""Folder of pictures for the report, where it has any."""
REVIEWED_CELLS, REVIEWED_DIFFERENTIAL = "cells.reviewed.parquet", "differential.reviewed.json"
EARLIER = "earlier"
"""Folder of reviewed results that are of an earlier reading of the slide."""
SIGNED = "signed"
"""Folder of copies of signed results, one folder per signature."""
READ_AGAIN = "read the slide again"
"""The remedy where one of these files is damaged."""
LOCK = ".lock"
PATIENCE_S = 5.0


def held(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from writing to a slide's folder.

    Raises
    ------
    ServiceError
        If another one does so for longer than a few seconds.
    """
    return locked(folder / LOCK, PATIENCE_S)
