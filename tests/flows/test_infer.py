"""Slides to reports with the registered champion."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.infer import Batch, infer
from sgcldff.core.errors import IncompleteBatchError, InputError, LabelError, SlideError
from tasks.compute import Compute

HERE = Compute(workers=0)
CHAMPION = "models:/sgcldff@champion"


@pytest.fixture(scope="module")
def result(lab, slide, tmp_path_factory):
    """Read the small slide in this process."""
    out = tmp_path_factory.mktemp("results")
    (folder,) = infer([str(slide.slide)], str(out), lab.workspace, CHAMPION, compute=HERE, settings=lab.settings)
    return Path(folder)


@pytest.fixture
def read(lab):
    """Give the function that reads slides with the champion, in this process."""

    def read(slides, out, **batch):
        given = [str(slide) for slide in slides]
        return infer(given, str(out), lab.workspace, CHAMPION, Batch(**batch), HERE, lab.settings)

    return read


def bad_slide(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"II*\0 no slide at all")
    return path


def test_a_slide_gives_cells_outlines_labels_differential_and_report(result, lab):
    names = {path.name for path in result.iterdir()}
    assert {"cells.parquet", "cells.geojson", "differential.json", "report.html", "labels.ome.zarr"} <= names
    cells = pq.read_table(result / "cells.parquet").to_pylist()
    told = json.loads((result / "differential.json").read_text())
    outlines = json.loads((result / "cells.geojson").read_text())
    assert len(outlines["features"]) == len(cells)
    assert {share["label"] for share in told["shares"]} == {
        "neutrophil",
        "lymphocyte",
        "monocyte",
        "eosinophil",
        "basophil",
    }
    assert sum(share["count"] for share in told["shares"]) == sum(cell["counted"] for cell in cells)
    champion = lab.first.challenger.model
    for cell in cells:
        assert (cell["model_version"], cell["model_digest"]) == (champion.version, champion.digest)
        assert 0 <= cell["x"] < 1500
        assert 0 <= cell["y"] < 1500


def test_again_nothing_is_written_and_the_cells_are_the_same(result, read, slide):
    before = {path: path.stat().st_mtime_ns for path in result.rglob("*") if path.is_file()}
    read([slide.slide], result.parent)
    assert {path: path.stat().st_mtime_ns for path in result.rglob("*") if path.is_file()} == before


def test_a_bad_slide_is_set_aside_and_the_rest_goes_on(read, slide, tmp_path):
    bad, out = bad_slide(tmp_path / "bad.svs"), tmp_path / "out"
    with pytest.raises(IncompleteBatchError, match=r"1 of 2 slides was skipped, the other is done.*bad\.svs") as caught:
        read([bad, slide.slide], out)
    assert str(caught.value).count("bad.svs") < 4
    assert (out / "small" / "report.html").is_file()
    assert not (out / "bad" / "report.html").exists()
    table = {row["slide_id"]: row for row in pq.read_table(out / "batch.parquet").to_pylist()}
    assert (table["bad"]["status"], table["small"]["status"]) == ("skipped", "read")
    assert "bad.svs" in table["bad"]["reason"]
    assert "bad.svs" in (out / "batch.html").read_text()


def test_only_what_failed_is_tried_again(read, slide, tmp_path):
    bad, out = bad_slide(tmp_path / "slides" / "bad.tiff"), tmp_path / "out"
    shutil.copy(slide.slide, tmp_path / "slides" / "good.tiff")
    with pytest.raises(IncompleteBatchError):
        read([tmp_path / "slides"], out)
    shutil.copy(slide.slide, bad)
    assert read([tmp_path / "slides"], out, retry_failed=True) == [str(out / "bad")]
    good, mended = (
        pq.read_table(out / name / "cells.parquet").drop(["cell_id", "slide_id"]) for name in ("good", "bad")
    )
    assert mended.equals(good)
    with pytest.raises(InputError, match="no slide of this batch was skipped"):
        read([tmp_path / "slides"], out, retry_failed=True)


def test_a_slide_alone_fails_with_its_own_error(read, tmp_path):
    with pytest.raises(SlideError, match=r"bad\.svs"):
        read([bad_slide(tmp_path / "bad.svs")], tmp_path / "out")


def test_slides_of_one_name_have_folders_of_their_own(read, slide, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        shutil.copy(slide.slide, tmp_path / name / "small.tiff")
    folders = [Path(folder) for folder in read([tmp_path / "*" / "small.tiff"], tmp_path / "out")]
    named = {json.loads((folder / "differential.json").read_text())["slide_id"] for folder in folders}
    assert named == {folder.name for folder in folders}
    assert len(named) == 2


def test_no_slides_is_no_batch(read, tmp_path):
    with pytest.raises(InputError, match="no slide"):
        read([], tmp_path)


def test_a_manual_count_is_compared_with(result, read, slide):
    table = result.parent / "manual.csv"
    table.write_text("slide_id,label,count\nsmall,neutrophil,60\nsmall,lymphocyte,40\n")
    read([slide.slide], result.parent, manual=str(table))
    told = {line["label"]: line for line in json.loads((result / "manual.json").read_text())["types"]}
    assert told["neutrophil"]["manual"]["share"] == pytest.approx(0.6)
    assert "manual" in (result / "report.html").read_text()


def test_a_manual_count_of_no_slide_is_named_once_all_else_is_done(result, read, slide):
    table = result.parent / "strangers.csv"
    table.write_text("slide_id,label,count\nsmall,neutrophil,60\nsmal,lymphocyte,40\n")
    with pytest.raises(IncompleteBatchError, match=r"counts of smal were compared with nothing.*the slides are small"):
        read([slide.slide], result.parent, manual=str(table))
    assert "neutrophil" in (result / "manual.json").read_text()


def test_a_sample_is_read_until_it_is_enough(result, read, slide, tmp_path):
    """A small slide never is: all of it is read, and gives the same counts; looking early widens the intervals."""
    (folder,) = read([slide.slide], tmp_path, until="neutrophil:0.3")
    ours, whole = (json.loads((Path(place) / "differential.json").read_text()) for place in (folder, result))
    for share, other in zip(ours["shares"], whole["shares"], strict=True):
        assert [share[name] for name in ("label", "count", "share")] == [
            other[name] for name in ("label", "count", "share")
        ]
        assert share["low"] <= other["low"]
        assert share["high"] >= other["high"]
    with pytest.raises(LabelError, match="no-such"):
        read([slide.slide], tmp_path, until="no-such:0.1")


def test_another_slide_of_the_same_name_is_refused_before_anything_is_read(result, slide, read, tmp_path):
    other = tmp_path / slide.slide.name
    other.write_bytes(slide.slide.read_bytes() + b"\0")
    before = (result / "cells.parquet").read_bytes()
    with pytest.raises(InputError, match="give another folder for the results"):
        read([other], result.parent)
    assert (result / "cells.parquet").read_bytes() == before
