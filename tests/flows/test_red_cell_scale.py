"""The scale of slides by their red cells, as a person meets it on the command line."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

import sgcldff
from sgcldff.core.errors import SlideError
from sgcldff.core.records import ScaleSource
from sgcldff.results.batch import SlideSummary, Urgency, triage
from sgcldff.results.review.apply import recounted


@pytest.fixture
def bare(tmp_path, slide):
    """A slide at 0.1 um/px that does not say so."""
    path = tmp_path / "bare.tiff"
    tifffile.imwrite(path, tifffile.imread(slide.slide), photometric="rgb", tile=(256, 256))
    return path


@pytest.fixture
def given(tmp_path, lab):
    return "-o", tmp_path / "out", "-w", lab.workspace, "--workers", "0"


def scale(folder):
    return json.loads((folder / "differential.json").read_text())["scale"]


def test_a_slide_without_a_scale_is_refused_with_a_suggestion_that_can_be_followed(run, bare, given, tmp_path):
    ran = run("infer", bare, *given)
    assert ran.code == 2
    suggestion = ran.line.partition("red cells suggest ")[2]
    stated = suggestion.partition("pass --mpp ")[2].split()[0]
    assert float(stated) == pytest.approx(0.1, rel=0.1)
    assert suggestion.startswith(f"{stated} um/px (")
    assert "or --mpp auto" in suggestion
    assert run("infer", bare, *given, "--mpp", stated).code == 0
    assert scale(tmp_path / "out" / "bare")["source"] == "the user"


def test_auto_measures_the_scale_and_says_so(run, bare, slide, given, tmp_path):
    table = tmp_path / "slides.csv"
    table.write_text(f"slide,mpp\n{bare},auto\n{slide.slide},auto\n")
    assert run("infer", table, *given).code == 0
    measured, stated = (scale(tmp_path / "out" / name) for name in ("bare", "small"))
    assert measured["source"] == "its red cells"
    assert measured["mpp"] == pytest.approx(0.1, rel=0.1)
    assert measured["red_cells"]["low"] < 0.1 < measured["red_cells"]["high"]
    assert (stated["source"], stated["mpp"]) == ("the file", pytest.approx(0.1))
    assert "measured by the width of red cells" in (tmp_path / "out" / "bare" / "report.html").read_text()
    assert "probably wrong" not in (tmp_path / "out" / "batch.html").read_text()


def test_auto_refuses_what_shows_too_few_red_cells(run, given, tmp_path):
    blank = tmp_path / "blank.tiff"
    tifffile.imwrite(blank, np.full((600, 600, 3), 240, np.uint8), photometric="rgb")
    ran = run("infer", blank, *given, "--mpp", "auto")
    assert ran.code == 2
    assert "blank.tiff" in ran.line
    assert "fewer than 20 single red cells" in ran.line
    assert "--mpp" in ran.line


def test_another_word_than_auto_is_refused(run, bare, given):
    ran = run("infer", bare, *given, "--mpp", "automatic")
    assert ran.code == 2
    assert "automatic" in ran.err


def test_a_scale_that_red_cells_contradict_is_flagged_first(run, bare, given, tmp_path):
    assert run("infer", bare, *given, "--mpp", "0.25").code == 0
    folder = tmp_path / "out" / "bare"
    summary = SlideSummary.read(folder)
    doubt = summary.found.flags[0]
    assert doubt.startswith("the scale is probably wrong: 0.25 um/px according to the user, but red cells suggest 0.1")
    for page in (folder / "report.html", tmp_path / "out" / "batch.html"):
        assert doubt in page.read_text()
    (triaged,) = triage([summary])
    assert (triaged.urgency, triaged.reasons[0].text) == (Urgency.FIRST, doubt)
    assert recounted(summary.found, summary.found.counts).flags == summary.found.flags


def test_the_library_takes_auto(bare):
    with pytest.raises(SlideError, match="red cells suggest"):
        sgcldff.read_slide(bare)
    read_at = sgcldff.read_slide(bare, mpp="auto").differential.scale
    assert read_at.source is ScaleSource.RED_CELLS
    assert read_at.mpp == pytest.approx(0.1, rel=0.1)


def test_photographs_of_one_folder_are_checked_together(run, slide, given, tmp_path):
    image, photos = tifffile.imread(slide.slide), tmp_path / "photos"
    photos.mkdir()
    for at in range(4):
        Image.fromarray(image[300 * at :, 300 * at :][:450, :450]).save(photos / f"{at}.png")
    assert run("infer", photos, *given, "--mpp", "0.25").code == 0
    found = [SlideSummary.read(tmp_path / "out" / str(at)).found for at in range(4)]
    (red_cells,) = {one.scale.red_cells for one in found}
    assert red_cells.slides == 4
    assert red_cells.mpp == pytest.approx(0.1, rel=0.1)
    assert all(one.flags[0].startswith("the scale is probably wrong") for one in found)
