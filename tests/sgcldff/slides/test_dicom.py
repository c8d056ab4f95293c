"""DICOM slides: series of files, their levels, and what else lies in a folder."""

import numpy as np
import pytest
from pydicom import dcmread

from sgcldff.core.geometry import Box
from sgcldff.slides import find_slides, open_slide
from sgcldff.slides.content import content_sha256
from tests.sgcldff.dicom import write_level, write_series

PICTURE = np.kron(np.random.default_rng(3).integers(40, 220, (30, 33, 3)), np.ones((10, 10, 1))).astype(np.uint8)


@pytest.fixture
def series(tmp_path):
    return write_series(tmp_path / "slide", PICTURE, 0.2)


def test_any_file_of_a_series_is_the_whole_slide(series):
    seen = set()
    for file in sorted(series.iterdir()):
        slide = open_slide(file)
        assert (slide.ref.mpp, slide.shapes) == (pytest.approx(0.2), ((300, 330), (150, 165)))
        difference = slide.read(Box.of(slide.shapes[0]), 0).astype(int) - PICTURE
        assert np.abs(difference).mean() < 4
        seen.add(slide.ref.sha256)
        slide.close()
    assert len(seen) == 1


def test_each_series_of_a_folder_is_a_slide_under_the_name_of_its_first_file(series):
    write_series(series, PICTURE[::-1], 0.2, series=2, stem="other")
    found = find_slides([str(series)])
    assert [slide.id for slide in found] == ["level-0", "other-0"]
    pixels = [open_slide(slide.uri).read(Box(0, 0, 64, 64), 0) for slide in found]
    assert not np.array_equal(*pixels)


def test_other_objects_in_the_folder_are_no_slides(series):
    report = dcmread(series / "level-1.dcm", stop_before_pixels=True)
    report.SOPClassUID, report.SeriesInstanceUID = "1.2.840.10008.5.1.4.1.1.88.33", "1.2.3"
    report.save_as(series / "a-report.dcm")
    (series / "z-damaged.dcm").write_bytes(b"no DICOM")
    assert [slide.id for slide in find_slides([str(series)])] == ["level-0", "z-damaged"]


def test_a_changed_level_changes_the_slide(series):
    before = content_sha256(series / "level-0.dcm")
    write_level(series / "level-2.dcm", PICTURE[:, ::-1], 0.2, 2)
    assert content_sha256(series / "level-0.dcm") != before
