"""The table of cells: Parquet with outlines as valid GeoParquet 1.1."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from sgcldff.drafts import draft
from sgcldff.records import Lineage, cell_schema
from sgcldff.specs import require

ROWS = 4096
"""Cells held in memory, and rows of a row group."""


@dataclass(frozen=True, eq=False)
class CellRow:
    """A typed cell on its slide; places in px of level 0, x right, y down."""

    cell_id: str
    slide_id: str
    centroid: tuple[float, float]
    """(y, x)."""
    box: tuple[float, float, float, float]
    """(y0, x0, y1, x1), ends excluded."""
    outline: NDArray[np.float64]
    """Border of the cell, (x, y), shape (N, 2); closed or not."""
    area_um2: float
    nucleus_area_um2: float
    label: str
    """A class, or "unidentified"."""
    confidence: float
    """Probability of the likeliest class, 0 to 1."""
    probabilities: Sequence[float] | NDArray[np.float32]
    """Shape (C,)."""
    abstained: bool = False
    """The type was not told because the confidence was too low."""
    at_edge: bool = False
    """The slide's border cuts the cell."""
    nuclei: tuple[NDArray[np.float64], ...] = ()
    """Borders of the parts of the nucleus, as `outline`; empty where they were not kept."""


def write_cells(
    path: str | Path, cells: Iterable[CellRow], classes: Sequence[str], mpp: float, lineage: Lineage
) -> Path:
    """Write cells as they come, in memory that does not grow with their number.

    The table has the columns of `records.cell_schema(classes)`; `outline` holds valid polygons as WKB. The file appears
    whole or not at all.

    Parameters
    ----------
    mpp
        um/px of level 0.

    Raises
    ------
    InputError
        If a cell has not one probability a class.
    """
    path, kinds = Path(path), set[str]()
    extent = np.array([np.inf, np.inf, -np.inf, -np.inf])
    with draft(path) as partial, pq.ParquetWriter(partial, cell_schema(classes), compression="zstd") as writer:
        for batch in _batches(iter(cells)):
            outlines = [cell_polygon(cell) for cell in batch]
            writer.write_table(_table(batch, outlines, classes, mpp, lineage), row_group_size=ROWS)
            extent = _grown(extent, shapely.total_bounds(outlines))
            kinds |= {outline.geom_type for outline in outlines}
        writer.add_key_value_metadata({"geo": json.dumps(_geo(extent, sorted(kinds)))})
    return path


def _batches(cells: Iterator[CellRow]) -> Iterator[list[CellRow]]:
    while batch := list(islice(cells, ROWS)):
        yield batch


def _grown(extent: NDArray[np.float64], bounds: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.minimum(extent[:2], bounds[:2]), np.maximum(extent[2:], bounds[2:])])


def _geo(extent: NDArray[np.float64], kinds: list[str]) -> Mapping[str, object]:
    """Describe the geometry column (GeoParquet 1.1): plane px of level 0, without a reference to the earth."""
    column: dict[str, object] = {"encoding": "WKB", "geometry_types": kinds, "crs": None, "edges": "planar"}
    if kinds:
        column["bbox"] = extent.tolist()
    return {"version": "1.1.0", "primary_column": "outline", "columns": {"outline": column}}


def _table(
    cells: list[CellRow], outlines: list[shapely.Polygon], classes: Sequence[str], mpp: float, lineage: Lineage
) -> pa.Table:
    origin = asdict(lineage)
    rows = [_row(cell, outline, classes, mpp) | origin for cell, outline in zip(cells, outlines, strict=True)]
    return pa.Table.from_pylist(rows, schema=cell_schema(classes))


def _row(cell: CellRow, outline: shapely.Polygon, classes: Sequence[str], mpp: float) -> dict[str, object]:
    given = len(cell.probabilities)
    require(
        given == len(classes), f"cell {cell.cell_id} has {given} probabilities for the {len(classes)} classes {classes}"
    )
    y, x = cell.centroid
    plasm = cell.area_um2 - cell.nucleus_area_um2
    kept = ("cell_id", "slide_id", "area_um2", "nucleus_area_um2", "label", "confidence", "abstained", "at_edge")
    return {
        **{name: getattr(cell, name) for name in kept},
        **{f"probability_{name}": float(p) for name, p in zip(classes, cell.probabilities, strict=True)},
        **dict(zip(("y0", "x0", "y1", "x1"), cell.box, strict=True)),
        **dict(zip(("y", "x", "y_um", "x_um"), (y, x, y * mpp, x * mpp), strict=True)),
        "nucleus_cytoplasm_ratio": cell.nucleus_area_um2 / plasm if plasm > 0 else None,
        "outline": shapely.to_wkb(outline),
    }


def cell_polygon(cell: CellRow) -> shapely.Polygon:
    """Give a cell's outline as one valid polygon that encloses an area; its box where the outline encloses none."""
    y0, x0, y1, x1 = cell.box
    return valid_polygon(cell.outline) or shapely.box(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))


def valid_polygon(outline: NDArray[np.float64]) -> shapely.Polygon | None:
    """Mend an outline that crosses itself by keeping its largest part; None where it encloses no area."""
    if len(outline) < 3 or not np.isfinite(outline).all():
        return None
    mended = shapely.make_valid(shapely.Polygon(outline))
    parts = [part for part in shapely.get_parts(mended) if part.geom_type == "Polygon" and part.area > 0]
    parts += [inner for part in shapely.get_parts(mended) if part.geom_type == "MultiPolygon" for inner in part.geoms]
    if not parts:
        return None
    return shapely.Polygon(max(parts, key=lambda part: float(part.area)).exterior)
