"""What an inferred slide leaves behind: a table of cells, outlines for QuPath, label images for napari."""

from sgcldff.inference.outputs.cells import CellRow, cell_polygon, cell_writer, in_batches
from sgcldff.inference.outputs.colours import colour_of
from sgcldff.inference.outputs.geojson import geojson_writer
from sgcldff.inference.outputs.ome_zarr import (
    Halving,
    create_instances,
    create_labels,
    finest_labels,
    labels_metadata,
    paint_shard,
    write_labels_ngff,
)
from sgcldff.inference.outputs.shard_files import ShardFiles

__all__ = [
    "CellRow",
    "Halving",
    "ShardFiles",
    "cell_polygon",
    "cell_writer",
    "colour_of",
    "create_instances",
    "create_labels",
    "finest_labels",
    "geojson_writer",
    "in_batches",
    "labels_metadata",
    "paint_shard",
    "write_labels_ngff",
]
