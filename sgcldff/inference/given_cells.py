"""Cells that others outlined: QuPath, Cellpose or a person. They are classified and counted, not searched."""

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
from numpy.typing import NDArray

from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError
from sgcldff.core.geometry import Box, Shape
from sgcldff.core.label_codes import CYTOPLASM, NUCLEUS
from sgcldff.core.parquet_file import read_table, write_table
from sgcldff.core.records import SlideRef
from sgcldff.core.settings import require
from sgcldff.inference.instances import Cell
from sgcldff.inference.outlines import fill_outline, valid_polygon
from sgcldff.inference.plan import AGAIN, Plan, opened
from sgcldff.slides import ScaledSlide

OUTLINE_SUFFIXES = (".geojson", ".json", ".parquet")
SCHEMA = pa.schema([("cell_id", pa.string()), ("outline", pa.binary()), ("nucleus", pa.binary())])
"""Outlines as WKB, px of level 0; without a nucleus where none was outlined."""
REMEDY = "export cells or detections as GeoJSON or GeoParquet, in px of the slide's level 0"

Outline = tuple[str, shapely.Geometry | None, shapely.Geometry | None]
"""Id (may be empty), outline and nucleus."""


def read_outlines(path: str | Path, slide: SlideRef) -> pa.Table:
    """Read outlines of cells on a slide: a table of `SCHEMA`, one row per cell.

    Parameters
    ----------
    path
        GeoJSON as QuPath exports it, whose annotations are left out, or GeoParquet; px of level 0, x right, y down.

    Raises
    ------
    MissingInputError
        If there is no such file.
    InputError
        If it cannot be read, holds no outlines, or some are not on the slide.
    """
    path = Path(path)
    require(path.suffix.lower() in OUTLINE_SUFFIXES, f"{path}: is none of {', '.join(OUTLINE_SUFFIXES)}: {REMEDY}")
    with reading(path, "its outlines cannot be read", REMEDY):
        found = list(_of_parquet(path) if path.suffix.lower() == ".parquet" else _of_geojson(path))
    rows, outside = list[dict[str, object]](), 0
    for name, drawn, nucleus in found:
        outline = None if drawn is None else _largest(drawn)
        if outline is None:
            raise InputError(f"{path}: outline {len(rows) + 1} ({name or 'no id'}) encloses no area: remove it")
        middle, (height, width) = outline.centroid, slide.shape
        outside += not (0 <= middle.x < width and 0 <= middle.y < height)
        rows.append({"cell_id": name, "outline": outline.wkb, "nucleus": None if nucleus is None else nucleus.wkb})
    require(bool(rows), f"{path}: holds no outline of a cell: {REMEDY}")
    require(
        not outside,
        f"{path}: {outside} of {len(rows)} outlines lie outside the slide, whose (height, width) is {slide.shape} px: "
        + REMEDY,
    )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _of_geojson(path: Path) -> Iterator[Outline]:
    content = json.loads(path.read_text(encoding="utf-8"))
    features = content.get("features", [content]) if isinstance(content, dict) else content
    for feature in features:
        if feature.get("properties", {}).get("objectType") != "annotation":
            yield str(feature.get("id", "")), _shape(feature["geometry"]), _shape(feature.get("nucleusGeometry"))


def _shape(geometry: Mapping[str, Any] | None) -> shapely.Geometry | None:
    return None if geometry is None else shapely.from_geojson(json.dumps(geometry))


def _of_parquet(path: Path) -> Iterator[Outline]:
    with pq.ParquetFile(path) as file:
        table, described = file.read(), (file.metadata.metadata or {}).get(b"geo", b"{}")
    primary = json.loads(described).get("primary_column", "geometry")
    ids, nuclei = (
        table[name].to_pylist() if name in table.column_names else [None] * len(table)
        for name in ("cell_id", "nucleus")
    )
    for name, outline, nucleus in zip(ids, table[primary].to_pylist(), nuclei, strict=True):
        yield name or "", shapely.from_wkb(outline), shapely.from_wkb(nucleus)


def _largest(shape: shapely.Geometry) -> shapely.Polygon | None:
    """Return the largest part of a shape without its holes, as one valid polygon; None if it encloses no area."""
    parts = [
        valid_polygon(shapely.get_coordinates(shapely.get_exterior_ring(part))) for part in shapely.get_parts(shape)
    ]
    return max((part for part in parts if part is not None), key=lambda part: part.area, default=None)


def keep_outlines(plan: Plan, outlines: pa.Table) -> None:
    """Keep the outlines where workers find them."""
    write_table(_place(plan), outlines)


def given_cells(plan: Plan, box: Box) -> list[Cell]:
    """Return the given cells that touch a box, at the model's scale, in the order of the file."""
    factor = ScaledSlide(opened(plan.slide), plan.model.mpp).factor
    return [cell for cell in _cells(_place(plan), factor, plan.grid.shape) if cell.box.intersects(box)]


def paint_given(plan: Plan, shard: Box) -> tuple[NDArray[np.uint8], list[Box]]:
    """Return the labels of a shard, uint8 (H, W), as the given cells cover it, and the boxes of those cells."""
    labels, cells = np.zeros(shard.shape, np.uint8), given_cells(plan, shard)
    for cell in cells:
        for code, rings in ((CYTOPLASM, (cell.outline,)), (NUCLEUS, cell.nuclei)):
            for ring in rings:
                fill_outline(labels, shard, ring, code)
    return labels, [cell.box for cell in cells]


def _place(plan: Plan) -> Path:
    return plan.shards / "given.parquet"


@lru_cache(maxsize=1)
def _cells(path: Path, factor: float, shape: Shape) -> tuple[Cell, ...]:
    return tuple(_cell(row, factor, shape) for row in read_table(path, AGAIN).to_pylist())


def _cell(row: Mapping[str, Any], factor: float, shape: Shape) -> Cell:
    outline, nucleus = (shapely.from_wkb(row[name]) for name in ("outline", "nucleus"))
    x0, y0, x1, y1 = (end / factor for end in outline.bounds)
    parts = [] if nucleus is None else [part for part in shapely.get_parts(nucleus) if part.geom_type == "Polygon"]
    return Cell(
        (outline.centroid.y / factor, outline.centroid.x / factor),
        Box(int(np.floor(y0)), int(np.floor(x0)), int(np.ceil(y1)), int(np.ceil(x1))).clip(shape),
        round(outline.area / factor**2),
        round(sum(part.area for part in parts) / factor**2),
        shapely.get_coordinates(outline.exterior) / factor,
        tuple(shapely.get_coordinates(part.exterior) / factor for part in parts),
        row["cell_id"],
    )
