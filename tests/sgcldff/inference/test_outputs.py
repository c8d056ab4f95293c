import json
import subprocess
import sys
import uuid
from pathlib import Path

import geopandas
import numpy as np
import ome_zarr_models
import pandas as pd
import pyarrow.parquet as pq
import pytest
import shapely
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ome_zarr.io import parse_url
from ome_zarr.reader import Reader

from sgcldff.core.errors import InputError
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import UNIDENTIFIED, Lineage, cell_schema
from sgcldff.inference.outputs import (
    CellRow,
    cell_polygon,
    colour_of,
    create_labels,
    write_labels_ngff,
)
from sgcldff.inference.outputs.ome_zarr import halved_by_majority
from tests.written import write_cells, write_geojson

ROOT = Path(__file__).parents[3]
LINEAGE = Lineage("ab" * 32, "sgcldff", "3", "cd" * 8, "ef" * 8, "0.1.0")
BOW_TIE = np.array([(0, 0), (10, 10), (10, 0), (0, 30)], float)


def ring(y, x, radius, count=24):
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([x + radius * np.cos(turn), y + radius * np.sin(turn)], axis=1)


def cell(number=0, label="neutrophil", outline=None, **changes):
    y, x = 40.0 + 100 * (number // 50), 60.0 + 100 * (number % 50)
    outline = ring(y, x, 30) if outline is None else outline
    chances = np.full(5, 0.05, np.float32)
    chances[FIVE_TYPES.index(label) if label in FIVE_TYPES else 0] = 0.8
    box = (y - 30, x - 30, y + 30, x + 30)
    facts = {"area_um2": 28.0, "nucleus_area_um2": 12.0, "confidence": 0.8} | changes
    return CellRow(f"c{number}", "slide", (y, x), box, outline, label=label, probabilities=chances, **facts)


outlines = hnp.arrays(
    float,
    st.tuples(st.integers(0, 9), st.just(2)),
    elements=st.one_of(st.integers(-20, 20).map(float), st.floats(-1e3, 1e3), st.just(float("nan"))),
)


@given(outlines)
@settings(max_examples=200, deadline=None)
def test_any_outline_becomes_one_valid_polygon(outline):
    polygon = cell_polygon(cell(outline=outline))
    assert polygon.geom_type == "Polygon"
    assert polygon.is_valid
    assert polygon.area > 0


def test_an_outline_without_faults_is_kept_as_it_is():
    given = ring(40, 60, 30)
    assert cell_polygon(cell(outline=given)).equals(shapely.Polygon(given))


def test_a_table_of_cells_has_the_schema_and_every_value(tmp_path):
    rows = [cell(0), cell(1, "basophil", at_edge=True), cell(2, UNIDENTIFIED, abstained=True, nucleus_area_um2=28.0)]
    path = write_cells(tmp_path / "cells.parquet", rows, FIVE_TYPES, 0.1, LINEAGE)
    assert pq.read_schema(path).equals(cell_schema(FIVE_TYPES))
    table = pd.read_parquet(path)
    assert table.label.tolist() == ["neutrophil", "basophil", UNIDENTIFIED]
    assert table.x.tolist() == [60, 160, 260]
    assert table.y_um.tolist() == pytest.approx([4, 4, 4])
    assert table[["y0", "x0", "y1", "x1"]].iloc[1].tolist() == [10, 130, 70, 190]
    assert table.probability_basophil.tolist() == pytest.approx([0.05, 0.8, 0.05])
    assert table.nucleus_cytoplasm_ratio.tolist()[:2] == pytest.approx([0.75, 0.75])
    assert pd.isna(table.nucleus_cytoplasm_ratio[2])
    assert table.at_edge.tolist() == [False, True, False]
    assert table.abstained.tolist() == [False, False, True]
    assert set(table.model_digest) == {LINEAGE.model_digest}
    assert [entry.name for entry in tmp_path.iterdir()] == ["cells.parquet"]


def test_outlines_are_geoparquet(tmp_path):
    path = write_cells(tmp_path / "cells.parquet", [cell(0), cell(7, outline=BOW_TIE)], FIVE_TYPES, 0.1, LINEAGE)
    geo = json.loads(pq.read_metadata(path).metadata[b"geo"])
    column = geo["columns"][geo["primary_column"]]
    shapes = shapely.from_wkb(pq.read_table(path)[geo["primary_column"]].to_pylist())
    assert geo["version"] == "1.1.0"
    assert (column["encoding"], column["crs"], column["edges"]) == ("WKB", None, "planar")
    assert column["geometry_types"] == sorted({shape.geom_type for shape in shapes})
    assert column["bbox"] == pytest.approx(list(shapely.total_bounds(shapes)))
    assert shapely.is_valid(shapes).all()
    read = geopandas.read_parquet(path)
    assert (read.geometry.name, read.crs, read["nucleus"].crs) == ("outline", None, None), "px are no degrees"


def test_a_slide_without_cells_gives_empty_but_readable_files(tmp_path):
    path = write_cells(tmp_path / "cells.parquet", [], FIVE_TYPES, 0.1, LINEAGE)
    assert len(pd.read_parquet(path)) == 0
    assert json.loads(pq.read_metadata(path).metadata[b"geo"])["columns"]["outline"]["geometry_types"] == []
    collection = json.loads(write_geojson(tmp_path / "cells.geojson", [], FIVE_TYPES).read_text())
    purpose = "research use only, not for diagnosis"
    assert collection == {"type": "FeatureCollection", "purpose": purpose, "features": []}


def test_a_failed_write_leaves_the_former_file(tmp_path):
    path = write_cells(tmp_path / "cells.parquet", [cell(0)], FIVE_TYPES, 0.1, LINEAGE)
    before = path.read_bytes()
    with pytest.raises(InputError, match="cell c1 has 5 probabilities for the 2 classes"):
        write_cells(path, [cell(1)], ("a", "b"), 0.1, LINEAGE)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["cells.parquet"]


def test_the_table_says_where_a_cell_lies_whether_it_counts_and_where_its_nucleus_is(tmp_path):
    lobes = (ring(30, 50, 8), ring(50, 70, 8))
    rows = [cell(0, area="monolayer", nuclei=lobes), cell(1, area="thick", counted=False), cell(2)]
    path = write_cells(tmp_path / "cells.parquet", rows, FIVE_TYPES, 0.1, LINEAGE)
    table = pd.read_parquet(path)
    assert table.area.tolist() == ["monolayer", "thick", ""]
    assert table.counted.tolist() == [True, False, True]
    assert pq.read_schema(path).metadata[b"sgcldff.layout"] == b"cells/5"
    nucleus = shapely.from_wkb(table.nucleus[0])
    assert nucleus.is_valid
    assert nucleus.equals(shapely.union_all([shapely.Polygon(lobe) for lobe in lobes]))
    assert table.nucleus[1:].isna().all()
    described = json.loads(pq.read_metadata(path).metadata[b"geo"])["columns"]["nucleus"]
    assert described["geometry_types"] == ["MultiPolygon"]
    assert described["bbox"] == pytest.approx(list(nucleus.bounds))


WRITERS = """
import resource, sys
import numpy as np
from sgcldff.core.geometry import Box
from sgcldff.counting.differential import from_counts
from sgcldff.inference.outputs import CellRow
from sgcldff.core.records import Lineage, SlideRef
from sgcldff.results.facts import slide_facts
from sgcldff.results.gallery import Gallery
from sgcldff.results.slide_page import write_report
from sgcldff.slides import ScaledSlide
from tests.written import write_cells, write_geojson

class White:
    ref = SlideRef("slide", "slide.svs", "ab", 0.1, (40000, 40000), 2)
    downsamples, shapes = (1.0, 64.0), ((40000, 40000), (625, 625))
    def read(self, box, level):
        return np.full((*box.clip(self.shapes[level]).shape, 3), 255, np.uint8)

def cells(count):
    turn = np.linspace(0, 2 * np.pi, 9)[:-1]
    shape, chances = np.stack([np.cos(turn), np.sin(turn)], axis=1), np.full(2, 0.5)
    for number in range(count):
        y, x = 40 + 80 * (number // 450), 40 + 80 * (number % 450)
        box, outline = (y - 30, x - 30, y + 30, x + 30), 30 * shape + (x, y)
        yield CellRow(f"c{number}", "slide", (y, x), box, outline, 28, 12, "ab"[number % 2], 0.5, chances, area="thick")

lineage = Lineage("ab", "m", "1", "cd", "ef", "1")
for count in (5_000, 25_000):
    folder, found = f"{sys.argv[1]}/{count}", from_counts({"a": count // 2, "b": count // 2}, "ab")
    write_cells(f"{folder}/cells.parquet", cells(count), "ab", 0.1, lineage)
    write_geojson(f"{folder}/cells.geojson", cells(count), "ab")
    write_report(folder, ScaledSlide(White(), 0.2), Gallery(cells(count)), found, slide_facts(White().ref, lineage))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""
"""Writes all of a slide's outputs with five times the cells and prints the process's peak memory, MiB, after each."""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_cells(tmp_path):
    command = [sys.executable, "-c", WRITERS, str(tmp_path)]
    few, many = map(int, subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split())
    assert many - few < 30
    assert pq.read_metadata(tmp_path / "25000" / "cells.parquet").num_rows == 25_000
    assert sum(1 for line in (tmp_path / "25000" / "cells.geojson").open() if '"Feature"' in line) == 25_000
    assert "7,500 are not shown" in (tmp_path / "25000" / "report.html").read_text()


def features(path):
    return json.loads(path.read_text(encoding="utf-8"))["features"]


def test_geojson_is_what_qupath_reads(tmp_path):
    rows = [cell(0), cell(1, "monocyte", nuclei=(ring(40, 160, 10),)), cell(2, outline=BOW_TIE)]
    found = features(write_geojson(tmp_path / "cells.geojson", rows, FIVE_TYPES))
    assert [one["properties"]["objectType"] for one in found] == ["detection", "cell", "detection"]
    assert found[1]["properties"]["classification"] == {"name": "monocyte", "color": list(colour_of("monocyte"))}
    assert shapely.geometry.shape(found[1]["nucleusGeometry"]).within(shapely.geometry.shape(found[1]["geometry"]))
    assert found[0]["properties"]["measurements"]["Probability: neutrophil"] == pytest.approx(0.8)
    for one in found:
        assert one["type"] == "Feature"
        assert shapely.geometry.shape(one["geometry"]).is_valid
        assert one["geometry"]["coordinates"][0][0] == one["geometry"]["coordinates"][0][-1]
        assert uuid.UUID(one["id"])


def test_a_nucleus_in_lobes_stays_within_its_cell(tmp_path):
    lobes = (ring(30, 50, 8), ring(50, 70, 8), ring(40, 95, 12), np.zeros((2, 2)))
    (found,) = features(write_geojson(tmp_path / "cells.geojson", [cell(0, nuclei=lobes)], FIVE_TYPES))
    nucleus = shapely.geometry.shape(found["nucleusGeometry"])
    assert nucleus.is_valid
    assert nucleus.area == pytest.approx(2 * shapely.Polygon(lobes[0]).area, rel=0.5)
    assert nucleus.difference(shapely.geometry.shape(found["geometry"]).buffer(0.05)).is_empty


def test_geojson_tells_the_area_and_cells_that_do_not_count(tmp_path):
    rows = [cell(0), cell(1, area="monolayer"), cell(2, area="thick", counted=False)]
    found = features(write_geojson(tmp_path / "cells.geojson", rows, FIVE_TYPES))
    told = [one["properties"]["metadata"] for one in found]
    assert told == [{}, {"Area of the smear": "monolayer"}, {"Area of the smear": "thick", "Counted": "no"}]


def test_the_same_cell_keeps_its_id_and_others_do_not_share_it(tmp_path):
    first = features(write_geojson(tmp_path / "a.geojson", [cell(0), cell(1)], FIVE_TYPES))
    again = features(write_geojson(tmp_path / "b.geojson", [cell(1)], FIVE_TYPES))
    assert again[0]["id"] == first[1]["id"] != first[0]["id"]


def test_every_type_has_a_colour_of_its_own():
    names = [*FIVE_TYPES, "blast", "non-blast", UNIDENTIFIED, "promyelocyte", "erythroblast"]
    assert len({colour_of(name) for name in names}) == len(names)


classes = hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 2))


@given(classes)
@settings(deadline=None)
def test_halving_takes_the_most_frequent_label(labels):
    even = np.pad(labels, ((0, labels.shape[0] % 2), (0, labels.shape[1] % 2)), "edge")
    small = halved_by_majority(labels)
    assert small.shape == (-(-labels.shape[0] // 2), -(-labels.shape[1] // 2))
    for y, x in np.ndindex(small.shape):
        counts = np.bincount(even[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel(), minlength=3)
        assert small[y, x] == max(range(3), key=lambda label: (counts[label], label))


@pytest.fixture
def written(tmp_path):
    """A label image of 700x1301 px at 0.2 um/px under an overview at 1.0 um/px, and the labels that went in."""
    truth = np.zeros((700, 1301), np.uint8)
    truth[100:180, 200:290], truth[120:150, 220:260], truth[690:, 1290:] = 1, 2, 1
    array = create_labels(tmp_path / "slide.zarr", truth.shape, 128, 512)
    array[:] = truth
    overview = np.random.default_rng(0).integers(0, 256, (140, 260, 3), dtype=np.uint8)
    return write_labels_ngff(tmp_path / "slide.zarr", 0.2, overview, 1.0), truth, overview


def test_ngff_passes_the_validating_models(written):
    root, _, _ = written
    for part in (root, root / "labels", root / "labels" / "segmentation"):
        group = zarr.open_group(part, mode="r")
        assert group.attrs["ome"]["version"] == "0.5"
        assert ome_zarr_models.open_ome_zarr(group) is not None
    assert isinstance(ome_zarr_models.open_ome_zarr(root), ome_zarr_models.v05.Image)
    label = ome_zarr_models.v05.ImageLabel.from_zarr(zarr.open_group(root / "labels" / "segmentation", mode="r"))
    assert {axis.unit for axis in label.ome_attributes.multiscales[0].axes} == {"micrometer"}


def test_ome_zarr_reads_image_and_labels_back(written):
    root, truth, overview = written
    image, *rest = list(Reader(parse_url(root))())
    np.testing.assert_array_equal(np.moveaxis(np.asarray(image.data[0]), 0, 2), overview)
    labels = next(node for node in rest if "segmentation" in str(node.zarr))
    np.testing.assert_array_equal(np.asarray(labels.data[0]), truth)
    assert [level.shape for level in labels.data] == [(700, 1301), (350, 651), (175, 326)]
    np.testing.assert_array_equal(np.asarray(labels.data[2]), halved_by_majority(halved_by_majority(truth)))
    assert labels.metadata["color"][2][3] > 0


def test_levels_and_overview_cover_the_same_microns(written):
    root, truth, _ = written
    for folder, start in ((root, "overview"), (root / "labels" / "segmentation", "labels")):
        group = zarr.open_group(folder, mode="r")
        for dataset in group.attrs["ome"]["multiscales"][0]["datasets"]:
            scale, shift = dataset["coordinateTransformations"]
            side = group[dataset["path"]].shape[-1]
            left = shift["translation"][-1] - scale["scale"][-1] / 2
            assert left == pytest.approx(0), start
            assert left + side * scale["scale"][-1] == pytest.approx(truth.shape[1] * 0.2, abs=scale["scale"][-1])


def test_finishing_twice_gives_the_same_bytes(written):
    root, _, overview = written
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    write_labels_ngff(root, 0.2, overview, 1.0)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


def test_labels_of_another_slide_are_not_written_over(tmp_path):
    create_labels(tmp_path / "slide.zarr", (300, 400), 128, 512)[0, 0] = 2
    assert create_labels(tmp_path / "slide.zarr", (300, 400), 128, 512)[0, 0] == 2
    with pytest.raises(InputError, match=r"\(300, 400\), not \(300, 500\)"):
        create_labels(tmp_path / "slide.zarr", (300, 500), 128, 512)


GIANT = """
import resource, sys
import numpy as np
from sgcldff.inference.outputs import create_labels, write_labels_ngff

labels = create_labels(sys.argv[1], (65536, 65536), 256, 8192)
block = np.zeros((8192, 8192), np.uint8)
block[4000:4100, 300:400] = 2
for y, x in ((0, 0), (3, 5), (7, 7)):
    labels[8192 * y : 8192 * (y + 1), 8192 * x : 8192 * (x + 1)] = block
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
write_labels_ngff(sys.argv[1], 0.2, np.zeros((512, 512, 3), np.uint8), 25.6)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
"""Makes the pyramid of 64k x 64k labels with three cells and prints by how many MiB the peak memory rose."""


@pytest.mark.slow
def test_a_pyramid_of_64k_labels_needs_little_memory_and_leaves_empty_shards_unwritten(tmp_path):
    root = tmp_path / "slide.zarr"
    command = [sys.executable, "-c", GIANT, str(root)]
    rise = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert rise < 150
    levels = root / "labels" / "segmentation"
    written = [sum(path.is_file() for path in (levels / str(level) / "c").rglob("*")) for level in range(8)]
    assert written == [3, 3, 3, 1, 1, 1, 1, 1]
    coarse = zarr.open_array(levels / "3", mode="r")
    assert coarse.shape == (8192, 8192)
    assert (coarse[3 * 1024 + 500 : 3 * 1024 + 512, 5 * 1024 + 38 : 5 * 1024 + 50] == 2).all()
    assert np.count_nonzero(coarse) == pytest.approx(3 * 100 * 100 / 64, rel=0.1)


@pytest.mark.parametrize(("chunk", "shard"), [(64, 64), (64, 192), (128, 512)])
def test_pyramids_do_not_depend_on_how_labels_are_stored(tmp_path, chunk, shard):
    labels = np.zeros((1100, 1501), np.uint8)
    labels[5:400, 30:300], labels[1090:, 1400:], labels[700:720, 190:195] = 1, 2, 2
    create_labels(tmp_path / "slide.zarr", labels.shape, chunk, shard)[:] = labels
    root = write_labels_ngff(tmp_path / "slide.zarr", 0.2, np.zeros((110, 150, 3), np.uint8), 2.0)
    for level in range(3):
        np.testing.assert_array_equal(zarr.open_array(root / "labels" / "segmentation" / str(level))[:], labels)
        labels = halved_by_majority(labels)
