"""What an inferred slide leaves behind: a table of cells, outlines for QuPath, label images for napari."""

from sgcldff.inference.outputs.cells import CellRow, cell_polygon, cell_writer, in_batches, write_cells
from sgcldff.inference.outputs.colours import colour_of
from sgcldff.inference.outputs.geojson import geojson_writer, write_geojson
from sgcldff.inference.outputs.ome_zarr import (
    create_labels,
    finest_labels,
    instance_writer,
    labels_metadata,
    write_labels_ngff,
)

__all__ = [
    "CellRow",
    "cell_polygon",
    "cell_writer",
    "colour_of",
    "create_labels",
    "finest_labels",
    "geojson_writer",
    "in_batches",
    "instance_writer",
    "labels_metadata",
    "write_cells",
    "write_geojson",
    "write_labels_ngff",
]
