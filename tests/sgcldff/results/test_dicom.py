"""Cells and differential of a DICOM slide as DICOM: read back by highdicom, with what the slide's files say of it."""

import shutil
from dataclasses import replace

import highdicom
import numpy as np
import pandas as pd
import pytest
import shapely
from pydicom import dcmread

from sgcldff.core.errors import InputError
from sgcldff.counting.differential import read_differential
from sgcldff.inference import serially
from sgcldff.results.exports import update_exports
from sgcldff.results.review.sign import sign
from sgcldff.results.slide import read_slide_job
from sgcldff.slides import SlideEntry
from tests.sgcldff.dicom import STUDY, write_series
from tests.sgcldff.painted import ColourModel, paint
from tests.sgcldff.results.reviewing import review_first

pytestmark = pytest.mark.slow


@pytest.fixture
def dicom_job(job, tmp_path):
    image = paint((300, 300), [(40, 40), (128, 130), (60, 200), (200, 60)], reds=20)
    write_series(tmp_path / "series", image, 0.2)
    entry = SlideEntry(str(tmp_path / "series" / "level-1.dcm"), None, "slide")
    return replace(job, slide=entry, also=("dicom",), out=str(tmp_path / "results"))


@pytest.fixture
def exported(dicom_job):
    read_slide_job(dicom_job, serially(ColourModel()))
    return dicom_job.folder


def groups_of(folder):
    annotations = highdicom.ann.annread(folder / "dicom" / "annotations.dcm")
    return {group.label: group for group in annotations.get_annotation_groups()}


def measured(folder):
    report = highdicom.sr.srread(folder / "dicom" / "report.dcm")
    return {
        group.tracking_identifier: {one.name.meaning: one.value for one in group.get_measurements()}
        for group in report.content.get_image_measurement_groups()
    }


def test_each_type_is_a_group_of_its_outlines_with_confidence_and_area(exported):
    cells, groups = pd.read_parquet(exported / "cells.parquet"), groups_of(exported)
    assert set(groups) == set(cells.label)
    for label, group in groups.items():
        own = cells[cells.label == label]
        drawn = [shapely.Polygon(corners) for corners in group.get_graphic_data("2D")]
        assert all(shape.equals(cell) for shape, cell in zip(drawn, shapely.from_wkb(own.outline), strict=True))
        names, values, units = group.get_measurements()
        assert [(name.meaning, unit.value) for name, unit in zip(names, units, strict=True)] == [
            ("confidence", "1"),
            ("Area", "um2"),
        ]
        np.testing.assert_allclose(values, own[["confidence", "area_um2"]], rtol=1e-6)
        assert group.algorithm_type.value == "AUTOMATIC"


def test_both_belong_to_the_slides_patient_study_and_finest_level(exported):
    for name in ("annotations", "report"):
        found = dcmread(exported / "dicom" / f"{name}.dcm")
        assert (found.PatientName, found.PatientID, found.StudyInstanceUID) == ("Doe^Jane", "P1", STUDY)
        assert found.SeriesInstanceUID != f"{STUDY}.1"
    annotations = dcmread(exported / "dicom" / "annotations.dcm")
    assert [image.ReferencedSOPInstanceUID for image in annotations.ReferencedImageSequence] == [f"{STUDY}.1.2"]
    assert annotations.ContainerIdentifier == "smear-1"
    (study,) = found.CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    assert series.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == f"{STUDY}.1.2"


def test_the_report_has_the_figures_of_the_differential(exported):
    found, told = read_differential(exported / "differential.json"), measured(exported)
    assert told["white cells"]["counted"] == found.counted
    for share in found.shares:
        figures = told[share.label]
        ends = (figures["low end of the interval"], figures["high end of the interval"])
        assert figures["counted"] == share.count
        assert figures[f"{share.label} per 100 white cells"] == pytest.approx(100 * share.share, abs=0.01)
        assert ends == pytest.approx((100 * share.low, 100 * share.high), abs=0.01)


def test_reviews_move_cells_and_signatures_make_it_final(exported):
    before = dcmread(exported / "dicom" / "report.dcm")
    assert before.PreliminaryFlag == "PRELIMINARY"
    review_first(exported)
    groups = groups_of(exported)
    assert {"monocyte", "basophil"} <= set(groups)
    assert groups["monocyte"].algorithm_type.value == "SEMIAUTOMATIC"
    assert measured(exported)["monocyte"]["counted"] == 1
    sign(exported, "Dr. Blum")
    after = dcmread(exported / "dicom" / "report.dcm")
    assert (after.PreliminaryFlag, after.SOPInstanceUID == before.SOPInstanceUID) == ("FINAL", False)


def test_the_same_results_are_the_same_instance(exported):
    before = (exported / "dicom" / "report.dcm").read_bytes()
    update_exports(exported)
    assert (exported / "dicom" / "report.dcm").read_bytes() == before


def test_another_slide_is_refused_before_it_is_read(dicom_job, job, tmp_path):
    model = ColourModel()
    with pytest.raises(InputError, match=r"slide\.tif: is no DICOM slide.* leave dicom out of --also, or convert it"):
        read_slide_job(replace(job, also=("dicom",)), serially(model))
    damaged = tmp_path / "series" / "level-2.dcm"
    header = dcmread(damaged)
    del header.ContainerIdentifier
    header.save_as(damaged)
    with pytest.raises(InputError, match=r"level-1\.dcm: its header lacks ContainerIdentifier"):
        read_slide_job(dicom_job, serially(model))
    assert model.crops == 0


def test_a_slide_without_cells_has_a_report_only(dicom_job, tmp_path):
    shutil.rmtree(tmp_path / "series")
    write_series(tmp_path / "series", np.full((300, 300, 3), 236, np.uint8), 0.2)
    read_slide_job(dicom_job, serially(ColourModel()))
    assert sorted(path.name for path in (dicom_job.folder / "dicom").iterdir()) == ["report.dcm", "source.json"]
    assert measured(dicom_job.folder)["white cells"]["counted"] == 0
