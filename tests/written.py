"""Files of cells as a slide's results have them, written at once."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from sgcldff.core.records import Lineage
from sgcldff.inference.outputs import CellRow, cell_writer, geojson_writer, in_batches


def write_cells(
    path: str | Path, cells: Iterable[CellRow], classes: Sequence[str], mpp: float, lineage: Lineage
) -> Path:
    """Write the table of cells."""
    with cell_writer(path, classes, mpp, lineage) as write:
        for batch in in_batches(cells):
            write(*batch)
    return Path(path)


def write_geojson(path: str | Path, cells: Iterable[CellRow], classes: Iterable[str]) -> Path:
    """Write cells as QuPath objects."""
    with geojson_writer(path, classes) as write:
        for batch in in_batches(cells):
            write(*batch)
    return Path(path)
