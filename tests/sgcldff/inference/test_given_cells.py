"""Cells that others outlined are classified where they lie, and keep their ids."""

import json
from dataclasses import replace

import pytest
import shapely

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.inference import keep_outlines, plan_slide, read_cells, read_outlines, run_plan, serially
from sgcldff.slides import ScaledSlide
from tests.sgcldff.inference.reading import REFERENCE, inferred
from tests.sgcldff.painted import SPEC, ColourModel
from tests.written import write_cells, write_geojson


@pytest.fixture(scope="module")
def found(slide, tmp_path_factory):
    """The plan of an ordinary reading."""
    return inferred(slide, tmp_path_factory.mktemp("found"))


def classified(slide, folder, file):
    model = ColourModel()
    plan = plan_slide(slide, model.spec, replace(REFERENCE, digest=model.digest), SPEC, folder, given=file.name)
    keep_outlines(plan, read_outlines(file, slide.ref))
    tallies = []
    run_plan(plan, serially(model), tallies.append)
    assert not any(tally.tiles for tally in tallies)
    return plan


def written(found, path):
    cells, classes = list(read_cells(found)), found.model.labels.classes
    if path.suffix == ".parquet":
        return write_cells(path, cells, classes, found.slide.mpp, found.lineage)
    return write_geojson(path, cells, classes)


def by_place(plan):
    return sorted(read_cells(plan), key=lambda cell: cell.centroid)


@pytest.mark.parametrize("name", ["cells.geojson", "cells.parquet"])
def test_own_results_that_come_back_give_the_same_cells(slide, found, tmp_path, name):
    file = written(found, tmp_path / name)
    plan = classified(slide, tmp_path / "out", file)
    for ours, given in zip(by_place(found), by_place(plan), strict=True):
        assert given.centroid == pytest.approx(ours.centroid, abs=1.0)
        assert given.label == ours.label
        assert given.area_um2 == pytest.approx(ours.area_um2, rel=0.1)
        assert given.nucleus_area_um2 == pytest.approx(ours.nucleus_area_um2, rel=0.15)
        assert shapely.Polygon(given.outline).symmetric_difference(shapely.Polygon(ours.outline)).area < 2
    drawn = plan.label_files.read(found.grid.shard(0).grow(10**6))
    assert sum(int((labels > 0).sum()) for _, labels in drawn) > 0


def test_ids_are_kept_annotations_left_out_and_nuclei_not_needed(slide, tmp_path):
    def feature(**more):
        ring = [[60.0, 60.0], [110.0, 60.0], [110.0, 120.0], [60.0, 120.0], [60.0, 60.0]]
        return {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]}, **more}

    file = tmp_path / "drawn.geojson"
    region = feature(properties={"objectType": "annotation"})
    file.write_text(json.dumps([feature(id="mine", properties={"objectType": "detection"}), region]))
    (cell,) = read_cells(classified(slide, tmp_path / "out", file))
    assert cell.cell_id == "mine"
    assert cell.centroid == pytest.approx((90.0, 85.0))
    factor = ScaledSlide(slide, found_mpp := ColourModel().spec.mpp).factor
    assert cell.area_um2 == pytest.approx(50 * 60 / factor**2 * found_mpp**2, rel=0.01)
    assert (cell.nucleus_area_um2, cell.nuclei) == (0, ())


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "cannot be read"),
        ('{"type": "FeatureCollection", "features": []}', "holds no outline"),
        ('[{"geometry": {"type": "Point", "coordinates": [1, 2]}}]', "outline 1 .* encloses no area"),
        (
            '[{"geometry": {"type": "Polygon", "coordinates": [[[9e6, 0], [9e6, 9], [8e6, 9], [9e6, 0]]]}}]',
            "1 of 1 outl",
        ),
    ],
)
def test_outlines_that_are_of_no_use_are_named(slide, tmp_path, content, complaint):
    file = tmp_path / "cells.geojson"
    file.write_text(content)
    with pytest.raises(InputError, match=rf"cells\.geojson: .*{complaint}"):
        read_outlines(file, slide.ref)


def test_other_files_are_refused(slide, tmp_path):
    with pytest.raises(InputError, match="none of"):
        read_outlines(tmp_path / "cells.csv", slide.ref)
    with pytest.raises(MissingInputError, match="no such file"):
        read_outlines(tmp_path / "cells.geojson", slide.ref)
