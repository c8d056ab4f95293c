"""Cells as SpatialData: read by the libraries on which it is built, and by spatialdata itself where there is one."""

import json
import os
import subprocess
from dataclasses import replace

import geopandas
import numpy as np
import pandas as pd
import pytest
import zarr

from sgcldff.inference import serially
from sgcldff.results.exports import update_exports
from sgcldff.results.slide import read_slide_job
from tests.damage.kept import files_digest
from tests.sgcldff.painted import ColourModel, saved
from tests.sgcldff.results.reviewing import review_first

pytestmark = pytest.mark.slow

PYTHON = os.environ.get("SGCLDFF_SPATIALDATA_PYTHON")
"""Interpreter with spatialdata, which needs older packages than sgcldff does."""
READ = """
import json, sys
import spatialdata
read = spatialdata.read_zarr(sys.argv[1])
table, shapes = read.tables["table"], sorted(read.shapes)
said = {"shapes": shapes, "rows": table.n_obs, "spaces": sorted(read.coordinate_systems)}
if shapes:
    matched, rows = spatialdata.match_element_to_table(read, "cells", "table")
    centres = matched["cells"].centroid
    said["apart"] = float(abs(rows.obsm["spatial"] - centres.get_coordinates().to_numpy()).max())
    um = spatialdata.transform(read.shapes["cells"], to_coordinate_system="micrometer")
    said["areas"] = list(um.area)
print(json.dumps(said))
"""


@pytest.fixture
def exported(job):
    job = replace(job, spec=replace(job.spec, embeddings=True), also=("spatialdata",))
    read_slide_job(job, serially(ColourModel()))
    return job.folder


def frame(group):
    """Read a data frame as AnnData stores it."""
    columns = {}
    for name in group.attrs["column-order"]:
        held = group[name]
        coded = isinstance(held, zarr.Group)
        columns[name] = pd.Categorical.from_codes(held["codes"][:], held["categories"][:]) if coded else held[:]
    return pd.DataFrame(columns, index=group[group.attrs["_index"]][:])


def test_the_table_has_the_cells_and_describes_the_shapes(exported):
    root = zarr.open_group(exported / "cells.spatialdata.zarr", mode="r")
    cells, table = pd.read_parquet(exported / "cells.parquet"), root["tables/table"]
    obs = frame(table["obs"])
    assert obs.index.tolist() == cells.cell_id.tolist()
    for name in ("label", "confidence", "counted", "area_um2", "instance"):
        assert obs[name].tolist() == cells[name].tolist()
    types = frame(table["var"]).index
    np.testing.assert_array_equal(table["X"][:], cells[[f"probability_{name}" for name in types]])
    np.testing.assert_array_equal(table["obsm/spatial"][:], cells[["x", "y"]])
    np.testing.assert_array_equal(table["obsm/embedding"][:], np.stack(cells.embedding))
    assert table.attrs["region"] == obs.region.unique().item() == "cells"
    assert root.attrs["sgcldff"]["lineage"]["slide_sha256"] == cells.slide_sha256[0]
    assert not [path for path in root.store.root.rglob("*") if path.name.endswith((".tif", ".jpg"))]


def test_shapes_are_those_of_the_table_in_no_geographic_system(exported):
    cells = geopandas.read_parquet(exported / "cells.parquet").set_index("instance")
    for name, column in (("cells", "outline"), ("nuclei", "nucleus")):
        shapes = geopandas.read_parquet(exported / "cells.spatialdata.zarr" / "shapes" / name / "shapes.parquet")
        assert shapes.crs is None
        assert shapes.index.tolist() == cells.index.tolist()
        assert shapes.geometry.geom_equals(cells[column]).all()


def test_reviews_arrive_in_the_table(exported):
    review_first(exported)
    obs = frame(zarr.open_group(exported / "cells.spatialdata.zarr", mode="r")["tables/table/obs"])
    assert obs.reviewed_label.tolist()[:2] == ["monocyte", "basophil"]
    assert obs.reviewed_label[2:].isna().all()


def test_the_same_results_give_the_same_files(exported):
    before = files_digest(exported / "cells.spatialdata.zarr")
    update_exports(exported)
    assert files_digest(exported / "cells.spatialdata.zarr") == before


def by_spatialdata(folder):
    command = [PYTHON, "-c", READ, str(folder / "cells.spatialdata.zarr")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(PYTHON is None, reason="SGCLDFF_SPATIALDATA_PYTHON names no interpreter with spatialdata")
def test_spatialdata_reads_it(exported, job, tmp_path):
    cells, read = pd.read_parquet(exported / "cells.parquet"), by_spatialdata(exported)
    assert (read["shapes"], read["rows"]) == (["cells", "nuclei"], len(cells))
    assert read["spaces"] == ["global", "micrometer"]
    assert read["apart"] < 2
    assert read["areas"] == pytest.approx(cells.area_um2.tolist(), rel=0.05)
    saved(tmp_path, np.full((300, 300, 3), 236, np.uint8))
    read_slide_job(replace(job, also=("spatialdata",)), serially(ColourModel()))
    assert by_spatialdata(job.folder)["rows"] == 0
