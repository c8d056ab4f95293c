"""The table of cells: Parquet with outlines as valid GeoParquet 1.1."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from sgcldff.core.atomic import atomic_write
from sgcldff.core.parquet_file import NO_CHECKSUM_YET, seal
from sgcldff.core.records import PROBABILITY, Lineage, cell_schema
from sgcldff.core.settings import require
from sgcldff.inference.outlines import valid_polygon

ROWS = 4096
"""Cells held in memory, and rows of a row group."""
MEASURES = (
    "label",
    "confidence",
    "typicality",
    "on_cell",
    "abstained",
    "abstained_for",
    "counted",
    "area",
    "at_edge",
    "area_um2",
    "nucleus_area_um2",
)
"""Fields of a cell that are columns of the same name, beside its ids."""


@dataclass(frozen=True, eq=False)
class CellRow:
    """A classified cell on its slide; places in px of level 0, x right, y down."""

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
    """The model abstained: the cell was not classified."""
    abstained_for: str = ""
    """Why: "uncertain", "atypical" or "elsewhere"; empty where the cell was classified."""
    typicality: float | None = None
    """Share of cells held out of the training that are at least as unlike the training cells; None: not known."""
    on_cell: float | None = None
    """Share of the evidence for the type that lies on the cell, beyond chance, at most 1; None: not known."""
    evidence: NDArray[np.uint8] | None = None
    """Evidence for the type, by position in a square around the cell: rows of a square map; None: not known."""
    embedding: NDArray[np.float16] | None = None
    """Features from which the cell was classified, shape (D,); None where they were not kept."""
    at_edge: bool = False
    """The slide's border cuts the cell."""
    nuclei: tuple[NDArray[np.float64], ...] = ()
    """Borders of the parts of the nucleus, as `outline`; empty where they were not kept."""
    area: str = ""
    """Part of the smear in which the centre lies ("monolayer", "thick", ...); empty where it is unknown."""
    counted: bool = True
    """False for a cell outside the smear's usable area: it is listed, but not counted in the differential."""
    shard: int = 0
    """Index of the shard of the slide in which it lies."""


Shapes = tuple[shapely.Polygon, shapely.Geometry | None]
"""Outline of a cell and, where it was kept, the part of the nucleus inside: valid polygons, px of level 0."""
WriteCells = Callable[[Sequence[CellRow], Sequence[Shapes]], None]
"""Writes cells, at most `ROWS` at a time, with their shapes."""


def in_batches(cells: Iterable[CellRow]) -> Iterator[tuple[list[CellRow], list[Shapes]]]:
    """Yield cells with their shapes, `ROWS` at a time, so that memory does not grow with their number."""
    rest = iter(cells)
    while batch := list(islice(rest, ROWS)):
        yield batch, [cell_shapes(cell) for cell in batch]


@contextmanager
def cell_writer(
    path: str | Path, classes: Sequence[str], mpp: float, lineage: Lineage, embedding_width: int | None = None
) -> Iterator[WriteCells]:
    """Write the table of cells batch by batch.

    The table has the columns of `records.cell_schema(classes, embedding_width)`; `outline` holds valid polygons as WKB,
    `nucleus` valid polygons inside them, several parts where it has lobes. The file appears whole or not at all.

    Parameters
    ----------
    mpp
        um/px of level 0.

    Raises
    ------
    InputError
        If a cell does not have one probability per class.
    """
    origin, columns = asdict(lineage), {"outline": _Column(), "nucleus": _Column()}

    numbers = count(1)

    def write(cells: Sequence[CellRow], shapes: Sequence[Shapes]) -> None:
        rows = [
            _row(cell, *pair, classes, mpp) | origin | {"instance": next(numbers)}
            for cell, pair in zip(cells, shapes, strict=True)
        ]
        writer.write_table(pa.Table.from_pylist(rows, schema=schema), row_group_size=ROWS)
        for at, name in enumerate(columns):
            columns[name] = columns[name].grown([pair[at] for pair in shapes])

    schema = cell_schema(classes, embedding_width)
    with atomic_write(path) as partial:
        with pq.ParquetWriter(partial, schema, compression="zstd", write_page_checksum=True) as writer:
            yield write
            described = {name: column.described() for name, column in columns.items()}
            geo = {"version": "1.1.0", "primary_column": "outline", "columns": described}
            writer.add_key_value_metadata({"geo": json.dumps(geo), **NO_CHECKSUM_YET})
        seal(partial)


@dataclass(frozen=True)
class _Column:
    """What GeoParquet wants to know of a geometry column, gathered as it is written."""

    bounds: tuple[float, ...] = (math.inf, math.inf, -math.inf, -math.inf)
    kinds: frozenset[str] = frozenset()

    def grown(self, shapes: Sequence[shapely.Geometry | None]) -> "_Column":
        known = [shape for shape in shapes if shape is not None]
        if not known:
            return self
        low, high = np.split(np.array([self.bounds, shapely.total_bounds(known)]), 2, axis=1)
        return _Column((*low.min(axis=0), *high.max(axis=0)), self.kinds | {shape.geom_type for shape in known})

    def described(self) -> Mapping[str, object]:
        """Plane px of level 0, without a reference to the earth."""
        described = {"encoding": "WKB", "geometry_types": sorted(self.kinds), "crs": None, "edges": "planar"}
        return described | ({"bbox": list(self.bounds)} if self.kinds else {})


def _row(
    cell: CellRow, outline: shapely.Polygon, nucleus: shapely.Geometry | None, classes: Sequence[str], mpp: float
) -> dict[str, object]:
    given = len(cell.probabilities)
    require(
        given == len(classes), f"cell {cell.cell_id} has {given} probabilities for the {len(classes)} classes {classes}"
    )
    y, x = cell.centroid
    plasm = cell.area_um2 - cell.nucleus_area_um2
    return {
        **{name: getattr(cell, name) for name in ("cell_id", "slide_id", *MEASURES)},
        **{PROBABILITY + name: float(p) for name, p in zip(classes, cell.probabilities, strict=True)},
        **dict(zip(("y0", "x0", "y1", "x1"), cell.box, strict=True)),
        **dict(zip(("y", "x", "y_um", "x_um"), (y, x, y * mpp, x * mpp), strict=True)),
        "nucleus_cytoplasm_ratio": cell.nucleus_area_um2 / plasm if min(cell.nucleus_area_um2, plasm) > 0 else None,
        "outline": shapely.to_wkb(outline),
        "nucleus": shapely.to_wkb(nucleus),
        "embedding": cell.embedding,
    }


def cell_shapes(cell: CellRow) -> Shapes:
    """Return a cell's outline and, where it was kept, the part of the nucleus inside: one valid polygon, or several."""
    outline = cell_polygon(cell)
    if not cell.nuclei:
        return outline, None
    parts = [part for border in cell.nuclei if (part := valid_polygon(border)) is not None]
    joined = shapely.intersection(shapely.union_all(parts), outline)
    areal = [part for part in shapely.get_parts(joined) if part.geom_type == "Polygon" and part.area > 0]
    return outline, shapely.union_all(areal) if areal else None


def cell_polygon(cell: CellRow) -> shapely.Polygon:
    """Return a cell's outline as one valid polygon that encloses an area; its box where the outline encloses none."""
    y0, x0, y1, x1 = cell.box
    return valid_polygon(cell.outline) or shapely.box(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
