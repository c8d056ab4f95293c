"""What the script of a slide's report reads: cells with outlines and figures, in px of the sharpest pictures."""

from collections.abc import Sequence

import numpy as np
import shapely

from sgcldff.inference.outputs.cells import CellRow, Shapes
from sgcldff.inference.outputs.colours import hex_of
from sgcldff.results.gallery import Ringed, ShownType
from sgcldff.results.zoom import TILE_PX, Zoom
from sgcldff.slides.scaled import ScaledSlide

SIMPLIFIED_UM = 0.15
"""How far the outlines drawn may be from those found."""

Figures = dict[str, object]


def viewer_content(
    types: Sequence[ShownType], classes: Sequence[str], zoom: Zoom, folder: str, ring_um: float
) -> Figures:
    """Return what the script needs, ready for JSON; lengths in px of `zoom.sharp` unless they say otherwise.

    Parameters
    ----------
    folder
        Of the pictures, from the page.
    ring_um
        Radius of the rings.
    """
    sharp = zoom.sharp
    height, width = (side / sharp.factor for side in sharp.source.ref.shape)
    return {
        "width": width,
        "height": height,
        "mpp": sharp.mpp,
        "perPixel": sharp.factor,
        "ring": ring_um / sharp.mpp,
        "folder": folder,
        "overview": zoom.beside,
        "tilePx": TILE_PX,
        "tiles": [f"{row}-{column}" for row, column in zoom.tiles],
        "classes": list(classes),
        "types": [{"label": shown.label, "colour": hex_of(shown.label)} for shown in types],
        "cells": [figures for number, shown in enumerate(types) for figures in _figures(number, shown, sharp)],
    }


def _figures(number: int, shown: ShownType, sharp: ScaledSlide) -> list[Figures]:
    detailed = {cell.cell_id: _detail(cell, shapes, sharp) for cell, shapes in shown.detailed}
    return [_figure(cell, number, sharp.factor) | detailed.get(cell.cell_id, {}) for cell in shown.ringed]


def _figure(cell: Ringed, number: int, factor: float) -> Figures:
    y, x = cell.centroid
    return {
        "id": cell.cell_id,
        "type": number,
        "x": round(x / factor, 1),
        "y": round(y / factor, 1),
        "confidence": round(cell.confidence, 3),
        "area": round(cell.area_um2, 1),
        "nucleus": round(cell.nucleus_area_um2, 1),
    }


def _detail(cell: CellRow, shapes: Shapes, sharp: ScaledSlide) -> Figures:
    outline, nucleus = shapes
    known = {"typicality": cell.typicality, "onCell": cell.on_cell}
    return {
        "label": cell.label,
        "probabilities": [round(float(p), 4) for p in cell.probabilities],
        "smear": cell.area,
        "atEdge": cell.at_edge,
        "outlines": _rings(outline, sharp),
        "nuclei": [] if nucleus is None else _rings(nucleus, sharp),
        **{name: round(float(value), 3) for name, value in known.items() if value is not None},
    }


def _rings(shape: shapely.Geometry, sharp: ScaledSlide) -> list[list[list[float]]]:
    """Simplify a shape; return the borders of its parts as (y, x), as the map takes them."""
    return [
        np.round(shapely.get_coordinates(part.exterior)[:-1, ::-1] / sharp.factor, 1).tolist()
        for part in shapely.get_parts(shapely.simplify(shape, SIMPLIFIED_UM / sharp.source.ref.mpp))
        if part.geom_type == "Polygon" and not part.is_empty
    ]
