"""SpatialData for scverse tools: outlines of cells and nuclei as shapes, annotated by a table of the cells.

The files are those that spatialdata 0.5 and later write themselves (Zarr 3; shapes 0.3, tables 0.2, AnnData 0.1). The
slide is named by its id and digest, and not copied.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely
import zarr
from numpy.typing import NDArray

from sgcldff.core.atomic import atomic_write
from sgcldff.core.json_file import read_json
from sgcldff.core.parquet_file import read_table
from sgcldff.core.records import PROBABILITY
from sgcldff.inference.outputs.cells import MEASURES
from sgcldff.results.exports.base import Export
from sgcldff.results.folder import CELLS, DIFFERENTIAL, READ_AGAIN, REVIEWED_CELLS

FILE = "cells.spatialdata.zarr"
SHAPES = {"cells": "outline", "nuclei": "nucleus"}
"""Shapes -> column of the table of cells; the index of both is `instance`."""
ANNOTATION = {"region": "cells", "region_key": "region", "instance_key": "instance"}
"""Which shapes the rows of the table describe: each the one whose index is its `instance`."""
AXES = [{"name": name, "type": "space", "unit": "unit"} for name in ("x", "y")]
OBS = (*MEASURES, "nucleus_cytoplasm_ratio")
"""Columns of cells that are columns of `obs`."""


def write(folder: Path) -> Path:
    """Write `cells.spatialdata.zarr` from a slide's cells, and what people said of them.

    Raises
    ------
    InputError, StoreError
        If results are missing or damaged.
    """
    cells, content = read_table(folder / CELLS, READ_AGAIN), read_json(folder / DIFFERENTIAL, READ_AGAIN)
    if (folder / REVIEWED_CELLS).exists():
        reviewed = read_table(folder / REVIEWED_CELLS, READ_AGAIN)
        cells = cells.append_column("reviewed_label", reviewed["reviewed_label"])
    instance = cells["instance"].cast(pa.int64())
    mpp = content["scale"]["mpp"]
    origin = {"slide_id": content["slide_id"], "mpp": mpp, "lineage": content["lineage"]}
    with atomic_write(folder / FILE) as draft:
        root = zarr.open_group(draft, mode="w", zarr_format=3)
        root.attrs.put({"spatialdata_attrs": {"version": "0.2"}, "sgcldff": origin})
        for name, column in SHAPES.items():
            rows = pa.table({"instance": instance, "geometry": cells[column]}).drop_null()
            if len(rows):  # spatialdata refuses shapes without any
                _write_shapes(draft, root.create_group(f"shapes/{name}"), rows, mpp)
        _write_annotations(root, cells)
        shutil.rmtree(folder / FILE, ignore_errors=True)
    return folder / FILE


def _write_shapes(folder: Path, group: zarr.Group, rows: pa.Table, mpp: float) -> None:
    """Write numbers and polygons as GeoParquet in px of level 0, which are "global", and say how to turn them to um."""
    identity, scale = {"type": "identity"}, {"type": "scale", "scale": [mpp, mpp]}
    spaces: dict[str, Any] = {"global": identity, "micrometer": scale}
    group.attrs.put(
        {
            "encoding-type": "ngff:shapes",
            "axes": ["x", "y"],
            "coordinateTransformations": [
                {**change, "input": {"name": "xy", "axes": AXES}, "output": {"name": name, "axes": AXES}}
                for name, change in spaces.items()
            ],
            "spatialdata_attrs": {"version": "0.3"},
        }
    )
    shapes = shapely.from_wkb(rows[1].to_pylist())
    kinds, bounds = sorted({shape.geom_type for shape in shapes}), shapely.total_bounds(shapes).tolist()
    column = {"encoding": "WKB", "crs": None, "geometry_types": kinds, "bbox": bounds}
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    table = pa.Table.from_pandas(rows.to_pandas().set_index("instance"))
    table = table.replace_schema_metadata({**table.schema.metadata, "geo": json.dumps(geo)})
    pq.write_table(table, folder / group.path / "shapes.parquet")


def _write_annotations(root: zarr.Group, cells: pa.Table) -> None:
    """Write an AnnData of one row per cell: probabilities as X, measures as `obs`, place and embedding as `obsm`."""
    probabilities = [name for name in cells.column_names if name.startswith(PROBABILITY)]
    measures = [name for name in (*OBS, "reviewed_label") if name in cells.column_names]
    region = pa.chunked_array([pa.array([ANNOTATION["region"]] * len(cells), pa.string())])
    obs = {"cell_id": cells["cell_id"], "region": region, "instance": cells["instance"].cast(pa.int64())}
    obsm = {"spatial": _stacked(cells, ["x", "y"])}
    if "embedding" in cells.column_names and len(cells):
        obsm["embedding"] = np.stack(cells["embedding"].to_numpy())
    annotation = ANNOTATION if len(cells) else {}
    elements: Mapping[str, Any] = {
        "X": _stacked(cells, probabilities),
        "obs": pa.table(obs | {name: cells[name] for name in measures}),
        "var": pa.table({"type": [name.removeprefix(PROBABILITY) for name in probabilities]}),
        "obsm": obsm,
        "uns": {"spatialdata_attrs": annotation} if annotation else {},
        **{name: {} for name in ("layers", "obsp", "varm", "varp")},
    }
    table = _write_elements(root, "tables/table", elements, "anndata", "0.1.0")
    table.attrs.update({"spatialdata-encoding-type": "ngff:regions_table", **annotation, "version": "0.2"})


def _stacked(table: pa.Table, columns: list[str]) -> NDArray[np.generic]:
    return np.stack([table[name].to_numpy() for name in columns], axis=1)


def _write_elements(
    group: zarr.Group, name: str, elements: Mapping[str, Any], encoding: str = "dict", version: str = "0.1.0"
) -> zarr.Group:
    inner = group.create_group(name)
    inner.attrs.put({"encoding-type": encoding, "encoding-version": version})
    for key, element in elements.items():
        _write_element(inner, key, element)
    return inner


def _write_element(group: zarr.Group, name: str, element: Any) -> None:
    """Write a dictionary, a data frame (its first column is the index), a column, an array or text as AnnData does."""
    if isinstance(element, Mapping):
        _write_elements(group, name, element)
    elif isinstance(element, pa.Table):
        index, *columns = element.column_names
        frame = {index: element[index].to_numpy(), **{column: element[column] for column in columns}}
        written = _write_elements(group, name, frame, "dataframe", "0.2.0")
        written.attrs.update({"_index": index, "column-order": columns})
    elif isinstance(element, pa.ChunkedArray) and pa.types.is_string(element.type):
        coded = element.combine_chunks().dictionary_encode()
        codes = coded.indices.fill_null(-1).to_numpy().astype(np.int16)
        parts = {"codes": codes, "categories": coded.dictionary.to_numpy(zero_copy_only=False)}
        _write_elements(group, name, parts, "categorical", "0.2.0").attrs.update({"ordered": False})
    else:
        values = element.to_numpy() if isinstance(element, pa.ChunkedArray) else np.asarray(element)
        text = values.dtype.kind in "OU"
        encoding = ("string" if values.ndim == 0 else "string-array") if text else "array"
        array = group.create_array(
            name, shape=values.shape, dtype=str if text else values.dtype, chunks=tuple(max(1, n) for n in values.shape)
        )
        array.attrs.put({"encoding-type": encoding, "encoding-version": "0.2.0"})
        array[...] = values


EXPORT = Export(FILE, write)
