"""Outlines for QuPath: a GeoJSON feature collection, written as the cells come."""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, repeat
from pathlib import Path

import shapely

from sgcldff.core.atomic import atomic_write
from sgcldff.core.wording import PURPOSE
from sgcldff.inference.outputs.cells import CellRow, Shapes, WriteCells
from sgcldff.inference.outputs.colours import colour_of

NAMESPACE = uuid.UUID("6e1c2f5a-3b0d-5a8e-9d55-6a2f0d4c7b11")
"""QuPath requires a UUID per object; it is derived from slide and cell, so that a cell always has the same one."""


@contextmanager
def geojson_writer(path: str | Path, classes: Iterable[str]) -> Iterator[WriteCells]:
    """Write cells batch by batch as QuPath objects: `cell` where the nucleus is one known polygon, else `detection`.

    Places are px of level 0, as QuPath expects them. Memory does not grow with the number of cells; the file appears
    whole or not at all.
    """
    classes, separators = tuple(classes), chain(["\n"], repeat(",\n"))

    def write(cells: Sequence[CellRow], shapes: Sequence[Shapes]) -> None:
        for cell, pair in zip(cells, shapes, strict=True):
            file.write(next(separators))
            file.write(json.dumps(_feature(cell, *pair, classes), ensure_ascii=False, allow_nan=False))

    with atomic_write(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write(f'{{"type": "FeatureCollection", "purpose": {json.dumps(PURPOSE)}, "features": [')
        yield write
        file.write("\n]}\n")


def _feature(
    cell: CellRow, outline: shapely.Polygon, nucleus: shapely.Geometry | None, classes: tuple[str, ...]
) -> Mapping[str, object]:
    feature = {
        "type": "Feature",
        "id": str(uuid.uuid5(NAMESPACE, f"{cell.slide_id}/{cell.cell_id}")),
        "geometry": _geometry(outline),
        "properties": {
            "objectType": "detection" if nucleus is None else "cell",
            "name": cell.cell_id,
            "classification": {"name": cell.label, "color": list(colour_of(cell.label))},
            "isLocked": False,
            "measurements": _measurements(cell, classes),
            "metadata": _metadata(cell),
        },
    }
    return feature if nucleus is None else feature | {"nucleusGeometry": _geometry(nucleus)}


def _geometry(shape: shapely.Geometry) -> Mapping[str, object]:
    """Round to 0.01 px, unless that makes the shape cross itself."""
    rounded = shapely.transform(shape, lambda places: places.round(2))
    drawn = rounded if rounded.is_valid else shape
    polygons = [
        [shapely.get_coordinates(ring).tolist() for ring in (part.exterior, *part.interiors)]
        for part in shapely.get_parts(drawn)
    ]
    return {"type": drawn.geom_type, "coordinates": polygons if drawn.geom_type == "MultiPolygon" else polygons[0]}


def _metadata(cell: CellRow) -> Mapping[str, str]:
    """Say in which part of the smear the cell lies, and where that keeps it out of the differential."""
    area = {"Area of the smear": cell.area} if cell.area else {}
    return area if cell.counted else {**area, "Counted": "no"}


def _measurements(cell: CellRow, classes: tuple[str, ...]) -> Mapping[str, float]:
    areas = {"Area µm^2": cell.area_um2, "Nucleus: Area µm^2": cell.nucleus_area_um2}
    types = {f"Probability: {name}": float(p) for name, p in zip(classes, cell.probabilities, strict=True)}
    return {name: round(float(value), 4) for name, value in {**areas, "Confidence": cell.confidence, **types}.items()}
