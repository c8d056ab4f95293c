"""Outlines for QuPath: a GeoJSON feature collection, written as the cells come."""

import json
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path

import shapely

from sgcldff.drafts import draft
from sgcldff.outputs.cells import CellRow, cell_polygon, valid_polygon
from sgcldff.outputs.colours import colour_of

NAMESPACE = uuid.UUID("6e1c2f5a-3b0d-5a8e-9d55-6a2f0d4c7b11")
"""QuPath wants a UUID an object; these are drawn from slide and cell, so that the same cell keeps its own."""


def write_geojson(path: str | Path, cells: Iterable[CellRow], classes: Iterable[str]) -> Path:
    """Write cells as QuPath objects: `cell` where the nucleus is one known polygon, otherwise `detection`.

    Places are px of level 0, as QuPath expects them. Memory does not grow with the number of cells; the file appears
    whole or not at all.
    """
    path, classes = Path(path), tuple(classes)
    with draft(path) as partial, partial.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for number, cell in enumerate(cells):
            file.write(",\n" if number else "\n")
            json.dump(_feature(cell, classes), file, ensure_ascii=False, allow_nan=False)
        file.write("\n]}\n")
    return path


def _feature(cell: CellRow, classes: tuple[str, ...]) -> Mapping[str, object]:
    outline = cell_polygon(cell)
    nucleus = _nucleus(cell, outline)
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
        },
    }
    return feature if nucleus is None else feature | {"nucleusGeometry": _geometry(nucleus)}


def _nucleus(cell: CellRow, outline: shapely.Polygon) -> shapely.Geometry | None:
    """Join the nucleus's parts inside the cell; None where nothing is left."""
    parts = [part for border in cell.nuclei if (part := valid_polygon(border)) is not None]
    joined = shapely.intersection(shapely.union_all(parts), outline)
    areal = [part for part in shapely.get_parts(joined) if part.geom_type == "Polygon" and part.area > 0]
    return shapely.union_all(areal) if areal else None


def _geometry(shape: shapely.Geometry) -> Mapping[str, object]:
    rounded = shapely.set_precision(shape, 0.01)
    kept = rounded if rounded.geom_type == shape.geom_type and not rounded.is_empty else shape
    return dict(json.loads(shapely.to_geojson(kept)))


def _measurements(cell: CellRow, classes: tuple[str, ...]) -> Mapping[str, float]:
    areas = {"Area µm^2": cell.area_um2, "Nucleus: Area µm^2": cell.nucleus_area_um2}
    types = {f"Probability: {name}": float(p) for name, p in zip(classes, cell.probabilities, strict=True)}
    return {name: round(float(value), 4) for name, value in {**areas, "Confidence": cell.confidence, **types}.items()}
