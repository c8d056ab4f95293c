"""Absolute counts and reference intervals, from the tables of a laboratory to what it reads."""

import json

import pyarrow.parquet as pq
import pytest

REFERENCE = """
[[interval]]
type = "neutrophil"
unit = "%"
low = 98
high = 99

[[interval]]
type = "wbc"
unit = "10^9/L"
low = 4
high = 11
sex = "male"
"""


@pytest.fixture
def infer(run, tmp_path):
    """Give the function that reads slides with the released model; without workers, into one folder."""
    (tmp_path / "lab.toml").write_text(REFERENCE)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[infer]\nengine = "torch"\n[report]\nreference = "{tmp_path}/lab.toml"\n')
    fixed = ("-o", tmp_path / "out", "--model", "released", "--workers", 0, "-w", tmp_path / "ws")

    def infer(*words: object) -> object:
        return run("infer", *words, "--settings", settings, *fixed)

    return infer


def test_a_table_of_slides_gives_absolute_counts_and_marks(infer, slide, tmp_path):
    table = tmp_path / "slides.csv"
    table.write_text(f"slide,id,wbc,sex\n{slide.slide},case,12.5,male\n")
    assert infer(table).code == 0
    folder = tmp_path / "out" / "case"
    told = json.loads((folder / "differential.json").read_text())
    assert told["white_count"]["given"] == 12.5
    total = sum(one["value"] for one in told["absolute"] if one["label"] in {each["label"] for each in told["shares"]})
    corrected = told["white_count"]["corrected"]
    assert total == pytest.approx(corrected["value"] if corrected else 12.5)
    marks = {mark["label"]: mark for mark in told["reference"]}
    assert marks["white cells"]["reads"] in ("above", "cannot tell")
    assert told["specimen"]["reference"] == "lab.toml"
    assert not any("male" in path.read_text() for path in (folder / "differential.json", folder / "report.html"))
    texts = [path for path in folder.iterdir() if path.suffix in (".json", ".geojson") and path.name != "origin.json"]
    tables = [pq.read_schema(path) for path in (folder / "cells.parquet", tmp_path / "out" / "batch.parquet")]
    assert len(texts) == 3
    assert all("research use only, not for diagnosis" in path.read_text() for path in texts)
    assert all(b"research use only" in table.metadata[b"sgcldff.purpose"] for table in tables)
    report = (folder / "report.html").read_text()
    assert "Absolute counts" in report
    assert "From lab.toml" in report
    (row,) = pq.read_table(tmp_path / "out" / "batch.parquet").to_pylist()
    assert row["wbc"] == 12.5
    first = told["absolute"][0]
    assert row[f"absolute_{first['label']}"] == pytest.approx(first["value"])
    assert row["outside_reference"] == [text for text in row["look"] if "the reference" in text], (
        "the page gives the same reasons"
    )
    table.write_text(f"slide,id,wbc,sex\n{slide.slide},case,13,male\n")
    assert infer(table).code == 0
    assert json.loads((folder / "differential.json").read_text())["white_count"]["given"] == 13


def test_one_white_count_is_of_one_slide(infer, slide, tmp_path):
    other = tmp_path / "other.tiff"
    other.write_bytes(slide.slide.read_bytes())
    ran = infer(slide.slide, other, "--wbc", 6)
    assert ran.code == 2
    assert "white count 6.0: given for 2 slides; name each slide's in a table with a column wbc" in ran.line
    assert infer(slide.slide, "--wbc", 6).code == 0
    folder = tmp_path / "out" / "small"
    assert json.loads((folder / "differential.json").read_text())["white_count"]["given"] == 6
    assert infer(slide.slide, "--wbc", 6, "--nrbc-excluded").code == 0
    white = json.loads((folder / "differential.json").read_text())["white_count"]
    assert (white["nrbc_excluded"], white["corrected"]["value"]) == (True, 6)
    assert "leaves nucleated red cells out, so it is not corrected" in (folder / "report.html").read_text()
