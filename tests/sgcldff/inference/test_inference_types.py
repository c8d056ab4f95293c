"""What is said of the cells of a slide: place, type, border, id, and when the model abstains."""

from dataclasses import replace

import numpy as np
import pytest

from sgcldff.core.errors import InputError
from sgcldff.core.records import ATYPICAL, UNCERTAIN, UNIDENTIFIED
from sgcldff.core.settings import ModelSpec
from sgcldff.inference import (
    committed_work,
    read_cells,
)
from sgcldff.models.out_of_distribution import fit
from sgcldff.slides import open_slide
from tests.sgcldff.inference.reading import inferred
from tests.sgcldff.painted import (
    CENTRES,
    NUCLEI,
    SHAPE,
    SPEC,
    ColourModel,
    paint,
    saved,
)

pytestmark = pytest.mark.slow


def test_cells_lie_where_they_were_painted_at_level_0(tmp_path):
    centres = [(100, 120), (300, 420), (610, 240)]
    plan = inferred(open_slide(saved(tmp_path, paint((700, 600), centres, factor=2), mpp=0.1)), tmp_path / "out")
    cells = sorted(read_cells(plan), key=lambda cell: cell.centroid)
    for cell, (y, x) in zip(cells, centres, strict=True):
        assert np.hypot(cell.centroid[0] - y, cell.centroid[1] - x) < 2
        assert np.allclose(cell.box, (y - 60, x - 60, y + 60, x + 60), atol=3)
        assert cell.area_um2 == pytest.approx(np.pi * 6**2, rel=0.05)
        assert 0 < cell.nucleus_area_um2 < cell.area_um2
        assert np.allclose(cell.outline.mean(axis=0), (x, y), atol=6)
        assert all(np.abs(part - (x, y)).max() < 60 for part in cell.nuclei)


def test_every_cell_is_typed_by_its_own_crop(slide, tmp_path):
    plan = inferred(slide, tmp_path)
    classes = plan.model.labels.classes
    seen = 0
    for cell in read_cells(plan):
        distance, kind = min(
            (np.hypot(cell.centroid[0] - y, cell.centroid[1] - x), k % 2) for k, (y, x) in enumerate(CENTRES)
        )
        if distance < 3:
            seen += 1
            assert (cell.label, cell.confidence) == (classes[kind], pytest.approx(0.8))
            assert cell.probabilities[kind] == pytest.approx(0.8)
            assert not cell.abstained
    assert seen >= 10


def test_cells_that_the_border_cuts_are_marked(slide, tmp_path):
    for cell in read_cells(inferred(slide, tmp_path)):
        (y, x), (height, width) = cell.centroid, SHAPE
        cut = min(y, x, height - y, width - x) < 28
        assert cell.at_edge == cut


def test_ids_and_lineage_name_the_origin(slide, tmp_path):
    plan = inferred(slide, tmp_path)
    cells = list(read_cells(plan))
    assert len({cell.cell_id for cell in cells}) == len(cells)
    assert {cell.slide_id for cell in cells} == {"slide"}
    assert (plan.lineage.slide_sha256, plan.lineage.model_version) == (slide.ref.sha256, "7")


def test_less_confidence_than_asked_for_is_no_type_and_costs_no_work(slide, tmp_path):
    inferred(slide, tmp_path)
    again = ColourModel()
    plan = inferred(slide, tmp_path, replace(SPEC, min_confidence=0.9, batch_size=5), again)
    cells = list(read_cells(plan))
    assert {cell.label for cell in cells} == {UNIDENTIFIED}
    assert all(cell.abstained and cell.confidence == pytest.approx(0.8) for cell in cells)
    assert (again.tiles, again.crops) == (0, 0)


def test_a_model_brings_its_own_limit_of_confidence_unless_another_is_asked_for(slide, tmp_path):
    careful = ColourModel(spec=ModelSpec(crop_px=96, min_confidence=0.9))
    own = list(read_cells(inferred(slide, tmp_path, SPEC, careful)))
    assert own
    assert {(cell.label, cell.abstained_for) for cell in own} == {(UNIDENTIFIED, UNCERTAIN)}
    for limit in (0, 0.5):
        named = list(read_cells(inferred(slide, tmp_path, replace(SPEC, min_confidence=limit), careful)))
        assert UNIDENTIFIED not in {cell.label for cell in named}


def test_cells_unlike_those_of_the_training_are_no_type_and_the_limit_costs_no_work(slide, tmp_path):
    """The embedding is the colour in the middle: cells of the second type's blue are far from the training's."""
    blue = np.array([NUCLEI[0]] * 3, np.float32)
    typicality = fit(blue + np.eye(3), [""] * 3, blue + np.arange(3, dtype=np.float32)[:, None] * 4)
    model = ColourModel(typicality=typicality)
    scores = {cell.cell_id: cell.typicality for cell in read_cells(inferred(slide, tmp_path, SPEC, model))}
    assert {round(4 * score) for score in scores.values()} == {1, 4}
    again = ColourModel(typicality=typicality)
    strict = replace(SPEC, min_typicality=0.3, min_confidence=0.9)
    for cell in read_cells(inferred(slide, tmp_path, strict, again)):
        assert cell.typicality == scores[cell.cell_id]
        assert (cell.label, cell.abstained) == (UNIDENTIFIED, True)
        assert cell.abstained_for == (ATYPICAL if cell.typicality < 0.3 else UNCERTAIN)
    assert (again.tiles, again.crops) == (0, 0)
    assert committed_work(inferred(slide, tmp_path, replace(strict, min_confidence=0), again)).cells[UNIDENTIFIED] > 0


def test_a_model_that_does_not_know_its_training_cells_cannot_refuse_any(slide, tmp_path):
    assert {cell.typicality for cell in read_cells(inferred(slide, tmp_path))} == {None}
    with pytest.raises(InputError, match=r"min_typicality is 0\.1, but the model has no reference"):
        inferred(slide, tmp_path, replace(SPEC, min_typicality=0.1))
    known = ColourModel(typicality=fit(np.eye(3, dtype=np.float32), [""] * 3, np.eye(3, dtype=np.float32)))
    assert None not in {cell.typicality for cell in read_cells(inferred(slide, tmp_path, SPEC, known))}
    assert (known.tiles, known.crops > 0) == (0, True), "cells are typed again, nothing is segmented again"
