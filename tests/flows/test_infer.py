"""Slides to reports with the registered champion."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.infer import infer
from sgcldff.errors import IncompleteBatchError, InputError, SlideError
from tasks.compute import Compute

HERE = Compute(workers=0)
CHAMPION = "models:/sgcldff@champion"


@pytest.fixture(scope="module")
def result(lab, slide, tmp_path_factory):
    """Read the small slide in this process."""
    out = tmp_path_factory.mktemp("results")
    (folder,) = infer([str(slide.slide)], CHAMPION, str(out), lab.workspace, compute=HERE, settings=lab.settings)
    return Path(folder)


def test_a_slide_gives_cells_outlines_labels_differential_and_report(result, lab):
    names = {path.name for path in result.iterdir()}
    assert {"cells.parquet", "cells.geojson", "differential.json", "report.html"} <= names
    cells = pq.read_table(result / "cells.parquet").to_pylist()
    told = json.loads((result / "differential.json").read_text())
    outlines = json.loads((result / "cells.geojson").read_text())
    assert len(outlines["features"]) == len(cells)
    assert json.dumps(told).count("neutrophil") >= 1
    champion = lab.first.challenger.model
    for cell in cells:
        assert (cell["model_version"], cell["model_digest"]) == (champion.version, champion.digest)
        assert 0 <= cell["x"] < 1500
        assert 0 <= cell["y"] < 1500


def test_again_nothing_is_computed_and_the_cells_are_the_same(result, lab, slide):
    table = pq.read_table(result / "cells.parquet")
    infer([str(slide.slide)], CHAMPION, str(result.parent), lab.workspace, compute=HERE, settings=lab.settings)
    assert pq.read_table(result / "cells.parquet").equals(table)


def test_a_bad_slide_is_set_aside_and_the_rest_goes_on(lab, slide, tmp_path):
    bad = tmp_path / "bad.svs"
    bad.write_bytes(b"II*\0 no slide at all")
    out = tmp_path / "out"
    with pytest.raises(IncompleteBatchError, match=r"1 of 2 slides were set aside.*bad\.svs") as caught:
        infer([str(bad), str(slide.slide)], CHAMPION, str(out), lab.workspace, compute=HERE, settings=lab.settings)
    assert str(caught.value).count("bad.svs") < 4
    assert (out / "small" / "report.html").is_file()
    assert not (out / "bad" / "report.html").exists()


def test_a_slide_alone_fails_with_its_own_error(lab, tmp_path):
    bad = tmp_path / "bad.svs"
    bad.write_bytes(b"no slide at all")
    with pytest.raises(SlideError, match=r"bad\.svs"):
        infer([str(bad)], CHAMPION, str(tmp_path / "out"), lab.workspace, compute=HERE)


def test_slides_of_one_name_would_overwrite_each_other(lab, slide, tmp_path):
    with pytest.raises(InputError, match="several slides are called small"):
        infer([str(slide.slide)] * 2, CHAMPION, str(tmp_path), lab.workspace, compute=HERE)


def test_no_slides_is_no_batch(lab, tmp_path):
    with pytest.raises(InputError, match="no slide"):
        infer([], CHAMPION, str(tmp_path), lab.workspace, compute=HERE)
